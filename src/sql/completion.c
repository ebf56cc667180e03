/*
 * completion.c
 *	  seq_completion, seq_ack, seq_wait_for_completion.
 */
#include "compat.h"

#include "access/htup_details.h"
#include "access/xlog.h"
#include "catalog/pg_type_d.h"
#include "log/acks.h"
#include "log/append.h"
#include "log/attach.h"
#include "log/completion.h"
#include "log/following.h"
#include "log/memory.h"
#include "pgstat.h"
#include "shared/clock.h"
#include "shared/database.h"
#include "shared/waits.h"
#include "sql/args.h"
#include "sql/result.h"
#include "utils/array.h"

CALVIN_FUNCTION(seq_completion);
CALVIN_FUNCTION(seq_ack);
CALVIN_FUNCTION(seq_wait_for_completion);
CALVIN_FUNCTION(seq_feed_acks);

static uint32
arg_position(int64 position)
{
	if (position < 0 || position > (int64) PG_UINT32_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("position " INT64_FORMAT " is out of range", position),
				 errdetail("Positions are numbered from 0 within a batch.")));
	return (uint32) position;
}

static void
look_up(uint64 epoch, uint32 position, uint64 through, Completion *completion)
{
	completion_look_up(epoch, position, through, completion);
	if (completion->known && position >= completion->txn_count)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("there is no transaction at position %u of epoch " UINT64_FORMAT,
						position, epoch),
				 errdetail("The batch has %u transactions.",
						   completion->txn_count)));
}

static Datum
vshard_array(const uint16 *vshards, int n)
{
	Datum	   *elements = palloc(sizeof(Datum) * Max(n, 1));

	for (int i = 0; i < n; i++)
		elements[i] = Int32GetDatum(vshards[i]);
	return PointerGetDatum(construct_array(elements, n, INT4OID, sizeof(int32),
										   true, TYPALIGN_INT));
}

/* seq_completion(epoch, position) -> (expected, acked, complete) */
Datum
seq_completion(PG_FUNCTION_ARGS)
{
	static const Oid types[] = {INT4ARRAYOID, INT4ARRAYOID, BOOLOID};
	uint64		epoch = arg_epoch(PG_GETARG_INT64(0));
	uint32		position = arg_position(PG_GETARG_INT64(1));
	Completion *completion = palloc(sizeof(Completion));
	TupleDesc	desc;
	Datum		values[3];
	bool		nulls[3] = {false};

	desc = result_row(fcinfo, lengthof(types), types);
	look_up(epoch, position, PG_INT64_MAX, completion);
	values[0] = vshard_array(completion->expected, completion->nexpected);
	values[1] = vshard_array(completion->acked, completion->nacked);
	values[2] = BoolGetDatum(completion->complete);
	nulls[0] = nulls[1] = !completion->known;
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, nulls)));
}

/* seq_ack(epoch, position, vshard) -> log_index; null where it is not known yet */
Datum
seq_ack(PG_FUNCTION_ARGS)
{
	uint64		epoch = arg_epoch(PG_GETARG_INT64(0));
	uint32		position = arg_position(PG_GETARG_INT64(1));
	uint16		vshard = arg_vshard(PG_GETARG_INT32(2));
	WireEntry	what = {.kind = WIRE_COMPLETION_ACK, .epoch = epoch,
	.position = position, .vshard_id = vshard};
	WireBuffer	entry;
	Following	following;

	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("cannot execute seq_ack() during recovery"),
				 errhint("Acknowledge on the primary.")));
	PreventCommandIfReadOnly("seq_ack()");
	if (epoch > WIRE_MAX_EPOCH)
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("epoch " UINT64_FORMAT " is out of range", epoch)));
	if (following_follows(&following) && following.mode == FOLLOWING_PULL)
	{
		Ack			ack = {epoch, position, vshard};

		/* to be shipped; it has its log_index when it comes back */
		if (acks_store(&ack))
			PG_RETURN_NULL();
	}
	following_refuse("seq_ack()");
	memory_bytea_init(&entry);
	wire_put_ack(&entry, epoch, position, vshard);
	append_lock();
	PG_RETURN_INT64(append_insert(memory_bytea_finish(&entry), &what));
}

/* seq_wait_for_completion(epoch, position, timeout) -> complete in time? */
Datum
seq_wait_for_completion(PG_FUNCTION_ARGS)
{
	uint64		epoch = arg_epoch(PG_GETARG_INT64(0));
	uint32		position = arg_position(PG_GETARG_INT64(1));
	int64		deadline = arg_deadline(PG_GETARG_INTERVAL_P(2));
	DatabaseSlot *slot = attach_database();
	Completion *completion = palloc(sizeof(Completion));
	uint64		seen = PG_UINT64_MAX; /* log_index of the last look */

	completion->complete = false;
	ConditionVariablePrepareToSleep(&slot->progress);
	for (;;)
	{
		PublishedState state;
		long		left;

		/* the condition variable is broadcast for other reasons too */
		database_read(slot, &state);
		if (state.machine.last_applied_index != seen)
		{
			seen = state.machine.last_applied_index;
			look_up(epoch, position, seen, completion);
		}
		if (completion->complete || (left = deadline_left(deadline)) == 0 ||
			slot->database != MyDatabaseId)
			break;
		(void) ConditionVariableTimedSleep(&slot->progress, left,
										   wait_event(WAIT_COMPLETION));
	}
	ConditionVariableCancelSleep();
	PG_RETURN_BOOL(completion->complete);
}

/* The elements of an array that has one dimension, and none that is null. */
static int
elements_of(ArrayType *array, Oid type, int16 size, Datum **elements)
{
	int			n;

	if (ARR_NDIM(array) > 1 || array_contains_nulls(array))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("acknowledgements are given as arrays of one dimension, without nulls")));
	deconstruct_array(array, type, size, true, size == 8 ? TYPALIGN_DOUBLE : TYPALIGN_INT,
					  elements, NULL, &n);
	return n;
}

/*
 * seq_feed_acks(epochs, positions, vshards) -> log_index up to which they all are in the log
 */
Datum
seq_feed_acks(PG_FUNCTION_ARGS)
{
	Datum	   *epochs;
	Datum	   *positions;
	Datum	   *vshards;
	int			n = elements_of(PG_GETARG_ARRAYTYPE_P(0), INT8OID, 8, &epochs);
	Ack		   *acks = palloc(sizeof(Ack) * Max(n, 1));
	Following	following;

	if (elements_of(PG_GETARG_ARRAYTYPE_P(1), INT8OID, 8, &positions) != n ||
		elements_of(PG_GETARG_ARRAYTYPE_P(2), INT4OID, 4, &vshards) != n)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the arrays differ in length")));
	for (int i = 0; i < n; i++)
	{
		acks[i].epoch = arg_epoch(DatumGetInt64(epochs[i]));
		acks[i].position = arg_position(DatumGetInt64(positions[i]));
		acks[i].vshard = arg_vshard(DatumGetInt32(vshards[i]));
		if (acks[i].epoch > WIRE_MAX_EPOCH)
			ereport(ERROR,
					(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
					 errmsg("epoch " UINT64_FORMAT " is out of range", acks[i].epoch)));
	}
	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("cannot execute seq_feed_acks() during recovery"),
				 errhint("They are taken when the server is promoted.")));
	PreventCommandIfReadOnly("seq_feed_acks()");
	if (following_follows(&following) && following.mode == FOLLOWING_PULL)
	{
		bool		stored = true;

		/* on to the one that is followed here */
		for (int i = 0; i < n && stored; i++)
			stored = completion_has_ack(acks[i].epoch, acks[i].position, acks[i].vshard) ||
				acks_store(&acks[i]);
		if (stored)
			PG_RETURN_INT64(append_committed_end());
	}
	following_refuse("seq_feed_acks()");
	append_lock();
	acks_append(acks, n);
	append_lock();
	PG_RETURN_INT64(append_current_end());
}
