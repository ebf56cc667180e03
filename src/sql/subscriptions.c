/*
 * subscriptions.c
 *	  The view seq_subscriptions.
 */
#include "compat.h"

#include "access/htup_details.h"
#include "catalog/pg_type_d.h"
#include "shared/database.h"
#include "shared/subscription.h"
#include "sql/result.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"

CALVIN_FUNCTION(seq_subscriptions_info);

/* The two are told by different processes, each in its time and of its queue. */
static uint64
used_of(const SubscriptionView *row)
{
	if (row->routed.queue != row->consumed.queue ||
		row->routed.written <= row->consumed.read)
		return 0;
	return row->routed.written - row->consumed.read;
}

static StreamKey
next_of(const SubscriptionView *row)
{
	StreamKey	next = {row->consumed.next_epoch, (uint32) row->consumed.next_position};

	return next;
}

/*
 * Epochs from the last one of which something was received to the last one
 * meant for it, or that it has to read from the log; at least 1 if anything
 * is outstanding.
 */
static int64
lag_of(const SubscriptionView *row, const PublishedState *state)
{
	int64		applied = (int64) state->machine.last_applied_epoch;
	StreamKey	next = next_of(row);
	int64		last = -1;
	StreamKey	until = {row->consumed.log_until_epoch,
						 (uint32) row->consumed.log_until_position};

	if (row->routed.epoch != MACHINE_NO_EPOCH &&
		!key_before(row->routed.epoch, (uint32) row->routed.position, next))
		last = (int64) row->routed.epoch;
	if (row->lossless && key_less(next, until))
		last = Max(last, Min((int64) key_end_epoch(until) - 1, applied));
	if (last < (int64) next.epoch)
		return 0;
	return Max(last - (int64) (next.position > 0 ? next.epoch : next.epoch - 1), 1);
}

static const char *
state_name(const SubscriptionView *row, const PublishedState *state)
{
	StreamKey	until = {row->consumed.log_until_epoch,
						 (uint32) row->consumed.log_until_position};

	if (row->routed.stalled && row->routed.queue == row->queue)
		return "stalled";
	if (!row->attached ||
		state->machine.last_applied_index < row->start_index ||
		(row->lossless && key_less(next_of(row), until) &&
		 (int64) row->consumed.next_epoch <= (int64) state->machine.last_applied_epoch))
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
	static const Oid types[SUBSCRIPTION_COLUMNS] = {
		INT4OID, TEXTOID, INT4OID, BOOLOID, TEXTOID, INT8OID, INT8OID, INT8OID,
		INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, TIMESTAMPTZOID
	};
	ReturnSetInfo *rsinfo;
	DatabaseSlot *database;
	SubscriptionView *rows;
	PublishedState state;
	int			n;

	shmem_require();
	rsinfo = result_rows(fcinfo, SUBSCRIPTION_COLUMNS, types);
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
		values[6] = Int64GetDatum((int64) used_of(row));
		values[7] = Int64GetDatum((int64) row->routed.sent);
		values[8] = Int64GetDatum((int64) row->routed.dropped);
		values[9] = Int64GetDatum((int64) row->consumed.replayed);
		values[10] = Int64GetDatum((int64) row->consumed.delivered_epoch);
		values[11] = Int64GetDatum((int64) row->consumed.delivered_position);
		nulls[10] = nulls[11] = row->consumed.delivered_epoch == MACHINE_NO_EPOCH;
		values[12] = Int64GetDatum(lag_of(row, &state));
		values[13] = TimestampTzGetDatum(row->subscribed_at);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	pfree(rows);
	return (Datum) 0;
}
