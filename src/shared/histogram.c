/*
 * histogram.c
 *	  Durations in buckets that grow by an eighth.
 *
 * Bucket b < 8 holds exactly b microseconds; above, a bucket is named by the
 * position of the highest bit and the three bits below it.
 */
#include "compat.h"

#include "port/pg_bitutils.h"
#include "shared/histogram.h"

#define SUB_BITS 3

StaticAssertDecl((41 - SUB_BITS) << SUB_BITS <= HISTOGRAM_BUCKETS,
				 "the last octave has buckets");

static int
bucket_of(uint64 usecs)
{
	int			top;

	if (usecs < (1 << SUB_BITS))
		return (int) usecs;
	top = pg_leftmost_one_pos64(usecs);
	if (top >= 40)
		return HISTOGRAM_BUCKETS - 1;
	return ((top - SUB_BITS + 1) << SUB_BITS) +
		(int) ((usecs >> (top - SUB_BITS)) & ((1 << SUB_BITS) - 1));
}

/* The largest duration in a bucket. */
static uint64
bucket_limit(int bucket)
{
	int			top;
	uint64		sub;

	if (bucket < (1 << SUB_BITS))
		return bucket;
	top = (bucket >> SUB_BITS) + SUB_BITS - 1;
	sub = bucket & ((1 << SUB_BITS) - 1);
	return ((UINT64CONST(1) << top) | (sub << (top - SUB_BITS))) +
		(UINT64CONST(1) << (top - SUB_BITS)) - 1;
}

void
histogram_init(Histogram *histogram)
{
	pg_atomic_init_u64(&histogram->max, 0);
	for (int i = 0; i < HISTOGRAM_BUCKETS; i++)
		pg_atomic_init_u64(&histogram->buckets[i], 0);
}

void
histogram_add(Histogram *histogram, int64 usecs)
{
	uint64		value = usecs < 0 ? 0 : (uint64) usecs;
	pg_atomic_uint64 *bucket = &histogram->buckets[bucket_of(value)];

	/* one writer: no need for the price of an atomic addition */
	pg_atomic_write_u64(bucket, pg_atomic_read_u64(bucket) + 1);
	if (value > pg_atomic_read_u64(&histogram->max))
		pg_atomic_write_u64(&histogram->max, value);
}

double
histogram_quantile(Histogram *histogram, Histogram *baseline, double fraction)
{
	uint64		counts[HISTOGRAM_BUCKETS];
	uint64		total = 0;
	uint64		seen = 0;
	uint64		max = pg_atomic_read_u64(&histogram->max);

	for (int i = 0; i < HISTOGRAM_BUCKETS; i++)
	{
		counts[i] = pg_atomic_read_u64(&histogram->buckets[i]) -
			pg_atomic_read_u64(&baseline->buckets[i]);
		total += counts[i];
	}
	if (total == 0)
		return -1;
	for (int i = 0; i < HISTOGRAM_BUCKETS; i++)
	{
		seen += counts[i];
		if (seen >= fraction * total)
			return (double) Min(bucket_limit(i), max);
	}
	return (double) max;
}

void
histogram_rebase(Histogram *histogram, Histogram *baseline)
{
	for (int i = 0; i < HISTOGRAM_BUCKETS; i++)
		pg_atomic_write_u64(&baseline->buckets[i],
							pg_atomic_read_u64(&histogram->buckets[i]));
	pg_atomic_write_u64(&histogram->max, 0);
}
