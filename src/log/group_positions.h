/*
 * group_positions.h
 *	  How far each partition of a group has got: the table seq_group_positions.
 *
 * Whoever changes a position holds the lock on the partition (registry.h).  The
 * positions of an id only go forward.
 */
#ifndef CALVIN_LOG_GROUP_POSITIONS_H
#define CALVIN_LOG_GROUP_POSITIONS_H

#include "compat.h"

#include "datatype/timestamp.h"
#include "log/insert.h"
#include "log/newest.h"
#include "log/owner.h"
#include "wire/wire.h"

/* The place of a transaction in what a group gets: one of several vshards comes to each. */
typedef struct GroupKey
{
	uint64		epoch;
	uint32		position;
	uint16		vshard;
} GroupKey;

static inline int
group_key_compare(GroupKey a, GroupKey b)
{
	if (a.epoch != b.epoch)
		return a.epoch < b.epoch ? -1 : 1;
	if (a.position != b.position)
		return a.position < b.position ? -1 : 1;
	return (int) a.vshard - (int) b.vshard;
}

static inline bool
group_key_less(GroupKey a, GroupKey b)
{
	return group_key_compare(a, b) < 0;
}

/* The first key behind another one. */
static inline GroupKey
group_key_behind(GroupKey key)
{
	if (key.vshard < WIRE_VSHARDS - 1)
		key.vshard++;
	else
	{
		key.vshard = 0;
		key.position++;
	}
	return key;
}

typedef struct GroupPosition
{
	GroupKey	next;		/* the first key not processed */
	uint64		version;
	TimestampTz moved_at;
	uint64		delivered;	/* transactions that were processed, parked ones not */
	uint32		attempts;	/* of a handler, that failed at the one that is next */
	uint64		retried;	/* all of those there were */
	TimestampTz retry_at;	/* not to be tried before, 0: at once */
	const char *error;		/* of the last attempt, or NULL; palloc'd */
	bool		in_snapshot; /* of the transaction, in the higher isolation levels */
} GroupPosition;

/* Reading and storing, while open. */
typedef struct GroupStore
{
	uint64		id;
	bool		writes;
	NewestScan	scan;
	Insert		insert;
	LogIdentity self;

	/*
	 * Of each partition a version that was seen, 0: none, or NULL.  A newer one is
	 * found without those before it; reading keeps it up to date.
	 */
	uint64	   *seen;
} GroupStore;

/* "writes": as the table's owner; between that and the end nobody else's code may run. */
extern void group_store_begin(GroupStore *store, uint64 id, bool writes);

/*
 * The position as it is committed now, or as this transaction has left it; an error
 * if there is none.
 */
extern void group_store_read(GroupStore *store, int partition,
							 GroupPosition *position);

/* The same; false if there is none. */
extern bool group_store_find(GroupStore *store, int partition,
							 GroupPosition *position);

/* Put the next version in the place of the one that was read last, of this partition. */
extern void group_store_write(GroupStore *store, int partition,
							  const GroupPosition *position);
extern void group_store_end(GroupStore *store);

/* All partitions of a new group begin there. */
extern void group_positions_create(uint64 id, int partitions, uint64 epoch);

/* The first version of those of another one; what it had to retry, it tries at once. */
extern void group_positions_put(uint64 id, int partitions, const GroupPosition *positions);

/* Forget all of them. */
extern void group_positions_drop(uint64 id, int partitions);

#endif							/* CALVIN_LOG_GROUP_POSITIONS_H */
