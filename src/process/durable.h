/*
 * durable.h
 *	  Waiting until what was read from the log cannot be lost any more.
 */
#ifndef CALVIN_PROCESS_DURABLE_H
#define CALVIN_PROCESS_DURABLE_H

#include "compat.h"

#include "access/xlogdefs.h"

/* Install the signal handlers; before signals are unblocked. */
extern void durable_init(void);

/* The end of WAL inserted so far, as a position that can be flushed. */
extern XLogRecPtr durable_wal_end(void);

/* Has durable_wait() nothing to wait for?  Then it need not be called. */
extern bool durable_at_once(XLogRecPtr lsn);

/*
 * Is WAL up to there as safe as durable_wait() would make it?  Flushes it, and waits for
 * nothing else.
 */
extern bool durable_by_now(XLogRecPtr lsn);

/*
 * Where others commit all the time, one of them flushes that soon: wait for it, for a
 * moment, rather than be in their way with a flush of one's own.
 */
extern void durable_leave_to_others(XLogRecPtr lsn);

/*
 * Wait until WAL up to there is as safe as a commit in it would be with
 * synchronous_commit = on.  Does not return before: interrupts are served
 * meanwhile, and one that ends the process ends the wait.  "waiter" is a number
 * that tells processes that may wait at the same time apart.
 */
extern void durable_wait(XLogRecPtr lsn, int waiter);

/*
 * Wait in a session until all up to there is safe, which ends with it if that is
 * cancelled.
 */
extern void durable_wait_in_session(XLogRecPtr lsn);

#endif							/* CALVIN_PROCESS_DURABLE_H */
