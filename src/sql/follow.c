/*
 * follow.c
 *	  seq_follow, seq_follow_replication, seq_unfollow, the view seq_follower, and the trigger on seq_following.
 */
#include "compat.h"

#include "access/htup_details.h"
#include "access/xlog.h"
#include "catalog/pg_type_d.h"
#include "log/acks.h"
#include "log/append.h"
#include "log/attach.h"
#include "log/following.h"
#include "log/hint.h"
#include "log/landing.h"
#include "log/table.h"
#include "log/waiting.h"
#include "process/conninfo.h"
#include "shared/admission.h"
#include "shared/database.h"
#include "shared/follower.h"
#include "shared/pause.h"
#include "shared/wakeup.h"
#include "sql/result.h"
#include "sql/triggers.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

CALVIN_FUNCTION(seq_follow);
CALVIN_FUNCTION(seq_follow_replication);
CALVIN_FUNCTION(seq_unfollow);
CALVIN_FUNCTION(seq_follower_info);
CALVIN_FUNCTION(seq_following_before_change);

#define ACKS_AT_A_TIME 1000

/* What people call the source of logical replication. */
#define MAX_SOURCE 500

static void
begin(const char *function)
{
	shmem_require();
	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("cannot execute %s during recovery", function),
				 errhint("A standby does what its primary does.")));
	PreventCommandIfReadOnly(function);
	PreventCommandIfParallelMode(function);
}

/*
 * The server connects to wherever it is told, as its operating system's user, and runs
 * a function there.
 */
static void
require_superuser(void)
{
	if (!superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be superuser to follow another server"),
				 errdetail("The server logs in there with what its operating system's user has.")));
}

/*
 * What was submitted and is not in the log yet could not get there any more.  From now
 * on nothing is: it would be counted before, or sees the gate closed.  What was there
 * when the server started, or was restored, is found in the tables.
 */
static void
require_nothing_submitted(DatabaseSlot *slot)
{
	AdmissionView view;
	uint64		rows;

	follower_close_gate(slot);
	PAUSE_POINT("follow: gate closed");
	admission_view(slot, &view);
	rows = Max(view.rows, waiting_now() + landing_now());
	if (rows > 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("submissions are waiting to be sequenced"),
				 errdetail_plural("There is " UINT64_FORMAT ", with those of transactions that have not ended.",
								  "There are " UINT64_FORMAT ", with those of transactions that have not ended.",
								  rows, rows),
				 errhint_for_role("Wait until seq_sequencer shows none.")));
}

/* What is filled in holds from the commit on, under an id of its own. */
static void
follow(Following *following)
{
	DatabaseSlot *slot = attach_database();

	append_lock();
	wakeup_follower_at_commit();
	require_nothing_submitted(slot);
	following->id = *DatumGetUUIDP(DirectFunctionCall1(gen_random_uuid, (Datum) 0));
	following->since = GetCurrentTimestamp();
	following_put(following);
}

/* seq_follow(conninfo) */
Datum
seq_follow(PG_FUNCTION_ARGS)
{
	Following	following = {.mode = FOLLOWING_PULL};

	begin("seq_follow()");
	require_superuser();
	following.conninfo = text_to_cstring(PG_GETARG_TEXT_PP(0));
	conninfo_check(following.conninfo);
	following.source = conninfo_describe(following.conninfo);
	follow(&following);
	PG_RETURN_VOID();
}

/* seq_follow_replication(source) */
Datum
seq_follow_replication(PG_FUNCTION_ARGS)
{
	Following	following = {.mode = FOLLOWING_FED};

	begin("seq_follow_replication()");
	following.source = text_to_cstring(PG_GETARG_TEXT_PP(0));
	if (following.source[0] == '\0' || strlen(following.source) > MAX_SOURCE)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the source must have 1 to %d bytes", MAX_SOURCE),
				 errdetail("Whoever appends here is told it.")));
	follow(&following);
	PG_RETURN_VOID();
}

/* seq_unfollow() */
Datum
seq_unfollow(PG_FUNCTION_ARGS)
{
	DatabaseSlot *slot;
	Ack		   *acks;
	int			n;

	begin("seq_unfollow()");
	slot = attach_database();
	acks_lock();
	append_lock();
	wakeup_follower_at_commit();
	/* nobody shall submit before this is committed, seeing that the row is gone for us */
	follower_close_gate(slot);
	if (!following_remove())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("this database does not follow another one")));
	/* what was acknowledged here and did not come back is of this log from now on */
	while ((n = acks_list(ACKS_AT_A_TIME, &acks)) > 0)
	{
		append_lock();
		acks_append(acks, n);
		acks_remove(acks, n);
		CommandCounterIncrement();
	}
	PG_RETURN_VOID();
}

/* BEFORE INSERT FOR EACH ROW, UPDATE, DELETE and TRUNCATE on seq_following. */
Datum
seq_following_before_change(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	Datum		mode;
	bool		isnull = true;

	if (CALLED_AS_TRIGGER(fcinfo) && TRIGGER_FIRED_BY_INSERT(trigger->tg_event) &&
		TRIGGER_FIRED_FOR_ROW(trigger->tg_event))
	{
		trigger_require_insert_into(fcinfo, "seq_following_before_change", SIDE_FOLLOWING);
		mode = heap_getattr(trigger->tg_trigtuple, FOLLOWING_ATTR_MODE,
							RelationGetDescr(trigger->tg_relation), &isnull);
		if (!isnull && strcmp(TextDatumGetCString(mode), FOLLOWING_MODE_RESTORED) == 0)
		{
			/* nobody appends meanwhile, or submits */
			append_lock();
			wakeup_follower_at_commit();
			if (database_mine() != NULL)
				follower_close_gate(database_mine());
			return PointerGetDatum(trigger->tg_trigtuple);
		}
	}
	else if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("%s() was not called by its trigger", "seq_following_before_change")));
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("cannot change %s", FOLLOWING_NAME),
			 errhint_for_role("Use seq_follow() and seq_unfollow().")));
	pg_unreachable();
}

static const char *
state_name(const Following *following, const FollowerView *view, const WorkerView *worker)
{
	if (RecoveryInProgress())
		return "standby";
	if (following->mode == FOLLOWING_RESTORED)
		return "restored";
	if (following->mode == FOLLOWING_FED)
		return "fed";
	if (worker->pid == 0)
		return worker->no_place ? "no place" : "no worker";
	switch (view->state)
	{
		case FOLLOWER_NONE:
		case FOLLOWER_CONNECTING:
			return "connecting";
		case FOLLOWER_COMPARING:
			return "comparing";
		case FOLLOWER_CATCHING_UP:
			return "catching up";
		case FOLLOWER_FOLLOWING:
			return "following";
		case FOLLOWER_UNREACHABLE:
			return "unreachable";
		case FOLLOWER_REFUSED:
			return "refused";
		case FOLLOWER_OTHER_LOG:
			return "other log";
		case FOLLOWER_OTHER_HISTORY:
			return "other history";
		case FOLLOWER_SOURCE_BEHIND:
			return "source behind";
		case FOLLOWER_TRUNCATED:
			return "truncated";
		case FOLLOWER_FAILED:
			return "failed";
	}
	return "unknown";
}

static bool
has_connection(const FollowerView *view)
{
	return view->state == FOLLOWER_COMPARING || view->state == FOLLOWER_CATCHING_UP ||
		view->state == FOLLOWER_FOLLOWING;
}

/* How long ago the last entry was appended that is here, if there are more. */
static Datum
lag_time(const FollowerView *view, int64 log_end, bool *isnull)
{
	Interval   *interval = palloc0(sizeof(Interval));

	if (view->source_index > (uint64) log_end)
	{
		*isnull = view->appended_at == 0;
		interval->time = Max(GetCurrentTimestamp() - view->appended_at, 0);
	}
	return IntervalPGetDatum(interval);
}

/*
 * (source text, state text, connected_to text, pid int, log_index bigint,
 *	source_index bigint, lag bigint, lag_time interval, proved_index bigint,
 *	proved_at timestamptz, entries bigint, bytes bigint, last_error text,
 *	last_error_at timestamptz, since timestamptz, acks_waiting bigint)
 */
#define FOLLOWER_COLUMNS 16

Datum
seq_follower_info(PG_FUNCTION_ARGS)
{
	static const Oid types[FOLLOWER_COLUMNS] = {
		TEXTOID, TEXTOID, TEXTOID, INT4OID, INT8OID, INT8OID, INT8OID, INTERVALOID,
		INT8OID, TIMESTAMPTZOID, INT8OID, INT8OID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID,
		INT8OID
	};
	ReturnSetInfo *rsinfo = result_rows(fcinfo, FOLLOWER_COLUMNS, types);
	DatabaseSlot *slot = attach_database();
	DatabaseView database;
	const WorkerView *worker = &database.workers[WORKER_SEQUENCER];
	FollowerView view;
	Following	following;
	int64		log_end;
	bool		own_error;
	Datum		values[FOLLOWER_COLUMNS];
	bool		nulls[FOLLOWER_COLUMNS] = {false};

	if (!following_find(&following))
		return (Datum) 0;
	/* first what the worker has told: we are never behind what it says we have */
	follower_view(slot, &view);
	database_view(slot, &database);
	log_end = append_committed_end();
	values[0] = CStringGetTextDatum(following.source);
	values[1] = CStringGetTextDatum(state_name(&following, &view, worker));
	nulls[2] = worker->pid == 0 || !has_connection(&view);
	values[2] = CStringGetTextDatum(view.host);
	nulls[3] = worker->pid == 0;
	values[3] = Int32GetDatum((int32) worker->pid);
	values[4] = Int64GetDatum(log_end);
	nulls[5] = nulls[6] = nulls[7] = view.source_index == 0;
	values[5] = Int64GetDatum((int64) view.source_index);
	values[6] = Int64GetDatum(Max((int64) view.source_index - log_end, 0));
	values[7] = lag_time(&view, log_end, &nulls[7]);
	nulls[8] = nulls[9] = view.proved_at == 0;
	values[8] = Int64GetDatum((int64) view.proved_index);
	values[9] = TimestampTzGetDatum(view.proved_at);
	values[10] = Int64GetDatum((int64) view.rows);
	values[11] = Int64GetDatum((int64) view.bytes);
	/* errors here, as of the disk, are those of the worker */
	own_error = worker->last_error_at > view.error_at;
	nulls[12] = nulls[13] = !own_error && view.error_at == 0;
	values[12] = CStringGetTextDatum(own_error ? worker->last_error : view.error);
	values[13] = TimestampTzGetDatum(own_error ? worker->last_error_at : view.error_at);
	values[14] = TimestampTzGetDatum(following.since);
	values[15] = Int64GetDatum((int64) acks_count());
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	return (Datum) 0;
}
