/*
 * cursor.c
 *	  seq_commit, seq_rewind, seq_drop_cursor.
 */
#include "compat.h"

#include "access/xlog.h"
#include "consumer/owned.h"
#include "consumer/stream.h"
#include "log/cursors.h"
#include "log/hint.h"
#include "miscadmin.h"
#include "sql/args.h"

CALVIN_FUNCTION(seq_commit);
CALVIN_FUNCTION(seq_rewind);
CALVIN_FUNCTION(seq_drop_cursor);

static void
refuse_on_standby(const char *function)
{
	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("cannot execute %s() during recovery", function),
				 errhint("Durable cursors are stored on the primary.")));
}

static text *
name_argument(FunctionCallInfo fcinfo)
{
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("name must not be null")));
	return PG_GETARG_TEXT_PP(0);
}

/* seq_commit(name) -> how many cursors were moved */
Datum
seq_commit(PG_FUNCTION_ARGS)
{
	text	   *name = name_argument(fcinfo);

	shmem_require();
	refuse_on_standby("seq_commit");
	/* whose the name is comes first; stream_commit() looks by itself */
	if (consumer_find(arg_name(name, "subscription")) == NULL)
		(void) owned_check(arg_name(name, "subscription"), 0, NULL);
	PG_RETURN_INT32(stream_commit(arg_consumer(name)));
}

/* seq_rewind(name) */
Datum
seq_rewind(PG_FUNCTION_ARGS)
{
	text	   *name = name_argument(fcinfo);

	shmem_require();
	stream_rewind(arg_consumer(name));
	PG_RETURN_VOID();
}

/* seq_drop_cursor(name, vshards) -> how many were forgotten */
Datum
seq_drop_cursor(PG_FUNCTION_ARGS)
{
	char	   *name = arg_name(name_argument(fcinfo), "subscription");
	uint16	   *vshards = NULL;
	int			n = 0;

	refuse_on_standby("seq_drop_cursor");
	PreventCommandIfReadOnly("seq_drop_cursor()");
	registry_lock_name(name, RowExclusiveLock);
	if (owned_check(name, 0, NULL) != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("consumer \"%s\" is registered, and has its cursors for as long",
						name),
				 errhint_for_role("Use seq_unregister().")));
	if (!PG_ARGISNULL(1))
		vshards = arg_vshards(PG_GETARG_ARRAYTYPE_P(1), &n);
	PG_RETURN_INT32(cursors_drop(name, n, vshards));
}
