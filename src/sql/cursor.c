/*
 * cursor.c
 *	  seq_commit, seq_rewind, seq_drop_cursor.
 */
#include "compat.h"

#include "access/xlog.h"
#include "log/cursors.h"
#include "log/stream.h"
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
	Consumer   *consumer;
	StreamCursor *cursors;
	int			n;

	shmem_require();
	refuse_on_standby("seq_commit");
	consumer = arg_consumer(name);
	stream_begin(consumer);
	cursors = palloc(sizeof(StreamCursor) * WIRE_VSHARDS);
	n = consumer_get_cursors(consumer, cursors);
	if (consumer_has_lost(consumer) ||
		!cursors_store(consumer_name(consumer), n, cursors))
	{
		consumer_cursors_lost(consumer);
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("the durable cursor \"%s\" was moved by another session",
						consumer_name(consumer)),
				 errdetail("What this session received since it last committed was, or will be, processed there."),
				 errhint("Roll back, and receive again.")));
	}
	consumer_cursors_stored(consumer, n, cursors);
	PG_RETURN_INT32(n);
}

/* seq_rewind(name) */
Datum
seq_rewind(PG_FUNCTION_ARGS)
{
	text	   *name = name_argument(fcinfo);
	Consumer   *consumer;

	shmem_require();
	consumer = arg_consumer(name);
	stream_begin(consumer);
	consumer_rewind(consumer);
	PG_RETURN_VOID();
}

/* seq_drop_cursor(name, vshards) -> how many were forgotten */
Datum
seq_drop_cursor(PG_FUNCTION_ARGS)
{
	char	   *name = arg_name(name_argument(fcinfo));
	uint16	   *vshards = NULL;
	int			n = 0;

	refuse_on_standby("seq_drop_cursor");
	if (!PG_ARGISNULL(1))
		vshards = arg_vshards(PG_GETARG_ARRAYTYPE_P(1), &n);
	PG_RETURN_INT32(cursors_drop(name, n, vshards));
}
