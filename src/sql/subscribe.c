/*
 * subscribe.c
 *	  seq_subscribe, seq_unsubscribe and the view seq_subscriptions.
 */
#include "compat.h"

#include "access/htup_details.h"
#include "funcapi.h"
#include "log/attach.h"
#include "consumer/start.h"
#include "shared/database.h"
#include "shared/subscription.h"
#include "shared/whole.h"
#include "sql/args.h"
#include "utils/builtins.h"

CALVIN_FUNCTION(seq_subscribe);
CALVIN_FUNCTION(seq_unsubscribe);
CALVIN_FUNCTION(seq_subscriptions_info);

/* The ring size argument in bytes; NULL takes the setting's. */
static Size
arg_ring_size(FunctionCallInfo fcinfo, int number)
{
	if (PG_ARGISNULL(number))
		return queue_default_ring();
	return queue_check_ring(PG_GETARG_INT32(number));
}

static void
refuse_null(FunctionCallInfo fcinfo, int number, const char *name)
{
	if (PG_ARGISNULL(number))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null", name)));
}

/*
 * seq_subscribe(vshards, name, from_epoch, from_position, queue_size,
 * lossless)
 */
Datum
seq_subscribe(PG_FUNCTION_ARGS)
{
	DatabaseSlot *database;
	char	   *name;
	uint16	   *vshards;
	int			n;
	Size		ring_size;
	bool		lossless;
	StreamKey	from = {0, 0};

	refuse_null(fcinfo, 0, "vshards");
	refuse_null(fcinfo, 1, "name");
	refuse_null(fcinfo, 3, "from_position");
	refuse_null(fcinfo, 5, "lossless");
	vshards = arg_vshards(PG_GETARG_ARRAYTYPE_P(0), &n);
	name = arg_name(PG_GETARG_TEXT_PP(1));
	ring_size = arg_ring_size(fcinfo, 4);
	lossless = PG_GETARG_BOOL(5);
	if (!PG_ARGISNULL(2))
	{
		if (!lossless)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("from_epoch needs a lossless subscription"),
					 errdetail("The bare queue holds what is appended from now on."),
					 errhint("Use seq_replay for what is in the log already.")));
		if (PG_GETARG_INT32(3) < 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("from_position must not be negative")));
		from.epoch = arg_epoch(PG_GETARG_INT64(2));
		from.position = (uint32) PG_GETARG_INT32(3);
	}

	database = attach_database();
	start_streams(database, name, n, vshards, ring_size, lossless,
					 PG_ARGISNULL(2) ? NULL : &from);
	PG_RETURN_VOID();
}

/* seq_unsubscribe(vshards, name) -> how many subscriptions ended */
Datum
seq_unsubscribe(PG_FUNCTION_ARGS)
{
	Consumer   *consumer;
	uint16	   *vshards = NULL;
	int			n = 0;

	shmem_require();
	refuse_null(fcinfo, 1, "name");
	if (!PG_ARGISNULL(0))
		vshards = arg_vshards(PG_GETARG_ARRAYTYPE_P(0), &n);
	consumer = consumer_find(arg_name(PG_GETARG_TEXT_PP(1)));
	if (consumer == NULL)
		PG_RETURN_INT32(0);
	PG_RETURN_INT32(consumer_unsubscribe(consumer, n, vshards));
}

/* What is shown of a slot, copied under the lock. */
typedef struct SubscriptionRow
{
	uint16		vshard;
	NameData	name;
	pid_t		pid;
	bool		lossless;
	bool		attached;
	bool		stalled;
	Size		ring_size;
	uint64		start_index;
	TimestampTz subscribed_at;
	RoutedState routed;
	ConsumedState consumed;
} SubscriptionRow;

static void
copy_slot_locked(SubscriptionSlot *slot, SubscriptionRow *row)
{
	row->vshard = slot->vshard;
	row->name = slot->name;
	row->pid = slot->pid;
	row->lossless = slot->lossless;
	row->attached = slot->attached;
	row->ring_size = slot->ring_size;
	row->start_index = slot->start_index;
	row->subscribed_at = slot->subscribed_at;
	whole_read(&slot->routed_version, slot->routed, ROUTED_WORDS, &row->routed);
	whole_read(&slot->consumed_version, slot->consumed, CONSUMED_WORDS, &row->consumed);
}

/* The two are told by different processes, each in its time and of its queue. */
static uint64
used_of(const SubscriptionRow *row)
{
	if (row->routed.queue != row->consumed.queue ||
		row->routed.written <= row->consumed.read)
		return 0;
	return row->routed.written - row->consumed.read;
}

static StreamKey
next_of(const SubscriptionRow *row)
{
	StreamKey	next = {row->consumed.next_epoch, (uint32) row->consumed.next_position};

	return next;
}

/* Copies of this database's slots; returns how many. */
static int
copy_slots(SubscriptionRow *rows)
{
	int			n = 0;

	LWLockAcquire(Calvin->lock, LW_SHARED);
	for (int s = 0; s < Calvin->max_subscriptions; s++)
	{
		SubscriptionSlot *slot = &Calvin->subscriptions[s];

		if (slot->in_use && slot->database == MyDatabaseId)
			copy_slot_locked(slot, &rows[n++]);
	}
	LWLockRelease(Calvin->lock);
	return n;
}

/*
 * Epochs from the last one of which something was received to the last one
 * meant for it, or that it has to read from the log; at least 1 if anything
 * is outstanding.
 */
static int64
lag_of(const SubscriptionRow *row, const PublishedState *state)
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
state_name(const SubscriptionRow *row, const PublishedState *state)
{
	StreamKey	until = {row->consumed.log_until_epoch,
						 (uint32) row->consumed.log_until_position};

	if (row->routed.stalled)
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
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	DatabaseSlot *database;
	SubscriptionRow *rows;
	PublishedState state;
	int			n;

	shmem_require();
	InitMaterializedSRF(fcinfo, 0);
	database = database_mine();
	if (database == NULL)
		return (Datum) 0;

	database_read(database, &state);
	rows = palloc(sizeof(SubscriptionRow) * Calvin->max_subscriptions);
	n = copy_slots(rows);
	for (int i = 0; i < n; i++)
	{
		const SubscriptionRow *row = &rows[i];
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
