/*
 * following.h
 *	  A database that follows: what its worker does in place of sequencing.
 */
#ifndef CALVIN_PROCESS_FOLLOWING_H
#define CALVIN_PROCESS_FOLLOWING_H

#include "compat.h"

#include "process/source.h"
#include "shared/shmem.h"

typedef enum FollowingNext
{
	FOLLOWING_NOT,	 /* the log is our own */
	FOLLOWING_AGAIN,
	FOLLOWING_WAITS, /* for what "waits_for" says, or the latch */
	FOLLOWING_GONE	 /* extension dropped or created anew: retire */
} FollowingNext;

/*
 * The connection that the log comes by, that for acknowledgements, that to the primary of a
 * standby, and that to other hosts.
 */
#define FOLLOWING_SOCKETS 4

/* Does what can be done now; starts and ends its own transactions. */
extern FollowingNext following_some(DatabaseSlot *slot,
									SourceWait waits_for[FOLLOWING_SOCKETS]);

/* At one of them, what was waited for has come: WL_SOCKET_*. */
extern void following_ready(int which, int events);

/* Begin anew; and after an error, which is told. */
extern void following_forget(void);
extern void following_failed(DatabaseSlot *slot);

/* The table may have been changed. */
extern void following_recheck(void);

#endif							/* CALVIN_PROCESS_FOLLOWING_H */
