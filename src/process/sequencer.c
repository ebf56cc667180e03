/*
 * sequencer.c
 *	  The worker that puts what was submitted in one database into its log, and removes
 *	  what has got too old there (retention.c).  In a database that follows another
 *	  server's log nothing is submitted, and it gets that log instead (following.c).
 *
 * What it does is in log/sequence.c; here is when.  It looks at once when it
 * begins, and then whenever its latch is set.  Its commits wait for no disk and
 * no standby: the applier makes durable what it delivers, and what is lost with
 * the log is lost from what was taken as well.
 */
#include "compat.h"

#include "access/xlog.h"
#include "libpq/pqsignal.h"
#include "log/sequence.h"
#include "log/table.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "process/following.h"
#include "process/life.h"
#include "process/publishing.h"
#include "process/retention.h"
#include "process/worker.h"
#include "shared/pause.h"
#include "shared/waits.h"
#include "shared/worker_slot.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/guc.h"

/*
 * Was the extension dropped or altered?  Whoever did tells before his
 * invalidations are sent, so the cache cannot be trusted now.
 */
static void
look_anew_if_told(DatabaseSlot *slot)
{
	if (!worker_slot_take_recheck(slot, WORKER_SEQUENCER))
		return;
	log_table_forget();
	sequence_forget();
	following_recheck();
}

/*
 * Until the latch is set, or for so many ms unless that is -1; nor longer than to when
 * something else is to be looked at.
 */
static void
wait_for_work(long wait_ms, long other_ms)
{
	pgstat_report_stat(wait_ms < 0);
	pgstat_report_activity(STATE_IDLE, wait_ms < 0 ? "waiting for submissions" :
						   "waiting to close an epoch, or to rotate the inbox");
	if (other_ms >= 0 && (wait_ms < 0 || other_ms < wait_ms))
		wait_ms = other_ms;
	PAUSE_POINT("sequencer: before waiting");
	(void) WaitLatch(MyLatch,
					 WL_LATCH_SET | WL_EXIT_ON_PM_DEATH |
					 (wait_ms >= 0 ? WL_TIMEOUT : 0),
					 wait_ms, wait_event(WAIT_SEQUENCER));
	ResetLatch(MyLatch);
}

/* The same where sources are waited for, too. */
static void
wait_for_sources(const SourceWait *waits_for, long other_ms)
{
	long		wait_ms = other_ms;
	WaitEventSet *set = compat_create_wait_event_set(FOLLOWING_SOCKETS + 2);
	WaitEvent	came[FOLLOWING_SOCKETS + 2];
	int			n;

	pgstat_report_stat(true);
	(void) AddWaitEventToSet(set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	(void) AddWaitEventToSet(set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	for (int i = 0; i < FOLLOWING_SOCKETS; i++)
	{
		if (waits_for[i].ms >= 0 && (wait_ms < 0 || waits_for[i].ms < wait_ms))
			wait_ms = waits_for[i].ms;
		if (waits_for[i].socket != PGINVALID_SOCKET)
			(void) AddWaitEventToSet(set, waits_for[i].events, waits_for[i].socket, NULL,
									 (void *) (intptr_t) i);
	}
	n = WaitEventSetWait(set, wait_ms, came, lengthof(came), wait_event(WAIT_SOURCE));
	for (int i = 0; i < n; i++)
		if (came[i].events & WL_SOCKET_MASK)
			following_ready((int) (intptr_t) came[i].user_data, (int) came[i].events);
		else if (came[i].events & WL_LATCH_SET)
			ResetLatch(MyLatch);
	FreeWaitEventSet(set);
}

/* What is told to do beside; the time in ms until there is more of it, or -1. */
static bool
serve_others(DatabaseSlot *slot, bool busy, long *wait_ms)
{
	long		look_ms;

	if (publishing_serve(slot, &look_ms))
		return true;
	/* waiting for a lock in it may have taken the latch's news */
	if (retention_serve(slot, busy, wait_ms))
		return true;
	if (*wait_ms < 0 || (look_ms >= 0 && look_ms < *wait_ms))
		*wait_ms = look_ms;
	return false;
}

static void
sequence(DatabaseSlot *slot)
{
	long		wait_ms = -1;
	long		other_ms;
	SequencingNext next = sequence_some(slot, &wait_ms);

	if (next == SEQUENCE_GONE)
		life_retire();
	life_succeeded();
	if (serve_others(slot, next == SEQUENCE_AGAIN, &other_ms) || next == SEQUENCE_AGAIN)
		return;
	wait_for_work(next == SEQUENCE_REST ? wait_ms : -1, other_ms);
}

static void
main_loop(DatabaseSlot *slot)
{
	for (;;)
	{
		SourceWait	waits_for[FOLLOWING_SOCKETS];
		long		other_ms;
		FollowingNext next;

		life_serve_signals();
		look_anew_if_told(slot);
		next = following_some(slot, waits_for);
		if (next == FOLLOWING_GONE)
			life_retire();
		if (next == FOLLOWING_NOT)
			sequence(slot);
		else if (!serve_others(slot, next == FOLLOWING_AGAIN, &other_ms) &&
				 next != FOLLOWING_AGAIN)
			wait_for_sources(waits_for, other_ms);
	}
}

void
calvin_seq_sequencer_main(Datum arg)
{
	DatabaseSlot *slot;
	sigjmp_buf	jump;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	slot = life_begin(WORKER_SEQUENCER);
	/* the launcher starts none on a standby, which no server becomes while it runs */
	Assert(!RecoveryInProgress());

	/* who drops the extension takes its tables in another order: not he has to fail */
	SetConfigOption("deadlock_timeout", "50ms", PGC_SUSET, PGC_S_OVERRIDE);

	if (sigsetjmp(jump, 1) != 0)
	{
		life_clean_up();
		sequence_forget();
		following_failed(slot);
		life_rest();
	}
	PG_exception_stack = &jump;
	main_loop(slot);
}
