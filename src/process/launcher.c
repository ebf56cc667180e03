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
 * that has none (worker_start).  Handlers come behind both.
 *
 * On a primary the launcher sleeps until its latch is set.  On a standby nobody
 * can ask it, so it looks by itself when something is replayed.
 */
#include "compat.h"

#include "access/xlog.h"
#include "libpq/pqsignal.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "process/probing.h"
#include "process/replay_wait.h"
#include "process/worker.h"
#include "shared/clock.h"
#include "shared/database.h"
#include "shared/handler_slot.h"
#include "shared/requests.h"
#include "shared/waits.h"
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
static Launched *launched_handlers;

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
	WorkerArgs	args = {0};
	Oid			database;
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

	args.database = database;
	if (!worker_slot_start(slot, kind, database, &args.token))
		return -1;				/* held since */
	if (worker_start(&worker_types[kind], &args, &mine->handle))
	{
		mine->database = database;
		mine->token = args.token;
		return -1;
	}
	mine->handle = NULL;
	worker_slot_no_place(slot, kind, database, args.token);
	return worker_retry_ms();
}

/* The same of a handler's slot. */
static long
start_handler_if_wanted(int number)
{
	Launched   *mine = &launched_handlers[number];
	HandlerTask task;
	WorkerArgs	args = {0};
	long		wait;

	if (!handler_slot_wanted(number, &task, &wait))
		return wait;
	if (mine->handle != NULL || !handler_slot_start(number, &task, &args.token))
		return -1;
	args.database = task.database;
	args.role = task.role;
	args.number = number;
	if (worker_start(&worker_handler, &args, &mine->handle))
	{
		mine->token = args.token;
		return -1;
	}
	mine->handle = NULL;
	handler_slot_not_started(number, args.token, worker_retry_ms(), true);
	return worker_retry_ms();
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
		Launched   *mine = &launched_handlers[i];

		if (mine->handle == NULL || !worker_ended(&mine->handle))
			continue;
		handler_slot_not_started(i, mine->token, NO_WORKER_RETRY_MS, false);
		handler_slots_note_place();
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

/* Handlers take no place that another worker is about to have. */
static bool
handlers_are_due(void)
{
	return !RecoveryInProgress() &&
		(!worker_places_short() ||
		 (probing_at_rest() && !worker_slot_any_wanted(WORKER_APPLIER) &&
		  !worker_slot_any_wanted(WORKER_SEQUENCER)));
}

static inline long
sooner(long a, long b)
{
	return a < 0 || (b >= 0 && b < a) ? b : a;
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
			if (!kind_is_due((WorkerKind) k))
				break;
			timeout = sooner(timeout, start_if_wanted(i, (WorkerKind) k));
		}
	for (int i = 0; i < calvin_max_handlers && handlers_are_due(); i++)
		timeout = sooner(timeout, start_handler_if_wanted(i));
	if (worker_handler.warned && !handler_slots_lack_place())
		worker_handler.warned = false;
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
	pqsignal(SIGINT, COMPAT_SIG_IGN);
	BackgroundWorkerUnblockSignals();

	launched = MemoryContextAllocZero(TopMemoryContext,
									  sizeof(*launched) * Calvin->max_databases);
	launched_handlers = MemoryContextAllocZero(TopMemoryContext,
											   sizeof(*launched_handlers) *
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
		XLogRecPtr	replayed;
		long		timeout = probing_advance(&replayed);

		timeout = sooner(timeout, start_workers());
		pgstat_report_stat(true);
		pgstat_report_activity(STATE_IDLE, "waiting for databases to come and go");
		replay_wait(replayed, timeout, wait_event(WAIT_LAUNCHER));
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
	}
}
