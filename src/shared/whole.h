/*
 * whole.h
 *	  Words of shared memory that become visible in one step: a sequence lock.
 *
 * A writer makes the version odd, writes the words and makes it even again; a
 * reader copies the words and starts over if the version was odd or has moved.
 * There is one writer at a time, which the caller sees to, and it cannot fail in
 * between; so a reader waits no longer than the few stores take.  A crash there
 * restarts the whole server, and with it the memory.
 */
#ifndef CALVIN_SHARED_WHOLE_H
#define CALVIN_SHARED_WHOLE_H

#include "compat.h"

#include "port/atomics.h"
#include "shared/pause.h"
#include "storage/s_lock.h"

static inline void
whole_init(pg_atomic_uint64 *version, pg_atomic_uint64 *words, size_t n)
{
	pg_atomic_init_u64(version, 0);
	for (size_t i = 0; i < n; i++)
		pg_atomic_init_u64(&words[i], 0);
}

static inline void
whole_write(pg_atomic_uint64 *version, pg_atomic_uint64 *words, size_t n,
			const void *from)
{
	const uint64 *values = (const uint64 *) from;
	uint64		before = pg_atomic_read_u64(version);

	Assert(before % 2 == 0);
	pg_atomic_write_u64(version, before + 1);
	pg_write_barrier();
	for (size_t i = 0; i < n; i++)
	{
		pg_atomic_write_u64(&words[i], values[i]);
		if (i == 1)
			PAUSE_POINT("whole: half written");
	}
	pg_write_barrier();
	pg_atomic_write_u64(version, before + 2);
}

static inline void
whole_read(pg_atomic_uint64 *version, pg_atomic_uint64 *words, size_t n, void *to)
{
	uint64	   *values = (uint64 *) to;

	for (;;)
	{
		uint64		before = pg_atomic_read_u64(version);

		pg_read_barrier();
		if (before % 2 == 0)
		{
			for (size_t i = 0; i < n; i++)
			{
				values[i] = pg_atomic_read_u64(&words[i]);
				if (i == 1)
					PAUSE_POINT("whole: half read");
			}
			pg_read_barrier();
			if (pg_atomic_read_u64(version) == before)
				return;
		}
		SPIN_DELAY();
	}
}

#endif							/* CALVIN_SHARED_WHOLE_H */
