/*
 * launcher.c
 *	  Keeps the workers of each database that has the extension.
 *
 * Which databases have it is found out by probing (probing.c).  When a worker
 * ends, it leaves its place WANTED, and the launcher starts the next one, a
 * little later each time it fails without progress (shared/worker_slot.c).
 *
 * Without sequencers nothing new comes from those who submit; without appliers
 * nothing comes at all.  So where places for workers may be too few, a
 * sequencer is started when every applier has its own, and leaves it to one
 * that has none (worker_start).
 *
 * On a primary the launcher sleeps until its latch is set.  On a standby nobody
 * can ask it, so it looks by itself.
 */
#include "compat.h"

#include "access/xlog.h"
#include "libpq/pqsignal.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "process/probing.h"
#include "process/worker.h"
#include "shared/clock.h"
#include "shared/database.h"
#include "shared/handler_slot.h"
#include "shared/requests.h"
#include "shared/worker_slot.h"
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

/* The workers this launcher started and that have not ended, by slot. */
static Launched (*launched)[WORKER_KINDS];

typedef struct LaunchedHandler
{
	HandlerArgs args;
	BackgroundWorkerHandle *handle;
} LaunchedHandler;

static LaunchedHandler *launched_handlers;

void
launcher_init(void)
{
	BackgroundWorker worker;

	worker_describe(&worker, &worker_launcher);
	worker.bgw_restart_time = 1;
	RegisterBackgroundWorker(&worker);
}

/*
 * Start a worker of a slot if it is wanted.  Returns the time in ms until it
 * will be, or -1.
 */
static long
start_if_wanted(int number, WorkerKind kind)
{
	DatabaseSlot *slot = &Calvin->databases[number];
	Launched   *mine = &launched[number][kind];
	Oid			database;
	uint32		token;
	long		wait;
	bool		open;

	database = worker_slot_wanted(slot, kind, &wait);
	if (!OidIsValid(database))
		return wait;
	if (mine->handle != NULL)
		return -1;				/* the last one is still on its way out */
	if (!probing_database_exists(database, &open))
	{
		worker_slot_forget(slot, database);
		return -1;
	}

	if (!worker_slot_start(slot, kind, database, &token))
		return -1;				/* held since */
	if (worker_start(&worker_types[kind], database, token, &mine->handle))
	{
		mine->database = database;
		mine->token = token;
		return -1;
	}
	mine->handle = NULL;
	worker_slot_no_place(slot, kind, database, token);
	return worker_retry_ms();
}

/* The same for a worker that runs a handler. */
static long
start_handler_if_wanted(int number)
{
	LaunchedHandler *mine = &launched_handlers[number];
	long		wait;

	/* the last one is on its way out, which wakes us */
	if (mine->handle != NULL || !handler_slots_start(number, &mine->args, &wait))
		return mine->handle != NULL ? -1 : wait;
	if (worker_start_with(&worker_handler, mine->args.database, &mine->args,
						  sizeof(mine->args), &mine->handle))
		return -1;
	mine->handle = NULL;
	handler_slots_not_started(&mine->args, NO_WORKER_RETRY_MS, true);
	return NO_WORKER_RETRY_MS;
}

/* Take note of workers of ours that ended without having claimed their place. */
static void
collect_ended(void)
{
	for (int i = 0; i < Calvin->max_databases; i++)
		for (int k = 0; k < WORKER_KINDS; k++)
		{
			Launched   *mine = &launched[i][k];

			if (mine->handle != NULL && worker_ended(&mine->handle))
				worker_slot_not_started(&Calvin->databases[i], (WorkerKind) k,
										mine->database, mine->token,
										NO_WORKER_RETRY_MS);
		}
	for (int i = 0; i < calvin_max_handlers; i++)
	{
		LaunchedHandler *mine = &launched_handlers[i];

		if (mine->handle != NULL && worker_ended(&mine->handle))
			handler_slots_not_started(&mine->args, NO_WORKER_RETRY_MS, false);
	}
}

/* Is it time for this kind of worker?  If not, what it waits for wakes us. */
static bool
kind_is_due(WorkerKind kind)
{
	if (kind == WORKER_APPLIER)
		return true;
	if (RecoveryInProgress())
		return false;
	return !worker_places_short() ||
		(probing_at_rest() && !worker_slot_any_wanted(WORKER_APPLIER));
}

/* Start what is wanted; the time in ms until more will be, or -1. */
static long
start_workers(void)
{
	long		timeout = -1;

	collect_ended();
	for (int k = 0; k < WORKER_KINDS; k++)
		for (int i = 0; i < Calvin->max_databases; i++)
		{
			long		wait;

			if (!kind_is_due((WorkerKind) k))
				break;
			wait = start_if_wanted(i, (WorkerKind) k);
			if (wait >= 0 && (timeout < 0 || wait < timeout))
				timeout = wait;
		}
	for (int i = 0; i < calvin_max_handlers && !RecoveryInProgress(); i++)
	{
		long		wait = start_handler_if_wanted(i);

		if (wait >= 0 && (timeout < 0 || wait < timeout))
			timeout = wait;
	}
	return timeout;
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
									  sizeof(*launched) * Calvin->max_databases);
	launched_handlers = MemoryContextAllocZero(TopMemoryContext,
											   sizeof(LaunchedHandler) *
											   Max(calvin_max_handlers, 1));
	before_shmem_exit(launcher_exit, (Datum) 0);
	requests_begin_serving();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	worker_settle(&worker_launcher);
	MemoryContextSwitchTo(TopMemoryContext);
	worker_slot_reset_starting();
	handler_slots_reset_starting();
	requests_post(InvalidOid);

	for (;;)
	{
		long		timeout = probing_advance();
		long		wait = start_workers();

		if (wait >= 0 && (timeout < 0 || wait < timeout))
			timeout = wait;
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
