/*
 * consumer.c
 *	  This session as a consumer: its subscriptions and their queues.
 *
 * Every call of consumer_subscribe() makes one DSM segment with a queue for
 * each vshard; the segment goes when the last of its queues does.  Queues
 * whose applier has ended are replaced by new ones, all at once, and the next
 * applier finds those.  Keys ascend within a stream, so whatever comes a
 * second time is recognised and passed over.
 */
#include "compat.h"

#include "miscadmin.h"
#include "shared/consumer.h"
#include "shared/database.h"
#include "shared/subscription.h"
#include "storage/ipc.h"
#include "utils/memutils.h"

/* Transactions taken from one vshard before it is the next one's turn. */
#define MAX_IN_A_ROW 64

typedef struct Segment
{
	dsm_segment *segment;
	MemoryContext context; /* of the handles of its queues */
	int			streams;
} Segment;

typedef struct Stream
{
	uint16		vshard;
	SubscriptionRef ref;
	Segment    *segment;
	QueueReader reader;
	bool		detached; /* the applier that sent here has ended */
	bool		moved;	  /* since the last report */
	uint64		epoch;	  /* last key received, MACHINE_NO_EPOCH: none */
	uint32		position;
} Stream;

struct Consumer
{
	Consumer   *next;
	char		name[NAMEDATALEN];
	DatabaseSlot *database;
	Stream	   *streams;
	int			nstreams;
	int			turn;	  /* the stream to look at next */
	int			in_a_row; /* transactions it has yielded at a stretch */
};

static Consumer *consumers = NULL;
static MemoryContext consumer_context = NULL;

/* One without streams is what a failed consumer_subscribe() left behind. */
static Consumer *
find_any(const char *name)
{
	for (Consumer *c = consumers; c != NULL; c = c->next)
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

static void
release_streams(Consumer *consumer)
{
	SubscriptionRef *refs = palloc(sizeof(SubscriptionRef) * consumer->nstreams);

	for (int i = 0; i < consumer->nstreams; i++)
		refs[i] = consumer->streams[i].ref;
	subscription_release(consumer->database, consumer->nstreams, refs);
	pfree(refs);
}

/* before_shmem_exit: the segments go by themselves, the slots do not. */
static void
at_exit(int code, Datum arg)
{
	for (Consumer *c = consumers; c != NULL; c = c->next)
		if (c->nstreams > 0)
			release_streams(c);
	consumers = NULL;
}

static Consumer *
find_or_make(DatabaseSlot *database, const char *name)
{
	Consumer   *consumer = find_any(name);

	if (consumer != NULL)
		return consumer;
	if (consumer_context == NULL)
	{
		consumer_context = AllocSetContextCreate(TopMemoryContext,
												 "calvin_seq consumers",
												 ALLOCSET_DEFAULT_SIZES);
		before_shmem_exit(at_exit, (Datum) 0);
	}
	consumer = MemoryContextAllocZero(consumer_context, sizeof(Consumer));
	strlcpy(consumer->name, name, sizeof(consumer->name));
	consumer->database = database;
	consumer->next = consumers;
	consumers = consumer;
	return consumer;
}

static void
free_consumer(Consumer *consumer)
{
	Consumer  **link = &consumers;

	while (*link != consumer)
		link = &(*link)->next;
	*link = consumer->next;
	if (consumer->streams != NULL)
		pfree(consumer->streams);
	pfree(consumer);
}

static void
free_segment(Segment *segment)
{
	dsm_detach(segment->segment);
	MemoryContextDelete(segment->context);
	pfree(segment);
}

/* Let go of a stream's queue; its place in the array is the caller's. */
static void
drop_queue(Stream *stream)
{
	if (--stream->segment->streams == 0)
		free_segment(stream->segment);
	else
		shm_mq_detach(stream->reader.handle);
}

/*
 * A segment with n queues.  Until the caller pins it, it goes away with the
 * resource owner; *readers are filled in.
 */
static Segment *
make_segment(int n, Size ring_size, QueueReader *readers,
			 SubscriptionQueues *queues)
{
	Size		stride = CACHELINEALIGN(queue_size(ring_size));
	Segment    *segment;
	dsm_segment *dsm;
	MemoryContext old;

	dsm = dsm_create(mul_size(n, stride), DSM_CREATE_NULL_IF_MAXSEGMENTS);
	if (dsm == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("too many dynamic shared memory segments"),
				 errdetail("A subscription needs one for its queues."),
				 errhint("Subscribe to several vshards in one call, or raise max_connections, which sets the limit.")));

	segment = MemoryContextAllocZero(consumer_context, sizeof(Segment));
	segment->segment = dsm;
	segment->context = AllocSetContextCreate(consumer_context,
											 "calvin_seq queues",
											 ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(segment->context);
	for (int i = 0; i < n; i++)
		queue_create(&readers[i], dsm,
					 (char *) dsm_segment_address(dsm) + i * stride, ring_size);
	MemoryContextSwitchTo(old);

	queues->segment = dsm_segment_handle(dsm);
	queues->first = 0;
	queues->stride = stride;
	queues->ring_size = ring_size;
	return segment;
}

static void
remove_stream(Consumer *consumer, int number)
{
	drop_queue(&consumer->streams[number]);
	consumer->streams[number] = consumer->streams[--consumer->nstreams];
	consumer->turn = 0;
	consumer->in_a_row = 0;
}

static void
add_streams(Consumer *consumer, int n, const uint16 *vshards, Segment *segment,
			const QueueReader *readers, const SubscriptionRef *refs)
{
	bool		mine[WIRE_VSHARDS] = {false};

	/* what this session itself had of them is replaced */
	for (int i = 0; i < n; i++)
		mine[vshards[i]] = true;
	for (int i = consumer->nstreams - 1; i >= 0; i--)
		if (mine[consumer->streams[i].vshard])
			remove_stream(consumer, i);

	for (int i = 0; i < n; i++)
	{
		Stream	   *stream = &consumer->streams[consumer->nstreams++];

		memset(stream, 0, sizeof(*stream));
		stream->vshard = vshards[i];
		stream->ref = refs[i];
		stream->segment = segment;
		stream->reader = readers[i];
		stream->epoch = MACHINE_NO_EPOCH;
	}
	segment->streams = n;
}

/* Room for n more streams. */
static void
reserve_streams(Consumer *consumer, int n)
{
	Size		size = sizeof(Stream) * (consumer->nstreams + n);

	if (consumer->streams == NULL)
		consumer->streams = MemoryContextAlloc(consumer_context, size);
	else
		consumer->streams = repalloc(consumer->streams, size);
}

void
consumer_subscribe(DatabaseSlot *database, const char *name, int n,
				   const uint16 *vshards, Size ring_size, bool lossless,
				   uint64 log_end)
{
	Consumer   *consumer = find_or_make(database, name);
	QueueReader *readers = palloc(sizeof(QueueReader) * n);
	SubscriptionRef *refs = palloc(sizeof(SubscriptionRef) * n);
	SubscriptionQueues queues;
	uint64		start;
	Segment    *segment;

	/* all that can fail comes before the claim, which changes nothing then */
	reserve_streams(consumer, n);
	segment = make_segment(n, ring_size, readers, &queues);
	if (!subscription_claim(database, name, n, vshards, lossless, &queues,
							log_end, refs, &start))
	{
		free_segment(segment);
		subscription_report_full(n);
	}

	dsm_pin_mapping(segment->segment);
	add_streams(consumer, n, vshards, segment, readers, refs);
	pfree(readers);
	pfree(refs);
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
	subscription_release(consumer->database, nrefs, refs);
	pfree(refs);

	for (int i = consumer->nstreams - 1; i >= 0; i--)
		if (vshards == NULL || named[consumer->streams[i].vshard])
			remove_stream(consumer, i);
	if (consumer->nstreams == 0)
		free_consumer(consumer);
	return nrefs;
}

void
consumer_unsubscribe_everything(void)
{
	while (consumers != NULL)
		(void) consumer_unsubscribe(consumers, 0, NULL);
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
	if (consumer->nstreams == 0)
		free_consumer(consumer);

	if (successor == 0 || successor == MyProcPid)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("the subscription to vshard %d is no longer this session's",
						lost),
				 errdetail("Another session took it over and has left since, or the extension was dropped."),
				 errhint("Subscribe again.")));
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_IN_USE),
			 errmsg("the subscription to vshard %d was taken over by the session with PID %d",
					lost, (int) successor),
			 errdetail("A (vshard, name) has one consumer, the one that subscribed last."),
			 errhint("Consumers under different names receive the same stream independently.")));
}

/* New queues for all streams whose applier has ended. */
static void
reconnect(Consumer *consumer)
{
	int			n = 0;
	Size		ring_size = 0;
	Stream	  **streams = palloc(sizeof(Stream *) * consumer->nstreams);
	SubscriptionRef *refs = palloc(sizeof(SubscriptionRef) * consumer->nstreams);
	QueueReader *readers;
	SubscriptionQueues queues;
	Segment    *segment;

	for (int i = 0; i < consumer->nstreams; i++)
	{
		Stream	   *stream = &consumer->streams[i];

		if (!stream->detached)
			continue;
		streams[n] = stream;
		refs[n++] = stream->ref;
		ring_size = Max(ring_size, stream->reader.ring_size);
	}
	readers = palloc(sizeof(QueueReader) * n);
	segment = make_segment(n, ring_size, readers, &queues);
	dsm_pin_mapping(segment->segment);
	segment->streams = n;
	for (int i = 0; i < n; i++)
	{
		drop_queue(streams[i]);
		streams[i]->segment = segment;
		streams[i]->reader = readers[i];
		streams[i]->detached = false;
	}
	subscription_requeue(consumer->database, n, refs, &queues);
	pfree(streams);
	pfree(refs);
	pfree(readers);
}

static inline bool
is_new(const Stream *stream, const QueueMessage *message)
{
	return stream->epoch == MACHINE_NO_EPOCH ||
		message->epoch > stream->epoch ||
		(message->epoch == stream->epoch &&
		 message->position > stream->position);
}

bool
consumer_next(Consumer *consumer, ConsumerTxn *txn)
{
	int			idle = 0;
	bool		detached = false;

	while (idle < consumer->nstreams)
	{
		Stream	   *stream = &consumer->streams[consumer->turn];
		const QueueMessage *message = NULL;

		if (consumer->in_a_row < MAX_IN_A_ROW && !stream->detached)
			message = queue_receive(&stream->reader, &stream->detached);
		detached |= stream->detached;
		if (message == NULL)
		{
			/* a turn that ended for fairness does not count as idle */
			if (consumer->in_a_row < MAX_IN_A_ROW)
				idle++;
			consumer->in_a_row = 0;
			consumer->turn = (consumer->turn + 1) % consumer->nstreams;
			continue;
		}
		if (!is_new(stream, message))
			continue;
		stream->epoch = message->epoch;
		stream->position = message->position;
		stream->moved = true;
		consumer->in_a_row++;
		txn->vshard = stream->vshard;
		txn->message = message;
		return true;
	}
	if (detached)
		reconnect(consumer);
	return false;
}

void
consumer_report(Consumer *consumer)
{
	ConsumerProgress *progress;
	int			n = 0;

	progress = palloc(sizeof(ConsumerProgress) * consumer->nstreams);
	for (int i = 0; i < consumer->nstreams; i++)
	{
		Stream	   *stream = &consumer->streams[i];

		if (!stream->moved)
			continue;
		stream->moved = false;
		progress[n].ref = stream->ref;
		progress[n].read = stream->reader.total;
		progress[n].replayed = 0;
		progress[n].epoch = stream->epoch;
		progress[n].position = stream->position;
		n++;
	}
	if (n > 0)
		subscription_report_consumer(n, progress);
	pfree(progress);
}
