/*
 * pause.h
 *	  Named points at which a test can stop a process, to make a race happen.
 *
 * Only test builds (make PAUSE_POINTS=1) have them; elsewhere they are nothing.
 * There a test arms a point by SQL, waits until somebody has stopped at it, does
 * what is to come between, and lets go.  See t/lib/CalvinPause.pm.
 */
#ifndef CALVIN_SHARED_PAUSE_H
#define CALVIN_SHARED_PAUSE_H

#include "compat.h"

#ifdef CALVIN_PAUSE_POINTS

/* Shared memory of the points; called by shmem.c. */
extern Size pause_shmem_size(void);
extern void pause_shmem_init(void);

/*
 * Stop here while the point is armed for this process.  Can be called with locks
 * held and with interrupts held off; where they are not, they are served.
 */
extern void pause_point(const char *name);

#define PAUSE_POINT(name) pause_point(name)
#else
#define PAUSE_POINT(name) ((void) 0)
#endif

#endif							/* CALVIN_SHARED_PAUSE_H */
