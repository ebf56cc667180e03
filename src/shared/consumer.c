/*
 * consumer.c
 *	  This session as a consumer: its subscriptions and their queues.
 *
 * Every call of consumer_subscribe() makes one DSM segment with a queue for
 * each vshard; the segment goes when the last of its queues does.  Queues
 * whose applier has ended are replaced by new ones, all at once, and the next
 * applier finds those.  Keys ascend within a stream, so whatever comes a
 * second time is recognised and passed over.
 *
 * A lossless stream waits for the key "next".  It has a hole if what was
 * meant for it before a message has not been seen (the message tells its
 * predecessor), if its queue is empty though the applier has meant something
 * for it since (the slot tells), or if it stands before "log_until".  The log
 * is then read once for all streams of the consumer with something
 * outstanding; what their queues still hold of that is passed over.
 */
#include "compat.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "shared/consumer.h"
#include "shared/database.h"
#include "shared/subscription.h"
#include "storage/ipc.h"
#include "utils/memutils.h"

/* Transactions taken from one vshard before it is the next one's turn. */
#define MAX_IN_A_ROW 64

/* Epochs that an idle stream's cursor may lag before it is stored anew. */
#define MAX_CURSOR_AGE 1024

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
	bool		lossless;
	bool		detached; /* the applier that sent here has ended */
	bool		moved;	  /* since the last report */
	bool		filling;  /* takes part in the present reading of the log */
	StreamKey	next;	  /* what comes must not be before it */
	StreamKey	log_until; /* what is before it comes from the log only */
	uint64		epoch;	  /* last key received, MACHINE_NO_EPOCH: none */
	uint32		position;
	uint64		replayed; /* taken from the log */
	uint64		cursor_version; /* that this session continued from, 0: none */
	StreamKey	cursor;	  /* its key */
	bool		received; /* something since then */
} Stream;

/* Positions as they were before a (sub)transaction received anything. */
typedef struct SavedPosition
{
	uint16		vshard;
	uint32		generation;
	StreamKey	next;
	uint64		cursor_version;
	StreamKey	cursor;
	bool		received;
} SavedPosition;

typedef struct SavedPositions
{
	struct SavedPositions *outer;
	SubTransactionId subid;
	int			n;
	SavedPosition positions[FLEXIBLE_ARRAY_MEMBER];
} SavedPositions;

struct Consumer
{
	Consumer   *next;
	char		name[NAMEDATALEN];
	Stream	   *streams;
	int			nstreams;
	int			turn;	  /* the stream to look at next */
	int			in_a_row; /* transactions it has yielded at a stretch */
	int16		by_vshard[WIRE_VSHARDS]; /* its place in streams, or -1 */
	uint64		hole_to;  /* epoch; the hole noticed last */
	uint32		rewinds;
	bool		wants_cursors;
	SavedPositions *saved; /* innermost first */
	MemoryContext attachment_context;
	void	   *attachment;
};

static Consumer *consumers = NULL;
static MemoryContext consumer_context = NULL;

static void forget_positions(Consumer *consumer);
static void at_xact_event(XactEvent event, void *arg);
static void at_subxact_event(SubXactEvent event, SubTransactionId subid,
							 SubTransactionId parent, void *arg);

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

const char *
consumer_name(const Consumer *consumer)
{
	return consumer->name;
}

static void
release_streams(Consumer *consumer)
{
	SubscriptionRef *refs = palloc(sizeof(SubscriptionRef) * consumer->nstreams);

	for (int i = 0; i < consumer->nstreams; i++)
		refs[i] = consumer->streams[i].ref;
	subscription_release(consumer->nstreams, refs);
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
find_or_make(const char *name)
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
		RegisterXactCallback(at_xact_event, NULL);
		RegisterSubXactCallback(at_subxact_event, NULL);
	}
	consumer = MemoryContextAllocZero(consumer_context, sizeof(Consumer));
	strlcpy(consumer->name, name, sizeof(consumer->name));
	memset(consumer->by_vshard, -1, sizeof(consumer->by_vshard));
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
	forget_positions(consumer);
	if (consumer->attachment_context != NULL)
		MemoryContextDelete(consumer->attachment_context);
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
consumer_subscribe(DatabaseSlot *database, const char *name, int n,
				   const uint16 *vshards, Size ring_size, bool lossless,
				   uint64 log_end, uint64 *start)
{
	Consumer   *consumer = find_or_make(name);
	QueueReader *readers = palloc(sizeof(QueueReader) * n);
	SubscriptionRef *refs = palloc(sizeof(SubscriptionRef) * n);
	SubscriptionQueues queues;
	Segment    *segment;

	/* all that can fail comes before the claim, which changes nothing then */
	reserve_streams(consumer, n);
	segment = make_segment(n, ring_size, readers, &queues);
	if (!subscription_claim(database, name, n, vshards, lossless, &queues,
							log_end, refs, start))
	{
		free_segment(segment);
		subscription_report_full(n);
	}

	dsm_pin_mapping(segment->segment);
	add_streams(consumer, n, vshards, lossless, segment, readers, refs);
	pfree(readers);
	pfree(refs);
	return consumer;
}

void
consumer_start_at(Consumer *consumer, int n, const uint16 *vshards,
				  StreamKey key, bool behind, uint64 behind_epoch)
{
	for (int i = 0; i < n; i++)
	{
		Stream	   *stream = &consumer->streams[consumer->by_vshard[vshards[i]]];

		stream->next = key;
		if (behind)
			stream->log_until.epoch = behind_epoch + 1;
	}
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
	subscription_requeue(n, refs, &queues);
	pfree(streams);
	pfree(refs);
	pfree(readers);
}

static inline bool
is_set(StreamKey key)
{
	return key.epoch > 0 || key.position > 0;
}

static inline bool
stands_before(const Stream *stream, StreamKey key)
{
	return is_set(key) && key_before(stream->next.epoch, stream->next.position, key);
}

/*
 * Is there something that a lossless stream has not seen, on its queue or
 * not?  *to_epoch is raised to the last epoch of it.
 */
static bool
outstanding(const Stream *stream, uint64 *to_epoch)
{
	SubscriptionSlot *slot = stream->ref.slot;
	uint64		epoch = pg_atomic_read_u64(&slot->routed_epoch);
	uint32		position = pg_atomic_read_u32(&slot->routed_position);
	bool		result = false;

	/* behind the slot's words, to be sure that they were of this stream */
	pg_read_barrier();
	if (epoch != MACHINE_NO_EPOCH && subscription_owned(&stream->ref) &&
		!key_before(epoch, position, stream->next))
	{
		*to_epoch = Max(*to_epoch, epoch);
		result = true;
	}
	if (stands_before(stream, stream->log_until))
	{
		uint64		until = stream->log_until.epoch;

		/* a key of position 0 excludes its own epoch */
		if (stream->log_until.position == 0)
			until--;
		*to_epoch = Max(*to_epoch, until);
		result = true;
	}
	return result;
}

/* The last applied epoch; false if there is none. */
static bool
applied_epoch(uint64 *epoch)
{
	DatabaseSlot *database = database_mine();
	PublishedState state;

	*epoch = MACHINE_NO_EPOCH;
	if (database == NULL)
		return false;
	database_read(database, &state);
	*epoch = state.machine.last_applied_epoch;
	return *epoch != MACHINE_NO_EPOCH;
}

/* Everything up to an epoch has been received, or was not for this stream. */
static inline void
advance_past(Stream *stream, uint64 epoch)
{
	StreamKey	key = {epoch + 1, 0};

	if (key_before(stream->next.epoch, stream->next.position, key))
		stream->next = key;
}

static void
count_received(Stream *stream, uint64 epoch, uint32 position)
{
	stream->next.epoch = epoch;
	stream->next.position = position + 1;
	stream->epoch = epoch;
	stream->position = position;
	stream->moved = true;
	stream->received = true;
}

/* The message after which something is missing, if "message" is not next. */
static inline bool
follows_a_hole(const Stream *stream, const QueueMessage *message)
{
	return stream->lossless &&
		(stands_before(stream, stream->log_until) ||
		 (message->previous_epoch != MACHINE_NO_EPOCH &&
		  !key_before(message->previous_epoch, message->previous_position,
					  stream->next)));
}

ConsumerResult
consumer_next(Consumer *consumer, ConsumerTxn *txn)
{
	int			idle = 0;
	bool		detached = false;
	uint64		applied;
	bool		any_applied = applied_epoch(&applied);

	while (idle < consumer->nstreams)
	{
		Stream	   *stream = &consumer->streams[consumer->turn];
		const QueueMessage *message = NULL;
		bool		turn_over = consumer->in_a_row >= MAX_IN_A_ROW;
		bool		missing = false;
		uint64		to_epoch = 0;

		if (!turn_over)
		{
			/* in this order: what was meant for it is by now on the queue */
			if (stream->lossless)
				missing = outstanding(stream, &to_epoch);
			if (!stream->detached)
				message = queue_receive(&stream->reader, &stream->detached);
		}
		detached |= stream->detached;
		if (message == NULL)
		{
			if (missing)
			{
				consumer->hole_to = to_epoch;
				return CONSUMER_HOLE;
			}
			/* a turn that ended for fairness does not count as idle */
			if (!turn_over)
			{
				idle++;
				if (stream->lossless && any_applied)
					advance_past(stream, applied);
			}
			consumer->in_a_row = 0;
			consumer->turn = (consumer->turn + 1) % consumer->nstreams;
			continue;
		}
		if (key_before(message->epoch, message->position, stream->next))
			continue;
		if (follows_a_hole(stream, message))
		{
			/* the message itself goes, but its epoch is read from the log */
			consumer->hole_to = message->epoch;
			return CONSUMER_HOLE;
		}
		count_received(stream, message->epoch, message->position);
		consumer->in_a_row++;
		txn->vshard = stream->vshard;
		txn->message = message;
		return CONSUMER_TXN;
	}
	if (detached)
		reconnect(consumer);
	return CONSUMER_EMPTY;
}

bool
consumer_hole(Consumer *consumer, uint64 *from_epoch, uint64 *to_epoch)
{
	uint64		applied;
	bool		any_applied = applied_epoch(&applied);
	bool		any = false;

	/* as far as it goes, so that one reading serves for all */
	*to_epoch = consumer->hole_to;
	if (any_applied)
		*to_epoch = Max(*to_epoch, applied);
	*from_epoch = 0;
	for (int i = 0; i < consumer->nstreams; i++)
	{
		Stream	   *stream = &consumer->streams[i];

		stream->filling = stream->lossless && outstanding(stream, to_epoch);
		if (stream->filling)
		{
			if (!any || stream->next.epoch < *from_epoch)
				*from_epoch = stream->next.epoch;
			any = true;
		}
		else if (stream->lossless && any_applied)
			advance_past(stream, applied);
	}
	return any;
}

bool
consumer_takes(Consumer *consumer, uint16 vshard, uint64 epoch, uint32 position)
{
	Stream	   *stream;

	if (consumer->by_vshard[vshard] < 0)
		return false;
	stream = &consumer->streams[consumer->by_vshard[vshard]];
	if (!stream->filling || key_before(epoch, position, stream->next))
		return false;
	count_received(stream, epoch, position);
	stream->replayed++;
	return true;
}

void
consumer_hole_filled(Consumer *consumer, uint64 to_epoch)
{
	for (int i = 0; i < consumer->nstreams; i++)
	{
		Stream	   *stream = &consumer->streams[i];

		if (stream->filling)
			advance_past(stream, to_epoch);
		stream->filling = false;
	}
}

uint32
consumer_rewinds(const Consumer *consumer)
{
	return consumer->rewinds;
}

void
consumer_save_positions(Consumer *consumer)
{
	SubTransactionId subid = GetCurrentSubTransactionId();
	SavedPositions *saved = consumer->saved;

	if (saved != NULL && saved->subid == subid)
		return;
	saved = MemoryContextAlloc(consumer_context,
							   offsetof(SavedPositions, positions) +
							   sizeof(SavedPosition) * consumer->nstreams);
	saved->outer = consumer->saved;
	saved->subid = subid;
	saved->n = 0;
	for (int i = 0; i < consumer->nstreams; i++)
	{
		const Stream *stream = &consumer->streams[i];
		SavedPosition *position = &saved->positions[saved->n];

		if (!stream->lossless)
			continue;
		position->vshard = stream->vshard;
		position->generation = stream->ref.generation;
		position->next = stream->next;
		position->cursor_version = stream->cursor_version;
		position->cursor = stream->cursor;
		position->received = stream->received;
		saved->n++;
	}
	consumer->saved = saved;
}

bool
consumer_positions_saved(const Consumer *consumer)
{
	return consumer->saved != NULL;
}

static void
forget_innermost(Consumer *consumer)
{
	SavedPositions *saved = consumer->saved;

	consumer->saved = saved->outer;
	pfree(saved);
}

static void
forget_positions(Consumer *consumer)
{
	while (consumer->saved != NULL)
		forget_innermost(consumer);
}

/* Go back to a key, and have the log read from there. */
static void
go_back(Stream *stream, StreamKey key)
{
	if (key_before(stream->log_until.epoch, stream->log_until.position,
				   stream->next))
		stream->log_until = stream->next;
	stream->next = key;
}

static void
restore_positions(Consumer *consumer, const SavedPositions *saved)
{
	for (int i = 0; i < saved->n; i++)
	{
		const SavedPosition *position = &saved->positions[i];
		int			number = consumer->by_vshard[position->vshard];
		Stream	   *stream;

		if (number < 0)
			continue;
		stream = &consumer->streams[number];
		/* subscribed anew since: then it is another stream */
		if (stream->ref.generation != position->generation)
			continue;
		go_back(stream, position->next);
		stream->cursor_version = position->cursor_version;
		stream->cursor = position->cursor;
		stream->received = position->received;
	}
	consumer->rewinds++;
}

static void
restore_innermost(Consumer *consumer)
{
	restore_positions(consumer, consumer->saved);
	forget_innermost(consumer);
}

static bool
has_cursor(const Consumer *consumer)
{
	for (int i = 0; i < consumer->nstreams; i++)
		if (consumer->streams[i].cursor_version > 0)
			return true;
	return false;
}

static void
at_xact_event(XactEvent event, void *arg)
{
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT &&
		event != XACT_EVENT_PREPARE)
		return;
	for (Consumer *c = consumers; c != NULL; c = c->next)
	{
		/* of nested ones, the outermost has the oldest positions */
		while (event == XACT_EVENT_ABORT && c->saved != NULL)
			restore_innermost(c);
		forget_positions(c);
		/* what was received in earlier ones but not committed comes again */
		if (event == XACT_EVENT_ABORT && has_cursor(c))
			c->wants_cursors = true;
	}
}

static void
at_subxact_event(SubXactEvent event, SubTransactionId subid,
				 SubTransactionId parent, void *arg)
{
	if (event != SUBXACT_EVENT_ABORT_SUB && event != SUBXACT_EVENT_COMMIT_SUB)
		return;
	for (Consumer *c = consumers; c != NULL; c = c->next)
	{
		if (c->saved == NULL || c->saved->subid != subid)
			continue;
		if (event == SUBXACT_EVENT_ABORT_SUB)
			restore_innermost(c);
		else if (c->saved->outer != NULL && c->saved->outer->subid == parent)
			forget_innermost(c);
		else
			c->saved->subid = parent;
	}
}

void
consumer_rewind(Consumer *consumer)
{
	for (SavedPositions *saved = consumer->saved; saved != NULL; saved = saved->outer)
		if (saved->outer == NULL)
			restore_positions(consumer, saved);
	consumer->wants_cursors = true;
}

bool
consumer_wants_cursors(const Consumer *consumer)
{
	return consumer->wants_cursors;
}

void
consumer_set_cursor(Consumer *consumer, const StreamCursor *cursor)
{
	Stream	   *stream;

	if (consumer->by_vshard[cursor->vshard] < 0)
		return;
	stream = &consumer->streams[consumer->by_vshard[cursor->vshard]];
	if (!stream->lossless)
		return;
	go_back(stream, cursor->next);
	stream->cursor = cursor->next;
	stream->cursor_version = cursor->version;
	stream->received = false;
	consumer->rewinds++;
}

void
consumer_forget_cursors(Consumer *consumer)
{
	for (int i = 0; i < consumer->nstreams; i++)
		consumer->streams[i].cursor_version = 0;
	consumer->wants_cursors = false;
}

int
consumer_get_cursors(Consumer *consumer, StreamCursor *cursors)
{
	int			n = 0;

	for (int i = 0; i < consumer->nstreams; i++)
	{
		const Stream *stream = &consumer->streams[i];

		/* a cursor that only grows old by itself is moved now and then */
		if (!stream->lossless ||
			(!stream->received && stream->cursor_version > 0 &&
			 stream->next.epoch - stream->cursor.epoch < MAX_CURSOR_AGE))
			continue;
		cursors[n].vshard = stream->vshard;
		cursors[n].next = stream->next;
		cursors[n].version = stream->cursor_version;
		n++;
	}
	return n;
}

void
consumer_cursors_stored(Consumer *consumer, int n, const StreamCursor *cursors)
{
	for (int i = 0; i < n; i++)
	{
		Stream	   *stream = &consumer->streams[consumer->by_vshard[cursors[i].vshard]];

		stream->cursor_version = cursors[i].version + 1;
		stream->cursor = cursors[i].next;
		stream->received = false;
	}
}

void
consumer_cursors_lost(Consumer *consumer)
{
	consumer->wants_cursors = true;
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
		n++;
	}
	if (n > 0)
		subscription_report_consumer(n, progress);
	pfree(progress);
}
