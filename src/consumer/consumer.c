/*
 * consumer.c
 *	  This session as a consumer: the life of its subscriptions and queues.
 *
 * Every call of consumer_subscribe() makes one DSM segment with a queue for
 * each vshard; the segment goes when the last of its queues does.  Queues
 * whose applier has ended are replaced by new ones, all at once, and the next
 * applier finds those.
 */
#include "compat.h"

#include "miscadmin.h"
#include "consumer/consumer_impl.h"
#include "storage/ipc.h"
#include "utils/memutils.h"

Consumer   *consumers = NULL;
MemoryContext consumer_context = NULL;

/*
 * One without streams has lost them, or never got them by an error, or gave
 * them up in a transaction.
 */
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

void
consumer_check_name(const char *name)
{
	if (name[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("the name of a subscription must not be empty")));
	if (strlen(name) >= NAMEDATALEN)
		ereport(ERROR,
				(errcode(ERRCODE_NAME_TOO_LONG),
				 errmsg("the name of a subscription is too long"),
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
				 errhint("Use seq_subscribe(vshards, name) first, in the same session.")));
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
	for (Consumer *c = consumers; c != NULL; c = c->next)
		for (int i = 0; i < c->nstreams; i++)
			subscription_release(1, &c->streams[i].ref);
	consumers = NULL;
}

void
consumer_free(Consumer *consumer)
{
	Consumer  **link = &consumers;

	while (*link != consumer)
		link = &(*link)->next;
	*link = consumer->next;
	positions_forget(consumer);
	if (consumer->attachment_context != NULL)
		MemoryContextDelete(consumer->attachment_context);
	if (consumer->streams != NULL)
		pfree(consumer->streams);
	pfree(consumer);
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
		next = c->next;
		if (c->nstreams == 0 && c->saved == NULL)
			consumer_free(c);
	}
}

static Consumer *
find_or_make(const char *name)
{
	Consumer   *consumer = find_any(name);

	if (consumer != NULL)
		return consumer;
	forget_failed();
	if (consumer_context == NULL)
	{
		consumer_context = AllocSetContextCreate(TopMemoryContext,
												 "calvin_seq consumers",
												 ALLOCSET_DEFAULT_SIZES);
		before_shmem_exit(at_exit, (Datum) 0);
		positions_init();
	}
	consumer = MemoryContextAllocZero(consumer_context, sizeof(Consumer));
	strlcpy(consumer->name, name, sizeof(consumer->name));
	memset(consumer->by_vshard, -1, sizeof(consumer->by_vshard));
	consumer->next = consumers;
	consumers = consumer;
	return consumer;
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
 * A segment with n queues of the given rings.  Until the caller pins it, it
 * goes away with the resource owner; readers and offsets are filled in.
 */
static Segment *
make_segment(int n, const Size *ring_sizes, QueueReader *readers, Size *offsets)
{
	Segment    *segment;
	dsm_segment *dsm;
	Size		size = 0;
	MemoryContext old;

	for (int i = 0; i < n; i++)
	{
		offsets[i] = size;
		size = add_size(size, CACHELINEALIGN(queue_size(ring_sizes[i])));
	}
	dsm = dsm_create(size, DSM_CREATE_NULL_IF_MAXSEGMENTS);
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
					 (char *) dsm_segment_address(dsm) + offsets[i],
					 ring_sizes[i]);
	MemoryContextSwitchTo(old);
	return segment;
}

static void
remove_stream(Consumer *consumer, int number)
{
	drop_queue(&consumer->streams[number]);
	consumer->by_vshard[consumer->streams[number].vshard] = -1;
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
		consumer->streams = MemoryContextAlloc(consumer_context, size);
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
	segment = make_segment(n, ring_sizes, readers, offsets);
	queues.segment = dsm_segment_handle(segment->segment);
	queues.offsets = offsets;
	queues.ring_sizes = ring_sizes;
	claimed = subscription_claim(database, log, name, n, vshards, lossless,
								 &queues, log_end, refs, start);
	if (claimed != CLAIM_DONE)
	{
		free_segment(segment);
		if (claimed == CLAIM_FULL)
			subscription_report_full(n);
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the log was dropped while it was subscribed to"),
				 errhint("If the extension was created anew, subscribe to the new log.")));
	}

	dsm_pin_mapping(segment->segment);
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
		next = c->next;
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
		consumer->lost = true;
	else if (consumer->nstreams == 0)
		consumer_free(consumer);

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

void
consumer_reconnect(Consumer *consumer)
{
	int			n = 0;
	int			total = consumer->nstreams;
	Stream	  **streams = palloc(sizeof(Stream *) * total);
	SubscriptionRef *refs = palloc(sizeof(SubscriptionRef) * total);
	QueueReader *readers = palloc(sizeof(QueueReader) * total);
	Size	   *ring_sizes = palloc(sizeof(Size) * total);
	Size	   *offsets = palloc(sizeof(Size) * total);
	SubscriptionQueues queues;
	Segment    *segment;

	for (int i = 0; i < total; i++)
	{
		Stream	   *stream = &consumer->streams[i];

		if (!stream->detached)
			continue;
		streams[n] = stream;
		refs[n] = stream->ref;
		ring_sizes[n++] = stream->reader.ring_size;
	}
	segment = make_segment(n, ring_sizes, readers, offsets);
	dsm_pin_mapping(segment->segment);
	segment->streams = n;
	for (int i = 0; i < n; i++)
	{
		drop_queue(streams[i]);
		streams[i]->segment = segment;
		streams[i]->reader = readers[i];
		streams[i]->detached = false;
	}
	queues.segment = dsm_segment_handle(segment->segment);
	queues.offsets = offsets;
	queues.ring_sizes = ring_sizes;
	subscription_requeue(n, refs, &queues);
	pfree(streams);
	pfree(refs);
	pfree(readers);
	pfree(ring_sizes);
	pfree(offsets);
}

void *
consumer_attachment(Consumer *consumer)
{
	return consumer->attachment;
}

void
consumer_attach(Consumer *consumer, MemoryContext context, void *attachment)
{
	MemoryContextSetParent(context, consumer_context);
	consumer->attachment_context = context;
	consumer->attachment = attachment;
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
		progress[n].replayed = stream->replayed;
		progress[n].epoch = stream->epoch;
		progress[n].position = stream->position;
		progress[n].next_epoch = stream->next.epoch;
		progress[n].next_position = stream->next.position;
		progress[n].log_until_epoch = stream->log_until.epoch;
		n++;
	}
	if (n > 0)
		subscription_report_consumer(n, progress);
	pfree(progress);
}
