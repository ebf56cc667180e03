/*
 * sequencer.c
 *	  What became of a submission, and what the sequencer does: seq_submission and
 *	  the view seq_sequencer.
 */
#include "compat.h"

#include "access/htup_details.h"
#include "access/xlog.h"
#include "catalog/pg_type_d.h"
#include "log/attach.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "shared/admission.h"
#include "shared/clock.h"
#include "shared/database.h"
#include "shared/settings.h"
#include "shared/submitters.h"
#include "shared/waits.h"
#include "sql/args.h"
#include "sql/result.h"
#include "sql/state.h"
#include "storage/condition_variable.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

CALVIN_FUNCTION(seq_submission);
CALVIN_FUNCTION(seq_sequencer_info);

/*
 * How long it is looked, whatever the timeout is, whether a submission that is not
 * remembered is one of those that wait: that clears up when these are sequenced.
 */
#define UNCLEAR_MS 200
#define UNCLEAR_POLL_MS 5

/* An error unless the number may be of one that is known, or still to come. */
static void
check_number(DatabaseSlot *slot, int64 number)
{
	bool		before_start;

	if (number <= 0 || !submitters_number_known(slot, (uint64) number, &before_start))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("there is no submission " INT64_FORMAT, number),
				 errdetail("This number was not given out since the server started.")));
	if (before_start)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("submission " INT64_FORMAT " is not known any more", number),
				 errdetail("It was made before the server started."),
				 errhint("Look for it in the log.")));
}

static PlacedVerdict
find(DatabaseSlot *slot, int64 number, PlacedSearch *search, PlacedSubmission *found)
{
	PlacedVerdict verdict = submitters_find_placed(slot, (uint64) number, search,
												   found);

	switch (verdict)
	{
		case PLACED_FOUND:
		case PLACED_NOT_YET:
		case PLACED_UNCLEAR:
			return verdict;
		case PLACED_FORGOTTEN:
			break;
	}
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("submission " INT64_FORMAT " is not known any more", number),
			 errdetail("It is not among the last %d that were sequenced, and nothing waits that it could be.",
					   calvin_submissions_remembered),
			 errhint("Ask earlier, raise calvin_seq.submissions_remembered, or look for it in the log.")));
}

/* seq_submission(submission bigint, timeout interval) -> (epoch, position) */
Datum
seq_submission(PG_FUNCTION_ARGS)
{
	static const Oid types[] = {INT8OID, INT4OID};
	int64		number = PG_GETARG_INT64(0);
	int64		deadline = arg_deadline(PG_GETARG_INTERVAL_P(1));
	DatabaseSlot *slot = attach_database();
	ConditionVariable *signal = submitters_placed_signal(slot);
	uint64		life = submitters_life(slot);
	int64		patience = clock_ms() + UNCLEAR_MS;
	PlacedSearch search = {0};
	PlacedSubmission placed;
	PlacedVerdict verdict;
	bool		known;
	TupleDesc	desc;
	Datum		values[2] = {0, 0};
	bool		nulls[2] = {true, true};

	desc = result_row(fcinfo, lengthof(types), types);
	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("cannot execute seq_submission() during recovery"),
				 errdetail("Only the server that sequences knows."),
				 errhint("Ask the primary.")));
	check_number(slot, number);
	ConditionVariablePrepareToSleep(signal);
	for (;;)
	{
		long		left;

		verdict = find(slot, number, &search, &placed);
		left = deadline_left(deadline);
		/* who does not want to wait wants an answer all the same */
		if (verdict == PLACED_UNCLEAR)
			left = Max(left, (long) (patience - clock_ms()));
		if (verdict == PLACED_FOUND || left <= 0)
			break;
		/* the extension may be dropped while we wait */
		if (submitters_life(slot) != life || slot->database != MyDatabaseId)
			break;
		(void) ConditionVariableTimedSleep(signal, verdict == PLACED_UNCLEAR ?
										   Min(left, UNCLEAR_POLL_MS) : left,
										   wait_event(WAIT_SUBMISSION));
	}
	ConditionVariableCancelSleep();
	known = verdict == PLACED_FOUND;
	/* what the applier has delivered is durable: before, a crash may still change it */
	if (known && !state_wait_for_epoch(placed.epoch, deadline))
		known = false;
	if (known)
	{
		values[0] = Int64GetDatum((int64) placed.epoch);
		values[1] = Int32GetDatum((int32) placed.position);
		nulls[0] = nulls[1] = false;
	}
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, nulls)));
}

static const char *
state_of(const WorkerView *worker)
{
	if (RecoveryInProgress())
		return "standby";
	if (worker->pid != 0)
		return "running";
	if (worker->no_place)
		return "no worker";
	return worker->status == WORKER_NONE ? "none" : "starting";
}

static void
put_quantile(DatabaseSlot *slot, double fraction, Datum *value, bool *isnull)
{
	double		usecs = submitters_latency(slot, fraction);

	*value = Float8GetDatum(usecs);
	*isnull = usecs < 0;
}

/*
 * (pid int, state text, submitted bigint, sequenced bigint, epochs bigint,
 *  waiting_rows bigint, waiting_bytes bigint, oldest_waiting timestamptz,
 *  rejected bigint, rejected_<reason> bigint ..., latency_p50_us, latency_p99_us,
 *  latency_max_us double precision, committing_pid int, restoring boolean, last_error text,
 *  last_error_at timestamptz)
 */
#define SEQUENCER_COLUMNS (16 + ADMISSION_REASONS)

Datum
seq_sequencer_info(PG_FUNCTION_ARGS)
{
	static const Oid types[] = {
		INT4OID, TEXTOID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID,
		TIMESTAMPTZOID,
		/* rejected, and by reason */
		INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID,
		INT8OID,
		FLOAT8OID, FLOAT8OID, FLOAT8OID, INT4OID, BOOLOID, TEXTOID, TIMESTAMPTZOID
	};
	DatabaseSlot *slot = attach_database();
	DatabaseView view;
	const WorkerView *worker = &view.workers[WORKER_SEQUENCER];
	SubmitterFigures figures;
	AdmissionView admission;
	TupleDesc	desc;
	Datum		values[SEQUENCER_COLUMNS] = {0};
	bool		nulls[SEQUENCER_COLUMNS] = {false};
	int			i = 0;
	uint64		rejected = 0;
	int64		oldest;
	pid_t		holder;

	StaticAssertStmt(lengthof(types) == SEQUENCER_COLUMNS, "columns of seq_sequencer_info");
	desc = result_row(fcinfo, SEQUENCER_COLUMNS, types);
	database_view(slot, &view);
	submitters_figures(slot, &figures);
	admission_view(slot, &admission);

	values[i] = Int32GetDatum((int32) worker->pid);
	nulls[i++] = worker->pid == 0;
	values[i++] = CStringGetTextDatum(state_of(worker));
	values[i++] = Int64GetDatum((int64) figures.submitted);
	values[i++] = Int64GetDatum((int64) figures.sequenced);
	values[i++] = Int64GetDatum((int64) figures.epochs);
	values[i++] = Int64GetDatum((int64) (figures.submitted + figures.found - figures.sequenced));
	values[i++] = Int64GetDatum((int64) (figures.submitted_bytes + figures.found_bytes -
										 figures.sequenced_bytes));
	oldest = figures.submitted + figures.found > figures.sequenced ?
		submitters_oldest(slot) : 0;
	values[i] = TimestampTzGetDatum(oldest);
	nulls[i++] = oldest == 0;
	for (int reason = 0; reason < ADMISSION_REASONS; reason++)
		rejected += admission.rejected[reason];
	values[i++] = Int64GetDatum((int64) rejected);
	for (int reason = 0; reason < ADMISSION_REASONS; reason++)
		values[i++] = Int64GetDatum((int64) admission.rejected[reason]);
	for (int q = 0; q < 3; q++, i++)
		put_quantile(slot, q == 0 ? 0.5 : q == 1 ? 0.99 : 1.0, &values[i], &nulls[i]);
	(void) submitters_limit(slot, &holder);
	values[i] = Int32GetDatum((int32) holder);
	nulls[i++] = holder == 0;
	values[i++] = BoolGetDatum(submitters_restoring(slot));
	nulls[i] = worker->last_error_at == 0;
	values[i++] = CStringGetTextDatum(worker->last_error);
	nulls[i] = worker->last_error_at == 0;
	values[i++] = TimestampTzGetDatum(worker->last_error_at);
	Assert(i == SEQUENCER_COLUMNS);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, nulls)));
}
