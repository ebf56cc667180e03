/*
 * state.h
 *	  What this session knows of itself as a consumer; for the files of this
 *	  layer.
 *
 * Which of them writes what:
 *
 *	queues.c		segment, reader, detached
 *	receiving.c		next, holed, filling, the last key, replayed
 *	positions.c		what a rollback brings back, floor
 *	cursor.c		the session's side of the durable cursor
 *	stream.c		filler
 *
 * All memory of a consumer but its queues is in its context.
 */
#ifndef CALVIN_CONSUMER_STATE_H
#define CALVIN_CONSUMER_STATE_H

#include "compat.h"

#include "access/xact.h"
#include "log/cursors.h"
#include "shared/key.h"
#include "shared/queue.h"
#include "shared/subscription.h"

/* A DSM segment of this session. */
typedef struct Segment
{
	dsm_segment *segment;
	MemoryContext context; /* of the handles of its queues */
	int			streams;
} Segment;

/* One subscription. */
typedef struct Stream
{
	uint16		vshard;
	SubscriptionRef ref;
	Segment    *segment;
	QueueReader reader;
	bool		lossless;
	bool		detached; /* the applier that sent here has ended */
	bool		moved;	  /* since the last report */

	StreamKey	next;	  /* what comes must not be before it */
	StreamKey	log_until; /* what is before it comes from the log only */
	bool		holed;	  /* a message showed that something is missing */
	uint64		holed_to; /* up to this epoch */
	bool		filling;  /* takes part in the present reading of the log */

	uint64		epoch;	  /* last key received, MACHINE_NO_EPOCH: none */
	uint32		position;
	uint64		replayed; /* taken from the log */

	uint64		cursor_version; /* that this session continued from, 0: none; */
	uint64		cursor_incarnation; /* and whose version that is, */
	uint64		cursor_stored_by; /* stored by which transaction */
	StreamKey	cursor;	  /* its key */
	bool		overrides; /* cursor is what the user chose, not what is stored */
	bool		received; /* something since then */
	bool		pending;  /* something in this transaction, not committed */
	bool		prepared; /* its first cursor is in a prepared transaction, */
	StreamKey	before_prepared; /* which began here */
	StreamKey	floor;	  /* no rollback leads back behind it */
} Stream;

/* A stream as it was before a (sub)transaction received anything. */
typedef struct SavedPosition
{
	uint16		vshard;
	uint32		generation;
	StreamKey	next;
	uint64		cursor_version;
	uint64		cursor_incarnation;
	uint64		cursor_stored_by;
	StreamKey	cursor;
	bool		overrides;
	bool		received;
	bool		pending;
	bool		given_up; /* with something pending, since then */
	bool		cursorless; /* there was no cursor then, whatever came since */
} SavedPosition;

typedef struct SavedPositions
{
	struct SavedPositions *outer;
	SubTransactionId subid;
	bool		rewind_wanted;
	bool		gave_up;
	bool		stores;
	int			n;
	int			size;
	SavedPosition *positions;
} SavedPositions;

/* Why nothing can be committed any more in the present transaction. */
typedef enum ConsumerLoss
{
	LOSS_NONE = 0,
	LOSS_MOVED /* another session has moved a cursor, or taken a stream over */
} ConsumerLoss;

struct Consumer
{
	struct Consumer *link; /* the next one of this session */
	MemoryContext context;
	char		name[NAMEDATALEN];
	Oid			log;	  /* seq_log when it subscribed */
	Stream	   *streams;
	int			nstreams;
	int16		by_vshard[WIRE_VSHARDS]; /* its place in streams, or -1 */
	int			turn;	  /* the stream to look at next */
	int			in_a_row; /* transactions it has yielded at a stretch */
	uint32		rewinds;  /* goes up whenever positions went back */
	bool		reload_wanted; /* the stored cursors, at the next transaction */
	bool		rewind_wanted; /* the stored cursors, at the next call */
	bool		gave_up;  /* in this transaction: streams with something pending */
	bool		stores;	  /* this transaction has stored a cursor */
	ConsumerLoss loss;	  /* until the end of the transaction */
	SavedPositions *saved; /* innermost first */
	struct Filler *filler; /* reads the log where the queues lack something */
};

static inline Stream *
stream_of(struct Consumer *consumer, uint16 vshard)
{
	int			number = consumer->by_vshard[vshard];

	return number < 0 ? NULL : &consumer->streams[number];
}

/* Is "key" set at all, and does the stream wait for something before it? */
static inline bool
stands_before(const Stream *stream, StreamKey key)
{
	return (key.epoch > 0 || key.position > 0) && key_less(stream->next, key);
}

/* Go to a key; what was taken off the queue from there on is in the log. */
static inline void
stream_go_back(Stream *stream, StreamKey key)
{
	if (key_less(stream->log_until, stream->next))
		stream->log_until = stream->next;
	/* the message that showed the hole is off the queue, and all before it */
	if (stream->holed && stream->log_until.epoch <= stream->holed_to)
		stream->log_until = (StreamKey){stream->holed_to + 1, 0};
	stream->next = key;
	stream->holed = false;
	stream->moved = true;
}

#endif							/* CALVIN_CONSUMER_STATE_H */
