/*
 * life.c
 *	  What the workers of a database have in common: begin, serve, retry, end.
 *
 * An error leaves the process: it is logged, remembered in the slot, and what
 * failed is tried again after a while.  A worker that ends gives its place back,
 * however it does (shared/worker_slot.c).
 */
#include "compat.h"

#include "access/xact.h"
#include "libpq/pqsignal.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "process/life.h"
#include "process/worker.h"
#include "shared/clock.h"
#include "shared/database.h"
#include "shared/waits.h"
#include "shared/worker_slot.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/wait_event.h"

/* Wait between attempts after an error, doubling. */
#define MIN_RETRY_MS 200
#define MAX_RETRY_MS 30000

static DatabaseSlot *own_slot;
static WorkerKind own_kind;
static bool retired = false; /* the extension is gone: give the slot up */
static int	retry_ms = 0;

/* before_shmem_exit: give the place back, however the process ends. */
static void
leave_slot(int code, Datum arg)
{
	if (retired)
		worker_slot_retire(own_slot, own_kind);
	else
		worker_slot_leave(own_slot, own_kind, code != 0);
}

DatabaseSlot *
life_begin(WorkerKind kind)
{
	WorkerArgs	args;

	memcpy(&args, MyBgworkerEntry->bgw_extra, sizeof(args));
	pqsignal(SIGTERM, die);
	pqsignal(SIGINT, COMPAT_SIG_IGN);
	BackgroundWorkerUnblockSignals();

	own_kind = kind;
	own_slot = worker_slot_claim(args.database, kind, args.token);
	if (own_slot == NULL)
		proc_exit(0);
	before_shmem_exit(leave_slot, (Datum) 0);

	/* as autovacuum does: sessions that are there already count on us */
	BackgroundWorkerInitializeConnectionByOid(args.database, InvalidOid,
											  BGWORKER_BYPASS_ALLOWCONN);
	worker_settle(&worker_types[kind]);
	MemoryContextSwitchTo(TopMemoryContext);
	return own_slot;
}

void
life_retire(void)
{
	retired = true;
	ereport(LOG,
			(errmsg("%s stops: the extension was dropped from its database",
					worker_types[own_kind].name)));
	proc_exit(0);
}

void
life_serve_signals(void)
{
	CHECK_FOR_INTERRUPTS();
	if (worker_slot_stop_asked(own_slot, own_kind))
		proc_exit(0);
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
}

static void
report_error(void)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
	ErrorData  *error;

	EmitErrorReport();
	error = CopyErrorData();
	database_report_error(own_slot, own_kind, error->message);
	FreeErrorData(error);
	MemoryContextSwitchTo(old);
}

static void
clean_up(bool report)
{
	error_context_stack = NULL;
	HOLD_INTERRUPTS();
	if (report)
		report_error();
	AbortOutOfAnyTransaction();
	LWLockReleaseAll();
	ConditionVariableCancelSleep();
	pgstat_report_wait_end();
	FlushErrorState();
	MemoryContextSwitchTo(TopMemoryContext);
	RESUME_INTERRUPTS();
}

void
life_clean_up(void)
{
	clean_up(true);
}

void
life_clean_up_quietly(void)
{
	clean_up(false);
}

void
life_rest(void)
{
	int64		until;
	int64		left;

	retry_ms = retry_ms == 0 ? MIN_RETRY_MS : Min(retry_ms * 2, MAX_RETRY_MS);
	pgstat_report_activity(STATE_IDLE, "waiting to try again after an error");
	until = clock_ms() + retry_ms;
	/* not if the extension was dropped or altered: that may help */
	while ((left = until - clock_ms()) > 0 &&
		   !worker_slot_recheck_asked(own_slot, own_kind))
	{
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | WL_TIMEOUT,
						 (long) left, wait_event(WAIT_RETRY));
		ResetLatch(MyLatch);
		life_serve_signals();
	}
}

void
life_progressed(void)
{
	retry_ms = 0;
}

void
life_succeeded(void)
{
	retry_ms = 0;
	worker_slot_succeeded(own_slot, own_kind);
}
