/*
 * wakeup.h
 *	  What this transaction has to tell the workers when it commits.
 */
#ifndef CALVIN_SHARED_WAKEUP_H
#define CALVIN_SHARED_WAKEUP_H

#include "compat.h"

/* Called once, by _PG_init(). */
extern void wakeup_init(void);

/* It shall look at the tables. */
extern void wakeup_applier_at_commit(void);

/* The sequencer shall look for what was restored into seq_inbox. */
extern void wakeup_sequencer_at_commit(void);

/*
 * It shall look which handlers there are, and what became of their functions and roles;
 * or, "everywhere", that of each database that has handlers.
 */
extern void wakeup_handlers_at_commit(bool everywhere);

/* The same of this database: a handler was defined, or taken away. */
extern void wakeup_defined_at_commit(void);

/* It shall look whose log that is, too. */
extern void wakeup_recheck_at_commit(void);

/* Whether this database follows another server's log was changed. */
extern void wakeup_follower_at_commit(void);

/* Acknowledgements are to be shipped to the source. */
extern void wakeup_acks_at_commit(void);

/* Has this transaction asked for that? */
extern bool wakeup_recheck_wanted(void);

#endif							/* CALVIN_SHARED_WAKEUP_H */
