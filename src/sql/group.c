/*
 * group.c
 *	  seq_create_group and seq_drop_group.
 */
#include "compat.h"

#include "catalog/pg_type_d.h"
#include "consumer/group.h"
#include "log/begin_at_end.h"
#include "log/group_positions.h"
#include "log/registry.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "sql/args.h"
#include "sql/registering.h"
#include "utils/array.h"
#include "utils/builtins.h"

CALVIN_FUNCTION(seq_create_group);
CALVIN_FUNCTION(seq_drop_group);

static text *
name_argument(FunctionCallInfo fcinfo)
{
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("name must not be null")));
	return PG_GETARG_TEXT_PP(0);
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
		/* the log's names are UTF-8: what cannot be, nobody could use, nor look at */
		(void) pg_server_to_any(collections[i], (int) strlen(collections[i]), PG_UTF8);
	}
	return collections;
}

/* Not before the commit: nobody else knows of the group yet. */
static void
move(const Registration *registration, uint64 epoch)
{
	GroupStore	store;

	group_store_begin(&store, registration->id, true);
	for (int i = 0; i < registration->partitions; i++)
	{
		GroupPosition position;

		CHECK_FOR_INTERRUPTS();
		group_store_read(&store, i, &position);
		/* unless it was used in the meantime, by this transaction */
		if (position.version != 1)
			continue;
		position.next.epoch = epoch;
		group_store_write(&store, i, &position);
	}
	group_store_end(&store);
}

/* seq_create_group(name, partitions, vshards, collections, from_epoch) */
Datum
seq_create_group(PG_FUNCTION_ARGS)
{
	Registration registration = {0};
	char	   *name = arg_name(name_argument(fcinfo), "group");
	uint64		start;

	registering_refuse("seq_create_group()");
	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("partitions must not be null")));
	registration.partitions = PG_GETARG_INT32(1);
	if (registration.partitions < 1 || registration.partitions > REGISTRATION_PARTITIONS_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("partitions must be between 1 and %d", REGISTRATION_PARTITIONS_MAX)));
	namestrcpy(&registration.name, name);
	registration.kind = REGISTRATION_GROUP;
	registration.owner = GetUserId();
	if (!PG_ARGISNULL(2))
	{
		registration.vshards = registering_vshards(PG_GETARG_ARRAYTYPE_P(2),
												   &registration.nvshards);
		/* a vshard's order is kept by its being in one of them */
		registration.partitions = Min(registration.partitions, registration.nvshards);
	}
	if (!PG_ARGISNULL(3))
		registration.collections = collections_argument(PG_GETARG_ARRAYTYPE_P(3),
														&registration.ncollections);
	start = registering_start(PG_ARGISNULL(4) ? NULL : &fcinfo->args[4].value);
	registering_add(&registration);
	group_positions_create(registration.id, registration.partitions, start);
	if (PG_ARGISNULL(4))
		begin_at_end(&registration, start, move);
	PG_RETURN_VOID();
}

/* seq_drop_group(name) */
Datum
seq_drop_group(PG_FUNCTION_ARGS)
{
	char	   *name = arg_name(name_argument(fcinfo), "group");
	Registration *registration;

	registering_refuse("seq_drop_group()");
	registration = registry_require(name, REGISTRATION_GROUP);
	/* whoever fetches for it has ended then, and nobody begins */
	registry_lock(registration->id, ExclusiveLock);
	if (!registry_remove(registration))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("there is no group \"%s\"", name),
				 errdetail("It was dropped by another transaction.")));
	group_forget(registration);
	PG_RETURN_VOID();
}
