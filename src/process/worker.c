/*
 * worker.c
 *	  What our background workers have in common.
 */
#include "compat.h"

#include "miscadmin.h"
#include "pgstat.h"
#include "process/worker.h"
#include "shared/clock.h"
#include "shared/handler_slot.h"
#include "shared/shmem.h"
#include "shared/worker_slot.h"
#include "utils/guc.h"
#include "utils/memutils.h"

/* Two for each database, the launcher and its probe; handlers give way to them. */
#define PLACES_NEEDED (WORKER_KINDS * Calvin->max_databases + 2)

/* How long a sequencer has to leave, and the postmaster to see that it has. */
#define ROOM_MS 200

/* clock_ms() when one was last asked to leave. */
static int64 room_made_at = -ROOM_MS;

WorkerType	worker_launcher = {"calvin_seq launcher", "calvin_seq_launcher_main", "on", "", false, false};

WorkerType	worker_probe = {"calvin_seq probe", "calvin_seq_probe_main", "on",
						"Whether it has the extension is not known until there is one.", false, false};

/* By WorkerKind.  The sequencer need not flush: the applier does before it delivers. */
WorkerType	worker_types[WORKER_KINDS] = {
	{"calvin_seq applier", "calvin_seq_applier_main", "on",
	 "What is appended to its log is not delivered until there is one.", false, false},
	{"calvin_seq sequencer", "calvin_seq_sequencer_main", "off",
	 "What is submitted there waits until there is one; what is appended does not.", false, false}};

WorkerType	worker_handler = {"calvin_seq handler", "calvin_seq_handler_main", "on",
						  "What its group gets waits until there is one.", false, false};

void
worker_describe(BackgroundWorker *worker, const WorkerType *type)
{
	memset(worker, 0, sizeof(*worker));
	worker->bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker->bgw_start_time = BgWorkerStart_ConsistentState;
	worker->bgw_restart_time = BGW_NEVER_RESTART;
	strlcpy(worker->bgw_library_name, "calvin_seq", sizeof(worker->bgw_library_name));
	strlcpy(worker->bgw_function_name, type->function, sizeof(worker->bgw_function_name));
	strlcpy(worker->bgw_name, type->name, sizeof(worker->bgw_name));
	strlcpy(worker->bgw_type, type->name, sizeof(worker->bgw_type));
}

void
worker_settle(const WorkerType *type)
{
	/* what a database or the configuration file may say is not meant for us */
	const char *const settings[][2] = {
		{"synchronous_commit", type->synchronous_commit},
		{"search_path", ""},
		{"lock_timeout", "0"},
		{"statement_timeout", "0"},
		{"idle_in_transaction_session_timeout", "0"},
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_deferrable", "off"},
		{"default_transaction_read_only", "off"},
		COMPAT_MORE_TIMEOUTS
	};

	for (size_t i = 0; i < lengthof(settings); i++)
		SetConfigOption(settings[i][0], settings[i][1], PGC_SUSET,
						PGC_S_OVERRIDE);
	SetConfigOption("application_name", type->name, PGC_USERSET, PGC_S_SESSION);
	pgstat_report_appname(type->name);
}

static bool
room_is_being_made(void)
{
	return clock_ms() - room_made_at < ROOM_MS;
}

/*
 * There is no place for a worker.  Is one being made?  One at a time: the place
 * of who has left is free a little later.
 */
static bool
make_room(const WorkerType *type)
{
	pid_t		late;

	if (type == &worker_handler)
		return false;
	if (room_is_being_made())
		return true;
	if (!handler_slots_make_room(&late) &&
		(type == &worker_types[WORKER_SEQUENCER] || !worker_slot_make_room(&late)))
		return false;
	/* it may be waiting for a lock, where only this reaches it */
	if (late != 0)
		kill(late, SIGTERM);
	room_made_at = clock_ms();
	return true;
}

int
worker_retry_ms(void)
{
	return room_is_being_made() ? ROOM_MS : NO_WORKER_RETRY_MS;
}

bool
worker_start(WorkerType *type, const WorkerArgs *args,
			 BackgroundWorkerHandle **handle)
{
	BackgroundWorker worker;
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
	bool		started;

	worker_describe(&worker, type);
	worker.bgw_notify_pid = MyProcPid;
	memcpy(worker.bgw_extra, args, sizeof(*args));
	started = RegisterDynamicBackgroundWorker(&worker, handle);
	MemoryContextSwitchTo(old);

	type->refused = !started;
	/* of handlers some may have a place where others have none: see launcher.c */
	if (started)
		type->warned &= type == &worker_handler;
	else if (!make_room(type) && !type->warned)
	{
		type->warned = true;
		ereport(WARNING,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("no background worker left for a %s", type->name),
				 errdetail("It is wanted for the database with OID %u. %s", args->database,
						   type->without),
				 errhint("Raise max_worker_processes (now %d): calvin_seq needs %d, twice calvin_seq.max_databases (now %d), calvin_seq.max_handlers (now %d) and 2 more.",
						 max_worker_processes, PLACES_NEEDED + calvin_max_handlers,
						 Calvin->max_databases, calvin_max_handlers)));
	}
	return started;
}

bool
worker_places_short(void)
{
	return max_worker_processes < PLACES_NEEDED || worker_probe.refused ||
		worker_types[WORKER_APPLIER].refused ||
		worker_types[WORKER_SEQUENCER].refused;
}

bool
worker_ended(BackgroundWorkerHandle **handle)
{
	pid_t		pid;

	switch (GetBackgroundWorkerPid(*handle, &pid))
	{
		case BGWH_STARTED:
		case BGWH_NOT_YET_STARTED:
			return false;
		case BGWH_STOPPED:
		case BGWH_POSTMASTER_DIED:
			break;
	}
	pfree(*handle);
	*handle = NULL;
	return true;
}
