/*
 * bound.h
 *	  Beyond which there is nothing in the log: a bound for who looks for its end.
 *
 * Rows that were rolled back stay in the indexes until VACUUM removes them, all of
 * them beyond the log's end; and so do those that are not committed yet.  Who looks for
 * the end from the right, or for more than there is, would pass by all of them.  So
 * how far rows can be is told here, by who has the append lock.
 *
 * It is a bound and no more: the log is read, as far as that, and what is found there
 * is the end.  Who reads has taken his snapshot before; whatever that shows was within
 * the bound before it was committed.
 */
#ifndef CALVIN_SHARED_BOUND_H
#define CALVIN_SHARED_BOUND_H

#include "compat.h"

#include "shared/shmem.h"

/*
 * All rows of this session's log that it can see are up to this log_index, and all
 * batches up to this epoch.  False: nobody knows.
 */
extern bool bound_get(Oid log, BoundEnd *end);

/*
 * For who has the append lock of this log.  He has just got it, and that is the end;
 * of what he has appended that is the end; a row is to come there; whatever he has
 * appended is about to be committed; the lock goes, and with it what he has appended
 * if it is rolled back, to that end.
 */
extern void bound_begin(Oid log, BoundEnd end);
extern void bound_set_own(BoundEnd end);
extern void bound_raise_own(BoundEnd end);
extern void bound_publish(void);
extern void bound_end(const BoundEnd *rolled_back_to);

/* Nobody knows any more. */
extern void bound_forget(void);

/* Of a slot that becomes another database's, or that of the same OID. */
extern void bound_reset(DatabaseSlot *slot);

/* Shared memory of a slot. */
extern void bound_init(DatabaseSlot *slot);

#endif							/* CALVIN_SHARED_BOUND_H */
