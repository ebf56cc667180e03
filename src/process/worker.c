/*
 * worker.c
 *	  What our background workers have in common.
 */
#include "compat.h"

#include "pgstat.h"
#include "process/worker.h"
#include "shared/shmem.h"
#include "utils/guc.h"
#include "utils/memutils.h"

void
worker_describe(BackgroundWorker *worker, const char *type, const char *function)
{
	memset(worker, 0, sizeof(*worker));
	worker->bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker->bgw_start_time = BgWorkerStart_ConsistentState;
	worker->bgw_restart_time = BGW_NEVER_RESTART;
	strlcpy(worker->bgw_library_name, "calvin_seq", sizeof(worker->bgw_library_name));
	strlcpy(worker->bgw_function_name, function, sizeof(worker->bgw_function_name));
	strlcpy(worker->bgw_name, type, sizeof(worker->bgw_name));
	strlcpy(worker->bgw_type, type, sizeof(worker->bgw_type));
}

void
worker_settle(const char *name)
{
	/* what a database or the configuration file may say is not meant for us */
	static const char *const settings[][2] = {
		{"synchronous_commit", "on"},
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
	SetConfigOption("application_name", name, PGC_USERSET, PGC_S_SESSION);
	pgstat_report_appname(name);
}

bool
worker_start(const char *type, const char *function, Oid database, uint32 token,
			 BackgroundWorkerHandle **handle)
{
	BackgroundWorker worker;
	WorkerArgs	args = {database, token};
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
	bool		started;
	static bool warned = false;

	worker_describe(&worker, type, function);
	worker.bgw_notify_pid = MyProcPid;
	memcpy(worker.bgw_extra, &args, sizeof(args));
	started = RegisterDynamicBackgroundWorker(&worker, handle);
	MemoryContextSwitchTo(old);

	if (started)
	{
		warned = false;
		return true;
	}
	if (!warned)
		ereport(WARNING,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("no background worker left for a %s", type),
				 errhint("Raise max_worker_processes: calvin_seq needs calvin_seq.max_databases (now %d) and 2 more.",
						 Calvin->max_databases)));
	warned = true;
	return false;
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
