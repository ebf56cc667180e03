/*
 * completion.c
 *	  seq_completion, seq_ack, seq_wait_for_completion.
 */
#include "compat.h"

#include "access/xlog.h"
#include "catalog/pg_type_d.h"
#include "log/append.h"
#include "log/attach.h"
#include "log/completion.h"
#include "log/following.h"
#include "log/memory.h"
#include "pgstat.h"
#include "shared/clock.h"
#include "shared/database.h"
#include "sql/args.h"
#include "sql/result.h"
#include "utils/array.h"

CALVIN_FUNCTION(seq_completion);
CALVIN_FUNCTION(seq_ack);
CALVIN_FUNCTION(seq_wait_for_completion);

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

/* seq_ack(epoch, position, vshard) -> log_index */
Datum
seq_ack(PG_FUNCTION_ARGS)
{
	uint64		epoch = arg_epoch(PG_GETARG_INT64(0));
	uint32		position = arg_position(PG_GETARG_INT64(1));
	uint16		vshard = arg_vshard(PG_GETARG_INT32(2));
	WireEntry	what = {.kind = WIRE_COMPLETION_ACK, .epoch = epoch,
	.position = position, .vshard_id = vshard};
	WireBuffer	entry;

	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("cannot execute seq_ack() during recovery"),
				 errhint("Acknowledge on the primary.")));
	PreventCommandIfReadOnly("seq_ack()");
	following_refuse("seq_ack()");
	if (epoch > WIRE_MAX_EPOCH)
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("epoch " UINT64_FORMAT " is out of range", epoch)));
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
										   PG_WAIT_EXTENSION);
	}
	ConditionVariableCancelSleep();
	PG_RETURN_BOOL(completion->complete);
}
