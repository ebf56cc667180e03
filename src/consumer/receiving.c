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
 *
 * That nothing is outstanding is concluded in this order: the published state,
 * then what the applier has told of the stream, as a whole and of its own
 * generation, then the queue.  Through the epoch of that state nothing else was
 * meant for it.
 *
 * The queue wakes who waits for what comes on it, and the applier who lacks
 * something that it dropped.  Who stands before "log_until" waits for the log to
 * be applied: he says so, and looks once more, before he waits.
 */
#include "compat.h"

#include "consumer/queues.h"
#include "consumer/receiving.h"
#include "consumer/state.h"
#include "shared/database.h"
#include "shared/pause.h"

/* Transactions taken from one vshard before it is the next one's turn. */
#define MAX_IN_A_ROW 64

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

/* What is there for a lossless stream that it has not seen, on its queue or not? */
typedef enum Outlook
{
	OUTLOOK_NOTHING,
	OUTLOOK_SOMETHING,
	OUTLOOK_UNKNOWN /* it is another session's by now */
} Outlook;

/* *to_epoch is raised to the last epoch of it. */
static Outlook
outlook(const Stream *stream, int64 applied, uint64 *to_epoch)
{
	RoutedState routed;
	bool		something = false;

	if (!subscription_routed(&stream->ref, &routed))
		return OUTLOOK_UNKNOWN;
	if (routed.epoch != MACHINE_NO_EPOCH &&
		!key_before(routed.epoch, (uint32) routed.position, stream->next))
	{
		*to_epoch = Max(*to_epoch, routed.epoch);
		something = true;
	}
	if (stands_before(stream, stream->log_until) &&
		(int64) stream->next.epoch <= applied)
	{
		uint64		last = key_end_epoch(stream->log_until) - 1;

		/* it may be a start in the future: only what is there can be read */
		*to_epoch = Max(*to_epoch, Min(last, (uint64) applied));
		something = true;
	}
	if (stream->holed)
	{
		*to_epoch = Max(*to_epoch, stream->holed_to);
		something = true;
	}
	return something ? OUTLOOK_SOMETHING : OUTLOOK_NOTHING;
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

/* One round through the streams; "applied" was read before. */
static ReceiveResult
look_around(Consumer *consumer, int64 applied, bool *detached, ReceivedTxn *txn)
{
	int			idle = 0;

	while (idle < consumer->nstreams)
	{
		Stream	   *stream = &consumer->streams[consumer->turn];
		const QueueMessage *message = NULL;
		bool		turn_over = consumer->in_a_row >= MAX_IN_A_ROW;
		Outlook		out = OUTLOOK_UNKNOWN;
		uint64		to_epoch = 0;

		if (!turn_over)
		{
			message = queue_next_of_batch(&stream->reader);
			if (message == NULL)
			{
				/* in this order: what was meant for it is by now on the queue */
				if (stream->lossless)
					out = outlook(stream, applied, &to_epoch);
				PAUSE_POINT("receiving: told, queue not looked at");
				if (!stream->detached)
					message = queue_receive(&stream->reader, &stream->detached);
			}
		}
		*detached |= stream->detached;
		if (message == NULL)
		{
			if (out == OUTLOOK_SOMETHING)
				return RECEIVE_HOLE;
			/* a turn that ended for fairness does not count as idle */
			if (!turn_over)
			{
				idle++;
				if (out == OUTLOOK_NOTHING && applied >= 0)
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
			return RECEIVE_HOLE;
		}
		count_received(stream, message->epoch, message->position);
		consumer->in_a_row++;
		txn->vshard = stream->vshard;
		txn->message = message;
		return RECEIVE_TXN;
	}
	return RECEIVE_EMPTY;
}

/* The end of what the streams are still to read from the log, in epochs. */
static uint64
log_wanted_until(const Consumer *consumer)
{
	uint64		until = 0;

	for (int i = 0; i < consumer->nstreams; i++)
	{
		const Stream *stream = &consumer->streams[i];

		if (stream->lossless && stands_before(stream, stream->log_until))
			until = Max(until, key_end_epoch(stream->log_until));
	}
	return until;
}

/*
 * Nothing is there.  Who waits for the log is to be woken when more of it is
 * applied; true if that was the case just now.
 */
static bool
applied_meanwhile(Consumer *consumer, int64 *applied)
{
	DatabaseSlot *database = database_mine();
	uint64		until = log_wanted_until(consumer);
	int64		before = *applied;

	if (until == 0 || database == NULL)
		return false;
	consumer_report(consumer);
	database_wake_until(database, until);
	*applied = applied_epoch();
	return *applied != before;
}

ReceiveResult
receiving_next(Consumer *consumer, ReceivedTxn *txn)
{
	bool		detached = false;
	int64		applied = applied_epoch();
	ReceiveResult result;

	do
		result = look_around(consumer, applied, &detached, txn);
	while (result == RECEIVE_EMPTY && applied_meanwhile(consumer, &applied));
	if (result == RECEIVE_EMPTY && detached)
		queues_reconnect(consumer);
	return result;
}

bool
receiving_hole(Consumer *consumer, uint64 *from_epoch, uint64 *to_epoch)
{
	int64		applied = applied_epoch();
	bool		any = false;

	/* as far as it goes, so that one reading serves for all */
	*to_epoch = (uint64) Max(applied, 0);
	*from_epoch = 0;
	for (int i = 0; i < consumer->nstreams; i++)
	{
		Stream	   *stream = &consumer->streams[i];
		Outlook		out = OUTLOOK_UNKNOWN;

		if (stream->lossless)
			out = outlook(stream, applied, to_epoch);
		stream->filling = out == OUTLOOK_SOMETHING;
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
		else if (out == OUTLOOK_NOTHING && applied >= 0)
			advance_past(stream, (uint64) applied);
	}
	return any;
}

bool
receiving_takes(Consumer *consumer, uint16 vshard, uint64 epoch, uint32 position)
{
	Stream	   *stream = stream_of(consumer, vshard);

	if (stream == NULL || !stream->filling || key_before(epoch, position, stream->next))
		return false;
	count_received(stream, epoch, position);
	stream->replayed++;
	return true;
}

void
receiving_hole_filled(Consumer *consumer, uint64 to_epoch)
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
