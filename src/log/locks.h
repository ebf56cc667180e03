/*
 * locks.h
 *	  Heavyweight locks that live as long as what was done under them.
 */
#ifndef CALVIN_LOG_LOCKS_H
#define CALVIN_LOG_LOCKS_H

#include "compat.h"

#include "storage/lockdefs.h"

/* Sub-object numbers of the extension, each of which is a lock. */
#define LOG_LOCK_APPEND 1 /* the end of the log */
#define LOG_LOCK_TRUNCATION 2 /* its beginning */
#define LOG_LOCK_NUMBERS 3 /* the sequence of submission numbers */

/*
 * Take one of these locks, or that of a table, to the end of the current
 * (sub)transaction, or of the one it becomes part of.  Served by lock_timeout,
 * deadlock detection and query cancel.
 */
extern void log_lock_for_transaction(uint16 subid, LOCKMODE mode);
extern void log_lock_table_for_transaction(Oid relid, LOCKMODE mode);

/* As log_lock_for_transaction(); false, and no lock, if others are in the way. */
extern bool log_try_lock_for_transaction(uint16 subid, LOCKMODE mode);

/* Hold one of these locks exclusively for a moment. */
extern void log_lock_briefly(uint16 subid);
extern void log_unlock(uint16 subid);

/* Wait until one of these locks could be had. */
extern void log_wait_for_lock(uint16 subid, LOCKMODE mode);

/* As log_lock_table_for_transaction(); false, and no lock, if others are in the way. */
extern bool log_try_lock_table_for_transaction(Oid relid, LOCKMODE mode);

/*
 * The same for anything else that is named by three numbers: false, and no lock, if
 * others are in the way and it is not to wait.  What is let go before the end must
 * have been taken in the same (sub)transaction.
 */
extern bool log_lock_object_for_transaction(Oid class, Oid object, uint16 subid,
											LOCKMODE mode, bool wait);
/*
 * One of these, exclusively, beyond the commit of the transaction, which may have it already:
 * until it is released, a transaction is rolled back, or the process ends.  One at a time.
 */
extern void log_hold_object(Oid class, Oid object, uint16 subid);
extern void log_release_held_object(void);

extern void log_unlock_object(Oid class, Oid object, uint16 subid, LOCKMODE mode);

/* Does another transaction have, just now, what is in the way of such a lock? */
extern bool log_object_is_locked(Oid class, Oid object, uint16 subid, LOCKMODE mode);

#endif							/* CALVIN_LOG_LOCKS_H */
