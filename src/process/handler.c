/*
 * handler.c
 *	  The worker that runs a group's handler: its life, and when it works.
 *
 * It is a session of the role that called seq_handle(), with that role's settings, and
 * without any of ours.  What it does in transactions is in handling.c; in between it has
 * none open.  It sleeps as a fetching session does, among those that wait for the group.
 *
 * It ends when it is told to, or finds that its definition is not that of the group any
 * more, or that it may not run; who starts it is told, and looks (publishing.c).
 */
#include "compat.h"

#include "access/xact.h"
#include "libpq/pqsignal.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "process/handling.h"
#include "process/worker.h"
#include "shared/clock.h"
#include "shared/handler_slot.h"
#include "shared/pause.h"
#include "shared/waits.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/backend_status.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timeout.h"
#include "utils/wait_event.h"

/* Wait between attempts after an error that was not a call's, doubling. */
#define MIN_RETRY_MS 200
#define MAX_RETRY_MS 30000

static HandlerSlot *slot;
static HandlerTask task;
static int	retry_ms = 0;

/* before_shmem_exit, behind the end of what transaction there is */
static void
leave_slot(int code, Datum arg)
{
	handling_let_go();
	handler_slot_leave(slot, code != 0);
}

static void
report(BackendState state, const char *what)
{
	char		activity[NAMEDATALEN + 100];

	snprintf(activity, sizeof(activity), "%s for group \"%s\"", what, NameStr(task.name));
	pgstat_report_activity(state, activity);
}

/* Outside of calls; whoever cancels one then comes too late. */
static void
serve_signals(void)
{
	QueryCancelPending = false;
	CHECK_FOR_INTERRUPTS();
	if (handler_slot_stop_asked(slot))
		proc_exit(0);
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
}

/* Until the latch is set, or for so many ms unless that is -1. */
static void
sleep_for(long ms)
{
	(void) WaitLatch(MyLatch,
					 WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | (ms >= 0 ? WL_TIMEOUT : 0),
					 ms, wait_event(WAIT_HANDLER));
	ResetLatch(MyLatch);
	serve_signals();
}

static void
wait_for_work(void)
{
	long		ms = handling_retry_ms();

	pgstat_report_stat(ms < 0);
	report(STATE_IDLE, "waiting for transactions");
	PAUSE_POINT("handler: before waiting");
	sleep_for(ms);
}

static void
main_loop(void)
{
	for (;;)
	{
		HandlingNext next;

		serve_signals();
		report(STATE_RUNNING, "handling transactions");
		next = handling_round();
		if (next == HANDLING_GONE)
			proc_exit(0);
		retry_ms = 0;
		if (next == HANDLING_AGAIN)
			pgstat_report_stat(false);
		else if (handling_wait_begin() && !handler_slot_stop_asked(slot))
			wait_for_work();
	}
}

static ErrorData *
clean_up(void)
{
	ErrorData  *error;

	error_context_stack = NULL;
	HOLD_INTERRUPTS();
	disable_all_timeouts(false);
	QueryCancelPending = false;
	EmitErrorReport();
	MemoryContextSwitchTo(TopMemoryContext);
	error = CopyErrorData();
	AbortOutOfAnyTransaction();
	LWLockReleaseAll();
	ConditionVariableCancelSleep();
	pgstat_report_wait_end();
	FlushErrorState();
	MemoryContextSwitchTo(TopMemoryContext);
	RESUME_INTERRUPTS();
	return error;
}

/* Longer each time. */
static void
rest(void)
{
	int64		until;
	int64		left;

	retry_ms = retry_ms == 0 ? MIN_RETRY_MS : Min(retry_ms * 2, MAX_RETRY_MS);
	until = clock_ms() + retry_ms;
	report(STATE_IDLE, "waiting to try again after an error");
	while ((left = until - clock_ms()) > 0)
		sleep_for((long) left);
}

static void
recover_from_error(void)
{
	ErrorData  *error = clean_up();

	if (handling_failed(error))
		retry_ms = 0;
	else if (retry_ms == 0)
		rest();
	else
		/* it may be for what a call has left in the session: have another one */
		proc_exit(1);
	FreeErrorData(error);
}

void
calvin_seq_handler_main(Datum arg)
{
	WorkerArgs	args;
	sigjmp_buf	jump;

	memcpy(&args, MyBgworkerEntry->bgw_extra, sizeof(args));
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	/* SIGINT cancels a call, as it does a session's statement */
	BackgroundWorkerUnblockSignals();

	slot = handler_slot_claim(args.number, args.token, &task);
	if (slot == NULL)
		proc_exit(0);
	before_shmem_exit(leave_slot, (Datum) 0);
	PAUSE_POINT("handler: claimed");
	BackgroundWorkerInitializeConnectionByOid(args.database, args.role, 0);
	SetConfigOption("application_name", worker_handler.name, PGC_USERSET, PGC_S_SESSION);
	pgstat_report_appname(worker_handler.name);
	MemoryContextSwitchTo(TopMemoryContext);
	handling_begin(slot, &task);

	if (sigsetjmp(jump, 1) != 0)
		recover_from_error();
	PG_exception_stack = &jump;
	main_loop();
}
