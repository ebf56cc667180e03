/*
 * subscriptions.c
 *	  The view seq_subscriptions.
 */
#include "compat.h"

#include "access/htup_details.h"
#include "funcapi.h"
#include "shared/database.h"
#include "shared/subscription.h"
#include "utils/builtins.h"

CALVIN_FUNCTION(seq_subscriptions_info);

/*
 * Epochs from the last one of which something was received to the last one
 * meant for it, or that it has to read from the log; at least 1 if anything
 * is outstanding.
 */
static int64
lag_of(const SubscriptionView *row, const PublishedState *state)
{
	int64		applied = (int64) state->machine.last_applied_epoch;
	int64		next = (int64) row->next.epoch;
	int64		last = -1;

	if (row->routed_epoch != MACHINE_NO_EPOCH &&
		!key_before(row->routed_epoch, row->routed_position, row->next))
		last = (int64) row->routed_epoch;
	if (row->lossless)
		last = Max(last, Min((int64) row->log_until_epoch - 1, applied));
	if (last < next)
		return 0;
	return Max(last - (row->next.position > 0 ? next : next - 1), 1);
}

static const char *
state_name(const SubscriptionView *row, const PublishedState *state)
{
	if (row->stalled)
		return "stalled";
	if (!row->attached ||
		state->machine.last_applied_index < row->start_index ||
		(row->lossless && row->next.epoch < row->log_until_epoch &&
		 (int64) row->next.epoch <= (int64) state->machine.last_applied_epoch))
		return "catching up";
	return "live";
}

/*
 * (vshard int, name text, pid int, lossless boolean, state text,
 *  queue_size bigint, queue_used bigint, sent bigint, dropped bigint,
 *  replayed bigint, last_epoch bigint, last_position bigint, lag bigint,
 *  subscribed_at timestamptz)
 */
#define SUBSCRIPTION_COLUMNS 14

Datum
seq_subscriptions_info(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	DatabaseSlot *database;
	SubscriptionView *rows;
	PublishedState state;
	int			n;

	shmem_require();
	InitMaterializedSRF(fcinfo, 0);
	database = database_mine();
	if (database == NULL)
		return (Datum) 0;

	database_read(database, &state);
	rows = palloc(sizeof(SubscriptionView) * Calvin->max_subscriptions);
	n = subscription_views(MyDatabaseId, rows);
	for (int i = 0; i < n; i++)
	{
		const SubscriptionView *row = &rows[i];
		Datum		values[SUBSCRIPTION_COLUMNS];
		bool		nulls[SUBSCRIPTION_COLUMNS] = {false};

		values[0] = Int32GetDatum(row->vshard);
		values[1] = CStringGetTextDatum(NameStr(row->name));
		values[2] = Int32GetDatum((int32) row->pid);
		values[3] = BoolGetDatum(row->lossless);
		values[4] = CStringGetTextDatum(state_name(row, &state));
		values[5] = Int64GetDatum((int64) row->ring_size);
		values[6] = Int64GetDatum((int64) row->used);
		values[7] = Int64GetDatum((int64) row->sent);
		values[8] = Int64GetDatum((int64) row->dropped);
		values[9] = Int64GetDatum((int64) row->replayed);
		values[10] = Int64GetDatum((int64) row->delivered_epoch);
		values[11] = Int64GetDatum((int64) row->delivered_position);
		nulls[10] = nulls[11] = row->delivered_epoch == MACHINE_NO_EPOCH;
		values[12] = Int64GetDatum(lag_of(row, &state));
		values[13] = TimestampTzGetDatum(row->subscribed_at);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	pfree(rows);
	return (Datum) 0;
}
