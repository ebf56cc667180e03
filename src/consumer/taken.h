/*
 * taken.h
 *	  The partitions that this transaction has taken, and from where on.
 */
#ifndef CALVIN_CONSUMER_TAKEN_H
#define CALVIN_CONSUMER_TAKEN_H

#include "compat.h"

#include "log/group_positions.h"
#include "shared/shmem.h"

/* So many partitions a transaction may have, of all groups: each is a lock. */
#define TAKEN_MAX 32

/* This transaction fetches for a group: from then on it cannot be prepared. */
extern void taken_begin(void);

extern int	taken_count(void);

/* Is one of them of that group? */
extern bool taken_any_of(uint64 id);

/* Where a partition stood when it was taken; false if it was not. */
extern bool taken_from(uint64 id, int partition, GroupKey *key);

/*
 * It was locked, by the present (sub)transaction; nothing is entered twice.  At the
 * end of that, who waits for the group in the database of the slot is woken.
 */
extern void taken_add(DatabaseSlot *slot, uint64 id, int partition);

/* And stands there, as was read since. */
extern void taken_begins(uint64 id, int partition, GroupKey from);

/* It was moved to a key, by the present (sub)transaction. */
extern void taken_moved(uint64 id, int partition, GroupKey key);

/* It had been moved after the snapshot of the transaction, as it was taken. */
extern void taken_note_unseen(uint64 id, int partition);
extern bool taken_is_unseen(uint64 id, int partition);

/* It was let go again, without having been moved. */
extern void taken_remove(uint64 id, int partition);

#endif							/* CALVIN_CONSUMER_TAKEN_H */
