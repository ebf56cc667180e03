/*
 * replay_wait.c
 *	  Sleeping on a standby until more of the write-ahead log is replayed.
 *
 * Before 19 nobody tells, so who waits has to look from time to time.  Since then
 * the process that replays sets the latch of who is entered with a position
 * in the heap that WaitForLSN() waits by, and of all who are when recovery ends.
 *
 * WaitForLSN() itself is not for us: it takes every setting of the latch for its
 * own and sleeps on, and by the same latch our workers hear of subscribers, of
 * commands that need them to leave, and of changed settings.  So the entry is
 * made here, as there, and the latch is waited for by ourselves.
 */
#include "compat.h"

#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "miscadmin.h"
#include "process/replay_wait.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "utils/wait_event.h"

#ifdef COMPAT_REPLAY_WAKES

bool
replay_wakes(void)
{
	return true;
}

/* Be woken once more than up to "seen" is replayed. */
static void
enter(XLogRecPtr seen)
{
	WaitLSNProcInfo *mine = &waitLSNState->procInfos[MyProcNumber];
	pairingheap *heap = &waitLSNState->waitersHeap[WAIT_LSN_TYPE_STANDBY_REPLAY];
	WaitLSNProcInfo *first;

	LWLockAcquire(WaitLSNLock, LW_EXCLUSIVE);
	mine->procno = MyProcNumber;
	mine->waitLSN = seen + 1;
	mine->lsnType = WAIT_LSN_TYPE_STANDBY_REPLAY;
	pairingheap_add(heap, &mine->heapNode);
	mine->inHeap = true;
	first = pairingheap_container(WaitLSNProcInfo, heapNode, pairingheap_first(heap));
	pg_atomic_write_u64(&waitLSNState->minWaitedLSN[WAIT_LSN_TYPE_STANDBY_REPLAY],
						first->waitLSN);
	LWLockRelease(WaitLSNLock);
}

/* With the entry made: is there nothing yet for which it will not be served? */
static bool
nothing_new(XLogRecPtr seen)
{
	return RecoveryInProgress() && GetXLogReplayRecPtr(NULL) <= seen;
}

static void
leave(void)
{
	WaitLSNCleanup();
}

#else

bool
replay_wakes(void)
{
	return false;
}

static void
enter(XLogRecPtr seen)
{
}

static bool
nothing_new(XLogRecPtr seen)
{
	return true;
}

static void
leave(void)
{
}

#endif

void
replay_wait(XLogRecPtr seen, long timeout_ms, uint32 wait_event)
{
	bool		entered = seen != InvalidXLogRecPtr;

	if (entered)
		enter(seen);
	if (!entered || nothing_new(seen))
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_EXIT_ON_PM_DEATH |
						 (timeout_ms >= 0 ? WL_TIMEOUT : 0),
						 timeout_ms, wait_event);
	if (entered)
		leave();
	ResetLatch(MyLatch);
}
