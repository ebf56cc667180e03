/*
 * clock.h
 *	  Time for waiting: monotonic, the same in all processes, not disturbed by
 *	  the wall clock being set.
 */
#ifndef CALVIN_SHARED_CLOCK_H
#define CALVIN_SHARED_CLOCK_H

#include "compat.h"

#include <limits.h>
#include <time.h>

/* Microseconds since some moment, the same for all processes. */
static inline int64
clock_us(void)
{
	struct timespec now;

	/* not by instr_time.h, whose clock is a setting of each session since 19 */
	(void) clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64) now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* The same in milliseconds. */
static inline int64
clock_ms(void)
{
	return clock_us() / 1000;
}

/* Milliseconds left until a deadline, as WaitLatch() takes them; 0 = over. */
static inline long
deadline_left(int64 deadline)
{
	int64		left = deadline - clock_ms();

	return (long) Min(Max(left, 0), INT_MAX);
}

#endif							/* CALVIN_SHARED_CLOCK_H */
