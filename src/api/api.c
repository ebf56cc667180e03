/*
 * api.c
 *	  The C interface of calvin_seq.h: consumers inside the server.
 *
 * A CalvinConsumer is a Consumer.  It is looked up by its name at the
 * beginning of each transaction, since it may have been taken over meanwhile.
 */
#include "compat.h"

#include "access/xlog.h"
#include "consumer/start.h"
#include "consumer/stream.h"
#include "log/attach.h"
#include "wire/wire.h"

#define CALVIN_API extern PGDLLEXPORT
#include "api/calvin_seq.h"

StaticAssertDecl(CALVIN_VSHARDS == WIRE_VSHARDS, "one number of vshards");

int
calvin_api_version(void)
{
	return CALVIN_API_VERSION;
}

/* The different ones, in a palloc'd array. */
static uint16 *
distinct_vshards(const uint16 *vshards, int *n)
{
	bool		seen[WIRE_VSHARDS] = {false};
	uint16	   *result = palloc(sizeof(uint16) * WIRE_VSHARDS);
	int			count = 0;

	if (*n <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("at least one vshard is needed")));
	for (int i = 0; i < *n; i++)
	{
		if (vshards[i] >= WIRE_VSHARDS)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("vshard %u is out of range", vshards[i]),
					 errdetail("Vshards are numbered 0 to %d.",
							   WIRE_VSHARDS - 1)));
		if (!seen[vshards[i]])
			result[count++] = vshards[i];
		seen[vshards[i]] = true;
	}
	*n = count;
	return result;
}

static Consumer *
require_consumer(const char *name)
{
	shmem_require();
	consumer_check_name(name, "subscription");
	return consumer_require(name);
}

void
calvin_subscribe(const char *name, const uint16 *vshards, int n,
				 const CalvinOptions *options)
{
	static const CalvinOptions defaults;
	uint16	   *distinct;
	Size		ring_size;
	StreamKey	from;

	consumer_check_name(name, "subscription");
	distinct = distinct_vshards(vshards, &n);
	if (options == NULL)
		options = &defaults;
	if (options->from != NULL && options->bare)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a first key needs a lossless subscription"),
				 errdetail("The bare queue holds what is appended from now on.")));
	if (options->from != NULL && options->from->epoch > WIRE_MAX_EPOCH + 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("epoch " UINT64_FORMAT " is out of range",
						options->from->epoch)));
	ring_size = options->queue_size == 0 ? queue_default_ring() :
		queue_check_ring((int64) Min(options->queue_size, (Size) PG_INT64_MAX));
	if (options->from != NULL)
	{
		from.epoch = options->from->epoch;
		from.position = options->from->position;
	}
	start_streams(attach_database(), name, n, distinct, ring_size,
					 !options->bare, options->from == NULL ? NULL : &from);
	pfree(distinct);
}

CalvinConsumer *
calvin_begin(const char *name)
{
	Consumer   *consumer = require_consumer(name);

	stream_begin(consumer);
	return (CalvinConsumer *) consumer;
}

bool
calvin_next(CalvinConsumer *consumer, CalvinTxn *txn)
{
	Delivery	delivery;

	if (!stream_next((Consumer *) consumer, &delivery))
		return false;
	txn->key.epoch = delivery.epoch;
	txn->key.position = delivery.position;
	txn->vshard = delivery.vshard;
	txn->vshard_count = delivery.vshard_count;
	txn->vshards = delivery.vshards;
	txn->epoch_system_ms = delivery.epoch_system_ms;
	txn->tenant_id = delivery.tenant_id;
	txn->plans.data = delivery.plans.data;
	txn->plans.len = delivery.plans.len;
	txn->tx_class.data = delivery.tx_class.data;
	txn->tx_class.len = delivery.tx_class.len;
	return true;
}

void
calvin_end(CalvinConsumer *consumer)
{
	consumer_report((Consumer *) consumer);
}

bool
calvin_position(const char *name, uint16 vshard, CalvinKey *next)
{
	Consumer   *consumer = consumer_find(name);
	StreamKey	key;

	if (consumer == NULL || vshard >= WIRE_VSHARDS ||
		!stream_position(consumer, vshard, &key))
		return false;
	next->epoch = key.epoch;
	next->position = key.position;
	return true;
}

int
calvin_commit(const char *name)
{
	Consumer   *consumer = require_consumer(name);

	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("cannot execute %s() during recovery", "calvin_commit"),
				 errhint("Durable cursors are stored on the primary.")));
	return stream_commit(consumer);
}

void
calvin_rewind(const char *name)
{
	stream_rewind(require_consumer(name));
}

int
calvin_unsubscribe(const char *name, const uint16 *vshards, int n)
{
	Consumer   *consumer = consumer_find(name);
	uint16	   *distinct = NULL;
	int			ended;

	if (consumer == NULL)
		return 0;
	if (vshards != NULL)
		distinct = distinct_vshards(vshards, &n);
	ended = consumer_unsubscribe(consumer, n, distinct);
	if (distinct != NULL)
		pfree(distinct);
	return ended;
}
