/*
 * replay_wait.h
 *	  Sleeping on a standby until more of the write-ahead log is replayed.
 */
#ifndef CALVIN_PROCESS_REPLAY_WAIT_H
#define CALVIN_PROCESS_REPLAY_WAIT_H

#include "compat.h"

#include "access/xlogdefs.h"

/* Is who waits here woken by what is replayed, so that he need not look again? */
extern bool replay_wakes(void);

/*
 * Sleep until the latch is set, or timeout_ms (-1: none) have passed, or more
 * than up to "seen" is replayed, or recovery has ended.  The last two count where
 * replay_wakes(), and seen is valid.  The latch is reset.
 */
extern void replay_wait(XLogRecPtr seen, long timeout_ms, uint32 wait_event);

#endif							/* CALVIN_PROCESS_REPLAY_WAIT_H */
