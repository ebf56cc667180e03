/*
 * worker.c
 *	  What our background workers have in common.
 */
#include "compat.h"

#include "miscadmin.h"
#include "pgstat.h"
#include "process/worker.h"
#include "shared/shmem.h"
#include "utils/guc.h"
#include "utils/memutils.h"

/* Two for each database, the launcher and its probe. */
#define PLACES_NEEDED (WORKER_KINDS * Calvin->max_databases + 2)

WorkerType	worker_launcher = {"calvin_seq launcher", "calvin_seq_launcher_main", "on", "", false};

WorkerType	worker_probe = {"calvin_seq probe", "calvin_seq_probe_main", "on",
						"Whether it has the extension is not known until there is one.", false};

/* By WorkerKind.  The sequencer need not flush: the applier does before it delivers. */
WorkerType	worker_types[WORKER_KINDS] = {
	{"calvin_seq applier", "calvin_seq_applier_main", "on",
	 "What is appended to its log is not delivered until there is one.", false},
	{"calvin_seq sequencer", "calvin_seq_sequencer_main", "off",
	 "What is submitted there waits until there is one; what is appended does not.", false}};

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
		COMPAT_MORE_TIMEOUTS
	};

	for (size_t i = 0; i < lengthof(settings); i++)
		SetConfigOption(settings[i][0], settings[i][1], PGC_SUSET,
						PGC_S_OVERRIDE);
	SetConfigOption("application_name", type->name, PGC_USERSET, PGC_S_SESSION);
	pgstat_report_appname(type->name);
}

bool
worker_start(WorkerType *type, Oid database, uint32 token,
			 BackgroundWorkerHandle **handle)
{
	BackgroundWorker worker;
	WorkerArgs	args = {database, token};
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
	bool		started;

	worker_describe(&worker, type);
	worker.bgw_notify_pid = MyProcPid;
	memcpy(worker.bgw_extra, &args, sizeof(args));
	started = RegisterDynamicBackgroundWorker(&worker, handle);
	MemoryContextSwitchTo(old);

	if (!started && !type->refused)
		ereport(WARNING,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("no background worker left for a %s", type->name),
				 errdetail("It is wanted for the database with OID %u. %s", database,
						   type->without),
				 errhint("Raise max_worker_processes (now %d): calvin_seq needs %d, twice calvin_seq.max_databases (now %d) and 2 more.",
						 max_worker_processes, PLACES_NEEDED,
						 Calvin->max_databases)));
	type->refused = !started;
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
