/*
 * durable.c
 *	  Waiting until what was read from the log cannot be lost any more.
 *
 * A commit can become visible before it is safe: by being asynchronous, or
 * because its wait for the standby was cancelled.  Nothing of it may be
 * delivered then, so the applier waits as a commit would.
 *
 * SyncRepWaitForLSN() serves no interrupts while it waits, which a commit can
 * afford and we cannot: DROP DATABASE and the like, of any database, wait for
 * every process to accept a barrier.  So our handlers of the signals that
 * want something make it return (it takes that for a query cancel), we serve
 * them, and wait on.
 *
 * It wants each position waited for by one process alone, as the ends of
 * commits are; assertions of the server say so.  The end of all WAL may be the
 * end of a commit that waits too, and other appliers may have come to the same.
 * But no record is shorter than its header: within so much before the end no
 * other one ends and, since a page's header is not shorter, no page begins.  So
 * nobody else waits for a position in there, and a standby that confirms it has
 * all up to the end.  Each applier, of 23 at least, takes one of its own.
 */
#include "compat.h"

#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "access/xlogrecord.h"
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "process/durable.h"
#include "replication/syncrep.h"
#include "replication/walsender.h"
#include "shared/waits.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/procsignal.h"
#include "utils/elog.h"
#include "utils/guc.h"
#include "utils/wait_event.h"

/* How often, and how far apart, it is looked whether others have flushed. */
#define OTHERS_LOOKS 15
#define OTHERS_LOOK_US 100

/* How often a session looks whether standbys have confirmed what it waits for. */
#define SESSION_LOOK_MS 20

static volatile sig_atomic_t waiting = false;
static emit_log_hook_type prev_emit_log_hook = NULL;

static void
interrupt_wait(void)
{
	if (waiting)
		QueryCancelPending = true;
}

static void
handle_sigusr1(SIGNAL_ARGS)
{
	procsignal_sigusr1_handler(COMPAT_SIGNAL_ARGS);
	if (InterruptPending)
		interrupt_wait();
}

static void
handle_sighup(SIGNAL_ARGS)
{
	SignalHandlerForConfigReload(COMPAT_SIGNAL_ARGS);
	interrupt_wait();
}

/* The warning that a cancelled wait gives is not true of ours. */
static void
drop_warning(ErrorData *error)
{
	if (waiting && error->elevel == WARNING)
		error->output_to_server = false;
	if (prev_emit_log_hook)
		prev_emit_log_hook(error);
}

void
durable_init(void)
{
	pqsignal(SIGUSR1, handle_sigusr1);
	pqsignal(SIGHUP, handle_sighup);
	prev_emit_log_hook = emit_log_hook;
	emit_log_hook = drop_warning;
}

/* GetXLogInsertRecPtr() stands behind the header of a page not yet begun. */
XLogRecPtr
durable_wal_end(void)
{
	XLogRecPtr	lsn = GetXLogInsertRecPtr();

	if (XLogSegmentOffset(lsn, wal_segment_size) == SizeOfXLogLongPHD)
		return lsn - SizeOfXLogLongPHD;
	if (lsn % XLOG_BLCKSZ == SizeOfXLogShortPHD)
		return lsn - SizeOfXLogShortPHD;
	return lsn;
}

static bool
standbys_have(XLogRecPtr lsn)
{
	XLogRecPtr	confirmed;

	LWLockAcquire(SyncRepLock, LW_SHARED);
	confirmed = WalSndCtl->lsn[SYNC_REP_WAIT_FLUSH];
	LWLockRelease(SyncRepLock);
	return lsn <= confirmed;
}

/*
 * SyncRepWaitForLSN() would not tell us that its wait was cancelled.  Nobody does this
 * often, so it is looked rather than told.
 */
void
durable_wait_in_session(XLogRecPtr lsn)
{
	while (!durable_by_now(lsn))
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 SESSION_LOOK_MS, WAIT_EVENT_SYNC_REP);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

/* Wait for synchronous standbys; false if something wants to be served. */
static bool
wait_for_standbys(XLogRecPtr lsn)
{
	bool		confirmed = false;

	HOLD_INTERRUPTS();
	QueryCancelPending = false;
	waiting = true;
	/* a signal from here on ends the wait; one before is seen here */
	if (!InterruptPending && !ConfigReloadPending)
	{
		SyncRepWaitForLSN(lsn, true);
		/* all that it says of the end of the postmaster is ProcDiePending */
		if (ProcDiePending)
			InterruptPending = true;
		confirmed = !InterruptPending && !ConfigReloadPending;
	}
	waiting = false;
	QueryCancelPending = false;
	RESUME_INTERRUPTS();
	return confirmed;
}

bool
durable_at_once(XLogRecPtr lsn)
{
	return lsn <= GetFlushRecPtr(NULL) && !compat_commits_wait();
}

bool
durable_by_now(XLogRecPtr lsn)
{
	XLogFlush(lsn);
	return max_wal_senders == 0 || !compat_commits_wait() || standbys_have(lsn);
}

void
durable_leave_to_others(XLogRecPtr lsn)
{
	for (int i = 0; i < OTHERS_LOOKS && GetFlushRecPtr(NULL) < lsn; i++)
	{
		CHECK_FOR_INTERRUPTS();
		pgstat_report_wait_start(wait_event(WAIT_FLUSH));
		pg_usleep(OTHERS_LOOK_US);
		pgstat_report_wait_end();
	}
}

void
durable_wait(XLogRecPtr lsn, int waiter)
{
	XLogRecPtr	own = lsn - 1 - waiter % (SizeOfXLogRecord - 1);

	XLogFlush(lsn);
	if (SyncRepStandbyNames != NULL && SyncRepStandbyNames[0] != '\0')
		pgstat_report_activity(STATE_RUNNING,
							   "waiting for synchronous standbys to confirm the log");
	while (!wait_for_standbys(own))
	{
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
	}
}
