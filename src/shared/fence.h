/*
 * fence.h
 *	  What a truncation under way is about to remove.
 *
 * Who truncates raises the fence, then looks who needs the log; who begins to
 * need something of it makes that known, then looks at the fence.  So either
 * the one or the other sees.
 */
#ifndef CALVIN_SHARED_FENCE_H
#define CALVIN_SHARED_FENCE_H

#include "compat.h"

#include "shared/shmem.h"

/* For who has the truncations' lock: epochs up to this one are to go. */
extern void fence_raise(DatabaseSlot *database, uint64 through);

/* So many epochs, from 0 on, are still to go; 0: the fence is down. */
extern void fence_lower(DatabaseSlot *database, uint64 epochs);

/* Is an epoch about to go? */
static inline bool
fence_covers(DatabaseSlot *database, uint64 epoch)
{
	return epoch < pg_atomic_read_u64(&database->fence);
}

/* How often it was raised. */
static inline uint64
fence_raised(DatabaseSlot *database)
{
	return pg_atomic_read_u64(&database->fence_raised);
}

#endif							/* CALVIN_SHARED_FENCE_H */
