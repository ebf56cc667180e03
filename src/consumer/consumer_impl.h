/*
 * consumer_impl.h
 *	  What the files of the consumer share among themselves: consumer.c (its
 *	  life), receiving.c (what comes, and what is missing), positions.c
 *	  (rolling back, durable cursors).
 */
#ifndef CALVIN_CONSUMER_CONSUMER_IMPL_H
#define CALVIN_CONSUMER_CONSUMER_IMPL_H

#include "compat.h"

#include "access/xact.h"
#include "consumer/consumer.h"
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

	uint64		cursor_version; /* that this session continued from, 0: none */
	StreamKey	cursor;	  /* its key */
	bool		overrides; /* cursor is what the user chose, not what is stored */
	bool		received; /* something since then */
	bool		pending;  /* something in this transaction, not committed */
	bool		prepared; /* its first cursor is in a prepared transaction, */
	StreamKey	before_prepared; /* which began here */
	StreamKey	floor;	  /* as last published */
} Stream;

/* A stream as it was before a (sub)transaction received anything. */
typedef struct SavedPosition
{
	uint16		vshard;
	uint32		generation;
	StreamKey	next;
	uint64		cursor_version;
	StreamKey	cursor;
	bool		overrides;
	bool		received;
	bool		pending;
} SavedPosition;

typedef struct SavedPositions
{
	struct SavedPositions *outer;
	SubTransactionId subid;
	bool		rewind_wanted;
	int			n;
	int			size;
	SavedPosition *positions;
} SavedPositions;

struct Consumer
{
	Consumer   *next;
	char		name[NAMEDATALEN];
	Stream	   *streams;
	int			nstreams;
	int16		by_vshard[WIRE_VSHARDS]; /* its place in streams, or -1 */
	int			turn;	  /* the stream to look at next */
	int			in_a_row; /* transactions it has yielded at a stretch */
	uint32		rewinds;
	bool		reload_wanted; /* the stored cursors, at the next transaction */
	bool		rewind_wanted; /* the stored cursors, at the next call */
	bool		lost;	  /* another session moved a cursor: until the end of
						   * the transaction nothing can be committed */
	SavedPositions *saved; /* innermost first */
	MemoryContext attachment_context;
	void	   *attachment;
};

/* All of this session, and the memory they live in. */
extern Consumer *consumers;
extern MemoryContext consumer_context;

/* consumer.c: new queues for all streams whose applier has ended. */
extern void consumer_reconnect(Consumer *consumer);

/* consumer.c: forget one that has no streams. */
extern void consumer_free(Consumer *consumer);

/* positions.c */
extern void positions_init(void); /* once, with the first consumer */
extern void positions_forget(Consumer *consumer);

static inline Stream *
stream_of(Consumer *consumer, uint16 vshard)
{
	int			number = consumer->by_vshard[vshard];

	return number < 0 ? NULL : &consumer->streams[number];
}

#endif							/* CALVIN_CONSUMER_CONSUMER_IMPL_H */
