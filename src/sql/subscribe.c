/*
 * subscribe.c
 *	  seq_subscribe and seq_unsubscribe.
 */
#include "compat.h"

#include "consumer/start.h"
#include "log/attach.h"
#include "log/hint.h"
#include "log/registry.h"
#include "shared/settings.h"
#include "sql/args.h"
#include "utils/builtins.h"

CALVIN_FUNCTION(seq_subscribe);
CALVIN_FUNCTION(seq_unsubscribe);

/* The ring size argument in bytes; NULL takes the setting's. */
static Size
arg_ring_size(FunctionCallInfo fcinfo, int number)
{
	if (PG_ARGISNULL(number))
		return queue_default_ring();
	return queue_check_ring(PG_GETARG_INT32(number));
}

static void
refuse_null(FunctionCallInfo fcinfo, int number, const char *name)
{
	if (PG_ARGISNULL(number))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null", name)));
}

/*
 * Behind a pooler that hands sessions from client to client, a subscription
 * would be that of whoever calls next under its name: nothing else in the calls
 * tells clients apart.  So the administrator can say that there is such a pooler,
 * or that names have to be registered, which keeps others from taking them.
 */
static void
require_allowed(const char *name)
{
	if (calvin_subscriptions == SUBSCRIPTIONS_OFF)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("subscriptions are turned off in this session"),
				 errdetail("calvin_seq.subscriptions is off, as it should be behind a connection pooler in transaction or statement mode: another client would receive what this one subscribes to."),
				 errhint_for_role("Use a group there: seq_create_group() and seq_fetch(). Or connect without the pooler, or in its session mode, as a role for which it is on.")));
	if (calvin_subscriptions == SUBSCRIPTIONS_REGISTERED && registry_find(name) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("consumer \"%s\" is not registered", name),
				 errdetail("calvin_seq.subscriptions is \"registered\", so that no two consumers take one name by mistake."),
				 errhint_for_role("Use seq_register(name, vshards) once, under a name of its own.")));
}

/*
 * seq_subscribe(vshards, name, from_epoch, from_position, queue_size,
 * lossless)
 */
Datum
seq_subscribe(PG_FUNCTION_ARGS)
{
	DatabaseSlot *database;
	char	   *name;
	uint16	   *vshards;
	int			n;
	Size		ring_size;
	bool		lossless;
	StreamKey	from = {0, 0};

	refuse_null(fcinfo, 0, "vshards");
	refuse_null(fcinfo, 1, "name");
	refuse_null(fcinfo, 3, "from_position");
	refuse_null(fcinfo, 5, "lossless");
	vshards = arg_vshards(PG_GETARG_ARRAYTYPE_P(0), &n);
	name = arg_name(PG_GETARG_TEXT_PP(1), "subscription");
	ring_size = arg_ring_size(fcinfo, 4);
	lossless = PG_GETARG_BOOL(5);
	if (!PG_ARGISNULL(2))
	{
		if (!lossless)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("from_epoch needs a lossless subscription"),
					 errdetail("The bare queue holds what is appended from now on."),
					 errhint_for_role("Use seq_replay for what is in the log already.")));
		if (PG_GETARG_INT32(3) < 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("from_position must not be negative")));
		from.epoch = arg_epoch(PG_GETARG_INT64(2));
		from.position = (uint32) PG_GETARG_INT32(3);
	}

	database = attach_database();
	require_allowed(name);
	start_streams(database, name, n, vshards, ring_size, lossless,
					 PG_ARGISNULL(2) ? NULL : &from);
	PG_RETURN_VOID();
}

/* seq_unsubscribe(vshards, name) -> how many subscriptions ended */
Datum
seq_unsubscribe(PG_FUNCTION_ARGS)
{
	Consumer   *consumer;
	uint16	   *vshards = NULL;
	int			n = 0;

	shmem_require();
	refuse_null(fcinfo, 1, "name");
	if (!PG_ARGISNULL(0))
		vshards = arg_vshards(PG_GETARG_ARRAYTYPE_P(0), &n);
	consumer = consumer_find(arg_name(PG_GETARG_TEXT_PP(1), "subscription"));
	if (consumer == NULL)
		PG_RETURN_INT32(0);
	PG_RETURN_INT32(consumer_unsubscribe(consumer, n, vshards));
}
