/*
 * histogram.h
 *	  Durations in buckets that grow by an eighth: quantiles within 12.5 %.
 */
#ifndef CALVIN_SHARED_HISTOGRAM_H
#define CALVIN_SHARED_HISTOGRAM_H

#include "compat.h"

#include "port/atomics.h"

/* eight buckets an octave, to 2^40 microseconds (12 days) */
#define HISTOGRAM_BUCKETS 304

/* One writer adds; anyone reads.  Counters only grow. */
typedef struct Histogram
{
	pg_atomic_uint64 max;
	pg_atomic_uint64 buckets[HISTOGRAM_BUCKETS];
} Histogram;

extern void histogram_init(Histogram *histogram);

/* Negative durations (clock set back, appended_at in the future) count as 0. */
extern void histogram_add(Histogram *histogram, int64 usecs);

/*
 * The smallest duration that at least "fraction" of those added since
 * "baseline" was copied do not exceed, or -1 when there are none.
 */
extern double histogram_quantile(Histogram *histogram, Histogram *baseline,
								 double fraction);

/* Remember the present counts as a baseline, and forget the maximum. */
extern void histogram_rebase(Histogram *histogram, Histogram *baseline);

#endif							/* CALVIN_SHARED_HISTOGRAM_H */
