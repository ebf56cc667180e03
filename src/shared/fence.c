/*
 * fence.c
 *	  What a truncation under way is about to remove.
 */
#include "compat.h"

#include "shared/fence.h"

void
fence_raise(DatabaseSlot *database, uint64 through)
{
	uint64		fence = pg_atomic_read_u64(&database->fence);

	pg_atomic_write_u64(&database->fence, Max(fence, through + 1));
	/* after the fence: whoever sees the same number has seen all there is */
	pg_atomic_fetch_add_u64(&database->fence_raised, 1);
}

void
fence_lower(DatabaseSlot *database, uint64 epochs)
{
	/* what was done before is visible by now */
	pg_memory_barrier();
	pg_atomic_write_u64(&database->fence, epochs);
}
