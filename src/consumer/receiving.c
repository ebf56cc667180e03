/*
 * receiving.c
 *	  What comes on a consumer's queues, and what is missing there.
 *
 * Keys ascend within a stream, so whatever comes a second time is recognised
 * and passed over.
 *
 * A lossless stream waits for the key "next".  It has a hole if what was
 * meant for it before a message has not been seen (the message tells its
 * predecessor), if its queue is empty though the applier has meant something
 * for it since (the slot tells), or if it stands before "log_until".  The log
 * is then read once for all streams of the consumer with something
 * outstanding; what their queues still hold of that is passed over.
 */
#include "compat.h"

#include "consumer/consumer_impl.h"
#include "shared/database.h"

/* Transactions taken from one vshard before it is the next one's turn. */
#define MAX_IN_A_ROW 64

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

/* The last applied epoch, -1 if there is none. */
static int64
applied_epoch(void)
{
	DatabaseSlot *database = database_mine();
	PublishedState state;

	if (database == NULL)
		return -1;
	database_read(database, &state);
	/* MACHINE_NO_EPOCH is -1 in these terms */
	return (int64) state.machine.last_applied_epoch;
}

/*
 * Is there something that a lossless stream has not seen, on its queue or
 * not?  *to_epoch is raised to the last epoch of it.
 */
static bool
outstanding(const Stream *stream, int64 applied, uint64 *to_epoch)
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
	if (stands_before(stream, stream->log_until) &&
		(int64) stream->next.epoch <= applied)
	{
		uint64		until = stream->log_until.epoch;

		/* a key of position 0 excludes its own epoch */
		if (stream->log_until.position == 0)
			until--;
		/* it may be a start in the future: only what is there can be read */
		*to_epoch = Max(*to_epoch, Min(until, (uint64) applied));
		result = true;
	}
	if (stream->holed)
	{
		*to_epoch = Max(*to_epoch, stream->holed_to);
		result = true;
	}
	return result;
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
	stream->pending = true;
}

/* Is something missing between this message and what was received? */
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
	int64		applied = applied_epoch();

	while (idle < consumer->nstreams)
	{
		Stream	   *stream = &consumer->streams[consumer->turn];
		const QueueMessage *message = NULL;
		bool		turn_over = consumer->in_a_row >= MAX_IN_A_ROW;
		bool		missing = false;
		uint64		to_epoch = 0;

		if (!turn_over)
		{
			message = queue_next_of_batch(&stream->reader);
			if (message == NULL)
			{
				/* in this order: what was meant for it is by now on the queue */
				if (stream->lossless)
					missing = outstanding(stream, applied, &to_epoch);
				if (!stream->detached)
					message = queue_receive(&stream->reader, &stream->detached);
			}
		}
		detached |= stream->detached;
		if (message == NULL)
		{
			if (missing)
				return CONSUMER_HOLE;
			/* a turn that ended for fairness does not count as idle */
			if (!turn_over)
			{
				idle++;
				if (stream->lossless && applied >= 0)
					advance_past(stream, (uint64) applied);
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
			stream->holed = true;
			stream->holed_to = message->epoch;
			return CONSUMER_HOLE;
		}
		count_received(stream, message->epoch, message->position);
		consumer->in_a_row++;
		txn->vshard = stream->vshard;
		txn->message = message;
		return CONSUMER_TXN;
	}
	if (detached)
		consumer_reconnect(consumer);
	return CONSUMER_EMPTY;
}

bool
consumer_hole(Consumer *consumer, uint64 *from_epoch, uint64 *to_epoch)
{
	int64		applied = applied_epoch();
	bool		any = false;

	/* as far as it goes, so that one reading serves for all */
	*to_epoch = (uint64) Max(applied, 0);
	*from_epoch = 0;
	for (int i = 0; i < consumer->nstreams; i++)
	{
		Stream	   *stream = &consumer->streams[i];

		stream->filling = stream->lossless &&
			outstanding(stream, applied, to_epoch);
		if (stream->filling)
		{
			uint64		through;

			if (subscription_quiet(&stream->ref, stream->next.epoch,
								   stream->next.position, &through))
				advance_past(stream, through);
			if (!any || stream->next.epoch < *from_epoch)
				*from_epoch = stream->next.epoch;
			any = true;
		}
		else if (stream->lossless && applied >= 0)
			advance_past(stream, (uint64) applied);
	}
	return any;
}

bool
consumer_takes(Consumer *consumer, uint16 vshard, uint64 epoch, uint32 position)
{
	Stream	   *stream = stream_of(consumer, vshard);

	if (stream == NULL || !stream->filling || key_before(epoch, position, stream->next))
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

		if (!stream->filling)
			continue;
		advance_past(stream, to_epoch);
		stream->filling = false;
		stream->holed = false;
		stream->moved = true;
	}
}
