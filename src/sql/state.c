/*
 * state.c
 *	  What the state machine knows: epochs, seq_state, waiting for an epoch or a log_index.
 */
#include "compat.h"

#include "access/htup_details.h"
#include "access/xlog.h"
#include "catalog/pg_type_d.h"
#include "log/append.h"
#include "log/attach.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "shared/clock.h"
#include "shared/database.h"
#include "shared/waits.h"
#include "sql/args.h"
#include "sql/result.h"
#include "sql/state.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

CALVIN_FUNCTION(seq_last_applied_epoch);
CALVIN_FUNCTION(seq_next_epoch);
CALVIN_FUNCTION(seq_current_committed_epoch);
CALVIN_FUNCTION(seq_wait_for_epoch);
CALVIN_FUNCTION(seq_wait_for_index);
CALVIN_FUNCTION(seq_state_info);

/* The last applied epoch, NULL if there is none. */
Datum
seq_last_applied_epoch(PG_FUNCTION_ARGS)
{
	PublishedState state;

	database_read(attach_database(), &state);
	if (state.machine.last_applied_epoch == MACHINE_NO_EPOCH)
		PG_RETURN_NULL();
	PG_RETURN_INT64((int64) state.machine.last_applied_epoch);
}

/* The epoch that the state machine expects next. */
Datum
seq_next_epoch(PG_FUNCTION_ARGS)
{
	PublishedState state;

	database_read(attach_database(), &state);
	PG_RETURN_INT64((int64) machine_next_epoch(&state.machine));
}

/* The highest epoch committed to the log, applied or not; NULL if none. */
Datum
seq_current_committed_epoch(PG_FUNCTION_ARGS)
{
	int64		epoch = append_committed_epoch();

	if (epoch < 0)
		PG_RETURN_NULL();
	PG_RETURN_INT64(epoch);
}

/* What is waited for. */
typedef bool (*Reached) (const MachineState *state, uint64 goal);

/* Wait until the published state has reached the goal; false if time runs out. */
static bool
wait_until_reached(Reached has_reached, uint64 goal, int64 deadline)
{
	DatabaseSlot *slot = attach_database();
	bool		reached = false;

	ConditionVariablePrepareToSleep(&slot->progress);
	for (;;)
	{
		PublishedState state;
		long		left;

		database_read(slot, &state);
		reached = has_reached(&state.machine, goal);
		if (reached || (left = deadline_left(deadline)) == 0)
			break;
		/* the extension may be dropped while we wait */
		if (slot->database != MyDatabaseId)
			break;
		(void) ConditionVariableTimedSleep(&slot->progress, left,
										   wait_event(WAIT_APPLIED));
	}
	ConditionVariableCancelSleep();
	return reached;
}

static bool
has_reached_epoch(const MachineState *state, uint64 epoch)
{
	return state->last_applied_epoch != MACHINE_NO_EPOCH &&
		state->last_applied_epoch >= epoch;
}

static bool
has_reached_index(const MachineState *state, uint64 log_index)
{
	return state->last_applied_index >= log_index;
}

bool
state_wait_for_epoch(uint64 epoch, int64 deadline)
{
	return wait_until_reached(has_reached_epoch, epoch, deadline);
}

/* seq_wait_for_epoch(epoch, timeout) -> was it applied in time? */
Datum
seq_wait_for_epoch(PG_FUNCTION_ARGS)
{
	uint64		epoch = arg_epoch(PG_GETARG_INT64(0));
	int64		deadline = arg_deadline(PG_GETARG_INTERVAL_P(1));

	PG_RETURN_BOOL(state_wait_for_epoch(epoch, deadline));
}

bool
state_wait_for_index(uint64 log_index, int64 deadline)
{
	return wait_until_reached(has_reached_index, log_index, deadline);
}

/* seq_wait_for_index(log_index, timeout) -> was it applied in time? */
Datum
seq_wait_for_index(PG_FUNCTION_ARGS)
{
	uint64		log_index = arg_log_index(PG_GETARG_INT64(0));
	int64		deadline = arg_deadline(PG_GETARG_INTERVAL_P(1));

	PG_RETURN_BOOL(state_wait_for_index(log_index, deadline));
}

static const char *
applier_state_name(const DatabaseView *view)
{
	switch (view->workers[WORKER_APPLIER].status)
	{
		case WORKER_NONE:
		case WORKER_WANTED:
			return view->held ? "held off" : "waiting to start";
		case WORKER_STARTING:
			return "starting";
		case WORKER_RUNNING:
			break;
	}
	switch (view->activity)
	{
		case ACTIVITY_IDLE:
			return "idle";
		case ACTIVITY_STARTING:
			return "starting";
		case ACTIVITY_CATCHING_UP:
			return "catching up";
		case ACTIVITY_APPLYING:
			return "applying";
		case ACTIVITY_WAITING_SYNC:
			return "waiting for durability";
		case ACTIVITY_WAITING_BASE:
			return "waiting for the base snapshot";
		case ACTIVITY_RETRYING:
			return "retrying after an error";
	}
	return "unknown";
}

/*
 * (role text, applier_pid int, applier_state text, last_applied_epoch bigint,
 *  last_applied_index bigint, log_end bigint, lag bigint, digest text,
 *  started_at timestamptz, last_error text, last_error_at timestamptz)
 */
#define STATE_COLUMNS 11

Datum
seq_state_info(PG_FUNCTION_ARGS)
{
	static const Oid types[STATE_COLUMNS] = {
		TEXTOID, INT4OID, TEXTOID, INT8OID, INT8OID, INT8OID, INT8OID, TEXTOID,
		TIMESTAMPTZOID, TEXTOID, TIMESTAMPTZOID
	};
	DatabaseSlot *slot = attach_database();
	DatabaseView view;
	WorkerView *applier = &view.workers[WORKER_APPLIER];
	PublishedState state;
	int64		log_end;
	int64		applied;
	TupleDesc	desc;
	Datum		values[STATE_COLUMNS];
	bool		nulls[STATE_COLUMNS] = {false};

	desc = result_row(fcinfo, STATE_COLUMNS, types);
	/* the state first: the log's end is then never behind it */
	database_read(slot, &state);
	log_end = append_committed_end();
	applied = (int64) state.machine.last_applied_index;
	database_view(slot, &view);

	values[0] = CStringGetTextDatum(RecoveryInProgress() ? "standby" : "primary");
	values[1] = Int32GetDatum((int32) applier->pid);
	nulls[1] = applier->pid == 0;
	values[2] = CStringGetTextDatum(applier_state_name(&view));
	values[3] = Int64GetDatum((int64) state.machine.last_applied_epoch);
	nulls[3] = state.machine.last_applied_epoch == MACHINE_NO_EPOCH;
	values[4] = Int64GetDatum(applied);
	values[5] = Int64GetDatum(log_end);
	values[6] = Int64GetDatum(Max(log_end - applied, 0));
	values[7] = CStringGetTextDatum(psprintf("%016llx",
											 (unsigned long long) state.machine.digest));
	values[8] = TimestampTzGetDatum(applier->started);
	nulls[8] = applier->pid == 0;
	values[9] = CStringGetTextDatum(applier->last_error);
	values[10] = TimestampTzGetDatum(applier->last_error_at);
	nulls[9] = nulls[10] = applier->last_error_at == 0;
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, nulls)));
}
