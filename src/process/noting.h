/*
 * noting.h
 *	  A follower of a standby tells the standby's primary where it is.
 */
#ifndef CALVIN_PROCESS_NOTING_H
#define CALVIN_PROCESS_NOTING_H

#include "compat.h"

#include "machine/machine.h"
#include "process/source.h"

/*
 * Tell it, as soon as that can be done, if its log is ours: with the arguments of
 * seq_feed_note(), and the state behind our last row.
 */
extern void noting_want(const char *arguments, const MachineState *here);

/*
 * Do what can be done now, with a primary that the connection string leads to; true if
 * there is more of it.
 */
extern bool noting_some(const char *conninfo, int turn, SourceWait *wait);

/* What was waited for has come. */
extern void noting_ready(int events);

/* Another source, or none. */
extern void noting_forget(void);

#endif							/* CALVIN_PROCESS_NOTING_H */
