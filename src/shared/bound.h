/*
 * bound.h
 *	  Beyond which there is nothing in the log: a bound for who looks for its end.
 *
 * Rows that were rolled back stay in the indexes until VACUUM removes them, all of
 * them beyond the log's end.  Who looks for the end from the right, or for more than
 * there is, would pass by all of them.  So the end is told here, by who has the append
 * lock: raised before a row goes in, taken back when it is rolled back.
 *
 * It is a bound and no more: the log is read, as far as that, and what is found there
 * is the end.  Who reads has taken his snapshot before; then whatever that shows was
 * within the bound before it was committed.
 */
#ifndef CALVIN_SHARED_BOUND_H
#define CALVIN_SHARED_BOUND_H

#include "compat.h"

#include "shared/shmem.h"

/*
 * All rows of this session's log, and all batches by their epochs, are up to these,
 * whether they are committed or not.  False: nobody knows.
 */
extern bool bound_get(Oid log, int64 *log_index, int64 *epoch);

/* For who has the append lock: that is the end. */
extern void bound_set(Oid log, int64 log_index, int64 epoch);

/* For him too: something is to come there; known before, or nobody knows. */
extern void bound_raise(Oid log, int64 log_index, int64 epoch);

/* Nobody knows any more. */
extern void bound_forget(void);

/* Of a slot that becomes another database's, or that of the same OID. */
extern void bound_reset(DatabaseSlot *slot);

/* Shared memory of a slot. */
extern void bound_init(DatabaseSlot *slot);

#endif							/* CALVIN_SHARED_BOUND_H */
