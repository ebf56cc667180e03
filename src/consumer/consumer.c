/*
 * consumer.c
 *	  This session as a consumer: the life of its subscriptions.
 */
#include "compat.h"

#include "consumer/consumer.h"
#include "consumer/queues.h"
#include "consumer/state.h"
#include "log/hint.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/memutils.h"

/* All of this session. */
static Consumer *consumers = NULL;

Consumer *
consumer_first(void)
{
	return consumers;
}

/*
 * One without streams has lost them, or never got them by an error, or gave
 * them up in a transaction.
 */
static Consumer *
find_any(const char *name)
{
	for (Consumer *c = consumers; c != NULL; c = c->link)
		if (strcmp(c->name, name) == 0)
			return c;
	return NULL;
}

Consumer *
consumer_find(const char *name)
{
	Consumer   *consumer = find_any(name);

	return consumer != NULL && consumer->nstreams > 0 ? consumer : NULL;
}

void
consumer_check_name(const char *name, const char *what)
{
	if (name[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("the name of a %s must not be empty", what)));
	if (strlen(name) >= NAMEDATALEN)
		ereport(ERROR,
				(errcode(ERRCODE_NAME_TOO_LONG),
				 errmsg("the name of a %s is too long", what),
				 errdetail("It has %zu bytes; at most %d are possible.",
						   strlen(name), NAMEDATALEN - 1)));
}

Consumer *
consumer_require(const char *name)
{
	Consumer   *consumer = consumer_find(name);

	if (consumer == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("this session has no subscription named \"%s\"", name),
				 errhint_for_role("Use seq_subscribe(vshards, name) first, in the same session. A connection pooler in transaction or statement mode gives each call to any of its sessions: use a group, with seq_fetch(), there.")));
	return consumer;
}

const char *
consumer_name(const Consumer *consumer)
{
	return consumer->name;
}

/*
 * before_shmem_exit: the segments go by themselves, the slots do not.  No
 * memory is needed: there may be none left.
 */
static void
at_exit(int code, Datum arg)
{
	for (Consumer *c = consumers; c != NULL; c = c->link)
		for (int i = 0; i < c->nstreams; i++)
			subscription_release(1, &c->streams[i].ref);
	consumers = NULL;
}

void
consumer_free(Consumer *consumer)
{
	Consumer  **link = &consumers;

	while (*link != consumer)
		link = &(*link)->link;
	*link = consumer->link;
	MemoryContextDelete(consumer->context);
}

/*
 * Those whose first subscription failed are of no use: at most the last of
 * them stays, however many names are tried.
 */
static void
forget_failed(void)
{
	Consumer   *next;

	for (Consumer *c = consumers; c != NULL; c = next)
	{
		next = c->link;
		if (c->nstreams == 0 && c->saved == NULL)
			consumer_free(c);
	}
}

static Consumer *
find_or_make(const char *name)
{
	static bool registered = false;
	Consumer   *consumer = find_any(name);
	MemoryContext context;

	if (consumer != NULL)
		return consumer;
	forget_failed();
	if (!registered)
		before_shmem_exit(at_exit, (Datum) 0);
	registered = true;
	context = AllocSetContextCreate(TopMemoryContext, "calvin_seq consumer",
									ALLOCSET_DEFAULT_SIZES);
	consumer = MemoryContextAllocZero(context, sizeof(Consumer));
	consumer->context = context;
	strlcpy(consumer->name, name, sizeof(consumer->name));
	memset(consumer->by_vshard, -1, sizeof(consumer->by_vshard));
	consumer->link = consumers;
	consumers = consumer;
	return consumer;
}

/* What it has received in this transaction and not committed stays behind. */
static void
remove_stream(Consumer *consumer, int number)
{
	Stream	   *stream = &consumer->streams[number];

	consumer->gave_up |= stream->lossless && stream->pending;
	queues_drop(stream);
	consumer->by_vshard[stream->vshard] = -1;
	consumer->streams[number] = consumer->streams[--consumer->nstreams];
	if (number < consumer->nstreams)
		consumer->by_vshard[consumer->streams[number].vshard] = (int16) number;
	consumer->turn = 0;
	consumer->in_a_row = 0;
}

static void
add_streams(Consumer *consumer, int n, const uint16 *vshards, bool lossless,
			Segment *segment, const QueueReader *readers,
			const SubscriptionRef *refs)
{
	/* what this session itself had of them is replaced */
	for (int i = 0; i < n; i++)
		if (consumer->by_vshard[vshards[i]] >= 0)
			remove_stream(consumer, consumer->by_vshard[vshards[i]]);

	for (int i = 0; i < n; i++)
	{
		Stream	   *stream = &consumer->streams[consumer->nstreams];

		consumer->by_vshard[vshards[i]] = (int16) consumer->nstreams++;

		memset(stream, 0, sizeof(*stream));
		stream->vshard = vshards[i];
		stream->ref = refs[i];
		stream->segment = segment;
		stream->reader = readers[i];
		stream->lossless = lossless;
		stream->epoch = MACHINE_NO_EPOCH;
		stream->floor.epoch = MACHINE_NO_EPOCH;
	}
	segment->streams = n;
}

/* Room for n more streams. */
static void
reserve_streams(Consumer *consumer, int n)
{
	Size		size = sizeof(Stream) * (consumer->nstreams + n);

	if (consumer->streams == NULL)
		consumer->streams = MemoryContextAlloc(consumer->context, size);
	else
		consumer->streams = repalloc(consumer->streams, size);
}

Consumer *
consumer_subscribe(DatabaseSlot *database, Oid log, const char *name, int n,
				   const uint16 *vshards, Size ring_size, bool lossless,
				   uint64 log_end, uint64 *start)
{
	Consumer   *consumer = find_or_make(name);
	QueueReader *readers = palloc(sizeof(QueueReader) * n);
	SubscriptionRef *refs = palloc(sizeof(SubscriptionRef) * n);
	Size	   *ring_sizes = palloc(sizeof(Size) * n);
	Size	   *offsets = palloc(sizeof(Size) * n);
	SubscriptionQueues queues;
	Segment    *segment;
	ClaimResult claimed;

	/* all that can fail comes before the claim, which changes nothing then */
	reserve_streams(consumer, n);
	for (int i = 0; i < n; i++)
		ring_sizes[i] = ring_size;
	segment = queues_make(n, ring_sizes, readers, offsets, &queues);
	claimed = subscription_claim(database, log, name, n, vshards, lossless,
								 &queues, log_end, refs, start);
	if (claimed != CLAIM_DONE)
	{
		queues_free(segment);
		if (claimed == CLAIM_FULL)
			subscription_report_full(n);
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the log was dropped while it was subscribed to"),
				 errhint("If the extension was created anew, subscribe to the new log.")));
	}

	queues_pin(segment);
	add_streams(consumer, n, vshards, lossless, segment, readers, refs);
	pfree(readers);
	pfree(refs);
	pfree(ring_sizes);
	pfree(offsets);
	return consumer;
}

int
consumer_unsubscribe(Consumer *consumer, int n, const uint16 *vshards)
{
	bool		named[WIRE_VSHARDS] = {false};
	SubscriptionRef *refs = palloc(sizeof(SubscriptionRef) * consumer->nstreams);
	int			nrefs = 0;

	for (int i = 0; vshards != NULL && i < n; i++)
		named[vshards[i]] = true;

	/* the slots first: the applier should find no queue without a reader */
	for (int i = 0; i < consumer->nstreams; i++)
		if (vshards == NULL || named[consumer->streams[i].vshard])
			refs[nrefs++] = consumer->streams[i].ref;
	subscription_release(nrefs, refs);
	pfree(refs);

	for (int i = consumer->nstreams - 1; i >= 0; i--)
		if (vshards == NULL || named[consumer->streams[i].vshard])
			remove_stream(consumer, i);

	if (consumer->nstreams == 0)
	{
		/* who subscribes anew in this transaction goes back with it to there */
		if (consumer->saved == NULL)
			consumer_free(consumer);
		else
			consumer->rewinds++;
	}
	return nrefs;
}

void
consumer_unsubscribe_everything(void)
{
	Consumer   *next;

	for (Consumer *c = consumers; c != NULL; c = next)
	{
		next = c->link;
		(void) consumer_unsubscribe(c, 0, NULL);
	}
}

void
consumer_check(Consumer *consumer)
{
	pid_t		successor = 0;
	int			lost = -1;

	for (int i = consumer->nstreams - 1; i >= 0; i--)
	{
		Stream	   *stream = &consumer->streams[i];

		if (subscription_owned(&stream->ref))
			continue;
		lost = stream->vshard;
		successor = subscription_successor(&stream->ref, MyDatabaseId,
										   consumer->name, stream->vshard);
		remove_stream(consumer, i);
	}
	if (lost < 0)
		return;

	/*
	 * The new one will process what this transaction received: nothing of
	 * the name can be committed in it any more, whatever is rescued by a
	 * savepoint or subscribed again.
	 */
	if (consumer->saved != NULL)
		consumer->loss = LOSS_MOVED;
	else if (consumer->nstreams == 0)
		consumer_free(consumer);

	if (successor == 0 || successor == MyProcPid)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("the subscription to vshard %d is no longer this session's",
						lost),
				 errdetail("Another session took it over and has left since, or the extension was dropped."),
				 errhint_for_role("Subscribe again. A connection pooler in transaction or statement mode gives each call to any of its sessions: use a group, with seq_fetch(), there.")));
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_IN_USE),
			 errmsg("the subscription to vshard %d was taken over by the session with PID %d",
					lost, (int) successor),
			 errdetail("A (vshard, name) has one consumer, the one that subscribed last."),
			 errhint_for_role("Consumers under different names receive the same stream independently. A connection pooler in transaction or statement mode gives each call to any of its sessions: use a group, with seq_fetch(), there.")));
}

static void
fill_in_report(const Stream *stream, ConsumerReport *report)
{
	report->ref = stream->ref;
	report->state = (ConsumedState){
		.delivered_epoch = stream->epoch,
		.delivered_position = stream->position,
		.next_epoch = stream->next.epoch,
		.next_position = stream->next.position,
		.log_until_epoch = stream->log_until.epoch,
		.log_until_position = stream->log_until.position,
		.floor_epoch = stream->floor.epoch,
		.floor_position = stream->floor.position,
		.replayed = stream->replayed,
		.read = stream->reader.total
	};
}

void
consumer_report(Consumer *consumer)
{
	ConsumerReport reports[64];
	int			n = 0;

	for (int i = 0; i < consumer->nstreams; i++)
	{
		Stream	   *stream = &consumer->streams[i];

		if (!stream->moved)
			continue;
		stream->moved = false;
		fill_in_report(stream, &reports[n++]);
		if (n == lengthof(reports))
		{
			subscription_report(n, reports);
			n = 0;
		}
	}
	if (n > 0)
		subscription_report(n, reports);
}
