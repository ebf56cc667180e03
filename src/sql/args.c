/*
 * args.c
 *	  Arguments that several SQL functions take, checked.
 */
#include "compat.h"

#include <limits.h>
#include <math.h>

#include "common/int.h"
#include "shared/clock.h"
#include "sql/args.h"
#include "utils/builtins.h"
#include "wire/wire.h"

/* The longest wait that is counted: beyond it, nothing comes in time. */
#define MAX_TIMEOUT_MSECS (10.0 * 365 * USECS_PER_DAY)

uint16
arg_vshard(int32 vshard)
{
	if (vshard < 0 || vshard >= WIRE_VSHARDS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("vshard %d is out of range", vshard),
				 errdetail("Vshards are numbered 0 to %d.", WIRE_VSHARDS - 1),
				 errhint("seq_vshard(collection) gives the vshard of a collection.")));
	return (uint16) vshard;
}

uint64
arg_epoch(int64 epoch)
{
	if (epoch < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("epoch " INT64_FORMAT " is negative", epoch),
				 errdetail("Epochs are numbered from 0.")));
	return (uint64) epoch;
}

uint64
arg_log_index(int64 log_index)
{
	if (log_index < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("log_index " INT64_FORMAT " is negative", log_index),
				 errdetail("The log is numbered from 1; 0 is its beginning.")));
	return (uint64) log_index;
}

uint16 *
arg_vshards(ArrayType *array, int *n)
{
	bool		seen[WIRE_VSHARDS] = {false};
	uint16	   *vshards = palloc(sizeof(uint16) * WIRE_VSHARDS);
	int			nelements;
	const int32 *elements;

	nelements = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
	if (nelements == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("no vshards given"),
				 errhint("Pass an array of at least one vshard, for example ARRAY[7].")));
	if (ARR_NDIM(array) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
				 errmsg("vshards must be a one-dimensional array")));
	if (array_contains_nulls(array))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("vshards must not contain nulls")));

	*n = 0;
	elements = (const int32 *) ARR_DATA_PTR(array);
	for (int i = 0; i < nelements; i++)
	{
		uint16		vshard = arg_vshard(elements[i]);

		if (!seen[vshard])
			vshards[(*n)++] = vshard;
		seen[vshard] = true;
	}
	return vshards;
}

char *
arg_name(text *name, const char *what)
{
	char	   *result = text_to_cstring(name);

	consumer_check_name(result, what);
	return result;
}

Consumer *
arg_consumer(text *name)
{
	return consumer_require(arg_name(name, "subscription"));
}

int64
arg_deadline(Interval *timeout)
{
	double		usecs;

	/* in floating point: an infinite or absurd interval must not overflow */
	usecs = (double) timeout->time +
		(timeout->day + (double) timeout->month * DAYS_PER_MONTH) *
		(double) USECS_PER_DAY;
	if (usecs < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("timeout must not be negative")));
	return clock_ms() + (int64) Min(ceil(usecs / 1000), MAX_TIMEOUT_MSECS);
}

Datum
arg_timestamp_of_ms(int64 ms, bool *isnull)
{
	const int64 epoch = (int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) *
		(USECS_PER_DAY / 1000);
	int64		since;

	*isnull = pg_sub_s64_overflow(ms, epoch, &since) ||
		pg_mul_s64_overflow(since, 1000, &since) || !IS_VALID_TIMESTAMP(since);
	return *isnull ? (Datum) 0 : TimestampTzGetDatum(since);
}
