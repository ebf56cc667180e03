/*
 * launcher.c
 *	  Keeps one applier per database that has the extension.
 *
 * Which databases have it is found out by probing (probing.c).  When an applier
 * ends, it leaves its slot WANTED, and the launcher starts the next one, a
 * little later each time it fails without progress (shared/applier_slot.c).
 *
 * On a primary the launcher sleeps until its latch is set.  On a standby nobody
 * can ask it, so it looks by itself.
 */
#include "compat.h"

#include "libpq/pqsignal.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "process/probing.h"
#include "process/worker.h"
#include "shared/applier_slot.h"
#include "shared/clock.h"
#include "shared/database.h"
#include "shared/requests.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"

typedef struct Launched
{
	Oid			database;
	uint32		token;
	BackgroundWorkerHandle *handle;
} Launched;

/* The appliers this launcher started and that have not ended, by slot. */
static Launched *launched;

void
launcher_init(void)
{
	BackgroundWorker worker;

	worker_describe(&worker, LAUNCHER_NAME, "calvin_seq_launcher_main");
	worker.bgw_restart_time = 1;
	RegisterBackgroundWorker(&worker);
}

/*
 * Start the applier of a slot if it is wanted.  Returns the time in ms until
 * it will be, or -1.
 */
static long
start_if_wanted(int number)
{
	DatabaseSlot *slot = &Calvin->databases[number];
	Launched   *mine = &launched[number];
	Oid			database;
	uint32		token;
	long		wait;
	bool		open;

	/* one of ours that ended without having claimed its slot */
	if (mine->handle != NULL && worker_ended(&mine->handle))
		applier_slot_not_started(slot, mine->database, mine->token,
								 NO_WORKER_RETRY_MS);
	database = applier_slot_wanted(slot, &wait);
	if (!OidIsValid(database))
		return wait;
	if (mine->handle != NULL)
		return -1;				/* the last one is still on its way out */
	if (!probing_database_exists(database, &open))
	{
		applier_slot_forget(slot, database);
		return -1;
	}

	if (!applier_slot_start(slot, database, &token))
		return -1;				/* held since */
	if (worker_start(APPLIER_NAME, "calvin_seq_applier_main", database,
					 token, &mine->handle))
	{
		mine->database = database;
		mine->token = token;
		return -1;
	}
	mine->handle = NULL;
	applier_slot_not_started(slot, database, token, 0);
	return NO_WORKER_RETRY_MS;
}

static void
launcher_exit(int code, Datum arg)
{
	requests_end_serving();
}

void
calvin_seq_launcher_main(Datum arg)
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	pqsignal(SIGINT, SIG_IGN);
	BackgroundWorkerUnblockSignals();

	launched = MemoryContextAllocZero(TopMemoryContext,
									  sizeof(Launched) * Calvin->max_databases);
	before_shmem_exit(launcher_exit, (Datum) 0);
	requests_begin_serving();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	worker_settle(LAUNCHER_NAME);
	MemoryContextSwitchTo(TopMemoryContext);
	applier_slot_reset_starting();
	requests_post(InvalidOid);

	for (;;)
	{
		long		timeout = probing_advance();

		for (int i = 0; i < Calvin->max_databases; i++)
		{
			long		wait = start_if_wanted(i);

			if (wait >= 0 && (timeout < 0 || wait < timeout))
				timeout = wait;
		}

		pgstat_report_stat(true);
		pgstat_report_activity(STATE_IDLE, "waiting for databases to come and go");
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_EXIT_ON_PM_DEATH |
						 (timeout >= 0 ? WL_TIMEOUT : 0),
						 timeout, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
	}
}
