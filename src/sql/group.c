/*
 * group.c
 *	  seq_create_group and seq_drop_group.
 */
#include "compat.h"

#include "access/xlog.h"
#include "catalog/pg_type_d.h"
#include "log/access.h"
#include "log/group_positions.h"
#include "log/needs.h"
#include "log/parked.h"
#include "log/reader.h"
#include "log/registry.h"
#include "miscadmin.h"
#include "sql/args.h"
#include "utils/array.h"
#include "utils/builtins.h"

CALVIN_FUNCTION(seq_create_group);
CALVIN_FUNCTION(seq_drop_group);

#define MAX_PARTITIONS 1024

static text *
name_argument(FunctionCallInfo fcinfo)
{
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("name must not be null")));
	return PG_GETARG_TEXT_PP(0);
}

static void
refuse_on_standby(const char *function)
{
	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("cannot execute %s() during recovery", function),
				 errhint("Groups are made on the primary.")));
	PreventCommandIfReadOnly(function);
}

static int
compare_vshards(const void *a, const void *b)
{
	return (int) *(const uint16 *) a - (int) *(const uint16 *) b;
}

static char **
collections_argument(ArrayType *array, int *n)
{
	Datum	   *elements;
	bool	   *nulls;
	char	  **collections;

	if (ARR_NDIM(array) > 1)
		ereport(ERROR,
				(errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
				 errmsg("collections must be a one-dimensional array")));
	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, n);
	if (*n == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("no collections given"),
				 errhint("Pass names, or prefixes that end in %%; leave the argument out for all collections.")));
	collections = palloc(sizeof(char *) * *n);
	for (int i = 0; i < *n; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("collections must not contain nulls")));
		collections[i] = TextDatumGetCString(elements[i]);
	}
	return collections;
}

/* The epoch that comes after what is in the log now. */
static uint64
next_epoch_of_log(void)
{
	LogAccess	access;
	int64		last;

	log_access_begin(&access, 0, ACCESS_LATEST);
	last = log_last_epoch(&access);
	log_access_end(&access);
	return (uint64) (last + 1);
}

static uint64
start_argument(FunctionCallInfo fcinfo, int number, const char *name)
{
	uint64		next = next_epoch_of_log();
	uint64		start;

	if (PG_ARGISNULL(number))
		return next;
	start = arg_epoch(PG_GETARG_INT64(number));
	if (start > next)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("from_epoch " UINT64_FORMAT " is beyond the end of the log", start),
				 errdetail("The next epoch of the log is " UINT64_FORMAT ".", next),
				 errhint("Leave from_epoch out to begin at the end of the log.")));
	needs_require(start, name);
	return start;
}

/* seq_create_group(name, partitions, vshards, collections, from_epoch) */
Datum
seq_create_group(PG_FUNCTION_ARGS)
{
	Registration registration = {0};
	char	   *name = arg_name(name_argument(fcinfo));
	uint64		start;

	refuse_on_standby("seq_create_group");
	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("partitions must not be null")));
	registration.partitions = PG_GETARG_INT32(1);
	if (registration.partitions < 1 || registration.partitions > MAX_PARTITIONS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("partitions must be between 1 and %d", MAX_PARTITIONS)));
	namestrcpy(&registration.name, name);
	registration.kind = REGISTRATION_GROUP;
	registration.owner = GetUserId();
	if (!PG_ARGISNULL(2))
	{
		registration.vshards = arg_vshards(PG_GETARG_ARRAYTYPE_P(2),
										   &registration.nvshards);
		qsort(registration.vshards, registration.nvshards, sizeof(uint16),
			  compare_vshards);
		/* a vshard's order is kept by its being in one of them */
		registration.partitions = Min(registration.partitions, registration.nvshards);
	}
	if (!PG_ARGISNULL(3))
		registration.collections = collections_argument(PG_GETARG_ARRAYTYPE_P(3),
														&registration.ncollections);
	start = start_argument(fcinfo, 4, name);
	registry_add(&registration);
	group_positions_create(registration.id, registration.partitions, start);
	PG_RETURN_VOID();
}

/* seq_drop_group(name) */
Datum
seq_drop_group(PG_FUNCTION_ARGS)
{
	char	   *name = arg_name(name_argument(fcinfo));
	Registration *registration;

	refuse_on_standby("seq_drop_group");
	registration = registry_require(name, REGISTRATION_GROUP);
	/* whoever fetches for it has ended then, and nobody begins */
	registry_lock(registration->id, ExclusiveLock);
	if (!registry_remove(registration))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("there is no group \"%s\"", name),
				 errdetail("It was dropped by another transaction.")));
	group_positions_drop(registration->id, registration->partitions);
	parked_drop(registration->id);
	PG_RETURN_VOID();
}
