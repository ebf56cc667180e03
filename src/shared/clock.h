/*
 * clock.h
 *	  Time for waiting: monotonic, the same in all processes, not disturbed by
 *	  the wall clock being set.
 */
#ifndef CALVIN_SHARED_CLOCK_H
#define CALVIN_SHARED_CLOCK_H

#include "compat.h"

#include <limits.h>

#include "portability/instr_time.h"

/* Milliseconds since some moment, the same for all processes. */
static inline int64
clock_ms(void)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	return (int64) INSTR_TIME_GET_MILLISEC(now);
}

/* The same in microseconds. */
static inline int64
clock_us(void)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	return (int64) INSTR_TIME_GET_MICROSEC(now);
}

/* Milliseconds left until a deadline, as WaitLatch() takes them; 0 = over. */
static inline long
deadline_left(int64 deadline)
{
	int64		left = deadline - clock_ms();

	return (long) Min(Max(left, 0), INT_MAX);
}

#endif							/* CALVIN_SHARED_CLOCK_H */
