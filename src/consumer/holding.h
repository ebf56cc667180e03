/*
 * holding.h
 *	  Portals that hold the rows of a receive, or of a fetch: cursors, and the loops
 *	  of procedures.
 *
 * What is received is taken back by the rollback of the (sub)transaction that
 * received it, and so must its rows be.  These functions know consumers and groups by
 * name: a portal may outlive a subscription.
 */
#ifndef CALVIN_CONSUMER_HOLDING_H
#define CALVIN_CONSUMER_HOLDING_H

#include "compat.h"

/*
 * Before a receive: raise 40001 if its rows would go to a portal that was opened
 * outside of the subtransaction it is read in.
 */
extern void holding_check(void);

/* After a receive that gave rows: the active portals hold them. */
extern void holding_note(const char *name);

/* Raise 40001 if rows that were taken back are, or were, still handed out. */
extern void holding_refuse_taken_back(const char *name);

/*
 * Has a portal of the name failed, or been closed after a rollback, in the present
 * transaction, with rows that nobody can get any more?
 */
extern bool holding_failed(const char *name);

/*
 * Before a commit, or PREPARE, that stores a cursor: raise 40001 if a portal outlives it that
 * has rows left which the cursor covers.
 */
extern void holding_refuse_commit(const char *name);

/* The name went back to its cursor by seq_rewind(). */
extern void holding_rewound(const char *name);

/*
 * The transaction was committed, with what the name has received if "stored"; or
 * rolled back.  Then, once, that it has ended.  These raise no error.
 */
extern void holding_committed(const char *name, bool stored);
extern void holding_taken_back(const char *name);
extern void holding_end_transaction(void);

#endif							/* CALVIN_CONSUMER_HOLDING_H */
