/*
 * consumer.h
 *	  This session as a consumer: its subscriptions and their queues.
 *
 * A Consumer is a name under which the session holds subscriptions.  It is
 * the session's, not the transaction's: rolling back does not end it.  Its
 * lossless subscriptions have a position each, the key that they wait for;
 * this part notices what the queues lack, log/stream.c gets it from the log.
 */
#ifndef CALVIN_CONSUMER_CONSUMER_H
#define CALVIN_CONSUMER_CONSUMER_H

#include "compat.h"

#include "log/cursors.h"
#include "shared/key.h"
#include "shared/queue.h"
#include "shared/shmem.h"

typedef struct Consumer Consumer;

/* An error unless a consumer can have that name: 1 to NAMEDATALEN - 1 bytes. */
extern void consumer_check_name(const char *name);

/* This session's consumer of that name, or NULL. */
extern Consumer *consumer_find(const char *name);

/* The same, or an error. */
extern Consumer *consumer_require(const char *name);

extern const char *consumer_name(const Consumer *consumer);

/*
 * Become the consumer of n different vshards under a name: all of them, or
 * an error.  Not transactional.  Transactions of entries above *start, which
 * is at least log_end, will arrive on the queues.
 */
extern Consumer *consumer_subscribe(DatabaseSlot *database, Oid log,
									const char *name, int n, const uint16 *vshards,
									Size ring_size, bool lossless,
									uint64 log_end, uint64 *start);

/*
 * What subscriptions begin with: the first key they want, and the highest
 * epoch of which nothing will come on the queues, -1 if there is none.
 */
extern void consumer_start_at(Consumer *consumer, int n, const uint16 *vshards,
							  StreamKey key, int64 behind_epoch);

/* End some subscriptions, or with vshards NULL all; returns how many. */
extern int	consumer_unsubscribe(Consumer *consumer, int n,
								 const uint16 *vshards);

/* End all subscriptions of the session. */
extern void consumer_unsubscribe_everything(void);

/*
 * Begin a call: raises an error if another session has taken some of the
 * subscriptions over.  Those are gone then; the others stay.
 */
extern void consumer_check(Consumer *consumer);

/*
 * Remember the positions, once in each (sub)transaction: its rollback brings
 * them back.  Subscriptions that come later in it are entered with their
 * start; "chosen" if the user named it.  So what they could ask for again is
 * known to who truncates the log.
 */
extern void consumer_save_positions(Consumer *consumer);
extern bool consumer_positions_saved(const Consumer *consumer);
extern void consumer_enter_positions(Consumer *consumer, int n,
									 const uint16 *vshards, bool chosen);

/*
 * Go back to where the present transaction began, as its rollback would; the
 * durable cursors are then wanted.
 */
extern void consumer_rewind(Consumer *consumer);

/*
 * Are the stored cursors wanted, after a rollback or consumer_rewind()?  They
 * are forgotten, then given one by one; subscriptions without one stay where
 * they are, unless their first one was in a prepared transaction and has not
 * come of it.  One whose start the user chose goes back to that, whatever is
 * stored, until its cursor is stored anew.
 */
extern bool consumer_wants_cursors(const Consumer *consumer);
extern void consumer_forget_cursors(Consumer *consumer);
extern void consumer_set_cursor(Consumer *consumer, const StreamCursor *cursor);
extern void consumer_cursors_loaded(Consumer *consumer);

/* The user chose cursor->next for this subscription. */
extern void consumer_override_cursor(Consumer *consumer,
									 const StreamCursor *cursor);

/* The first key that a subscription wants; false if there is none to vshard. */
extern bool consumer_get_position(Consumer *consumer, uint16 vshard,
								  StreamKey *next);

/*
 * Where the lossless subscriptions stand, with the versions they continued
 * from: those that moved since, or have no cursor yet.  cursors has room for
 * WIRE_VSHARDS.
 */
extern int	consumer_get_cursors(Consumer *consumer, StreamCursor *cursors);

/* These were stored: each has the next version now. */
extern void consumer_cursors_stored(Consumer *consumer, int n,
									const StreamCursor *cursors);

/*
 * They were not: another session did.  So it stays to the end of the
 * transaction.
 */
extern void consumer_cursors_lost(Consumer *consumer);
extern bool consumer_has_lost(const Consumer *consumer);

/* A transaction as it came, valid until the next call on this Consumer. */
typedef struct ConsumerTxn
{
	uint16		vshard;
	const QueueMessage *message;
} ConsumerTxn;

typedef enum ConsumerResult
{
	CONSUMER_TXN,	/* the next transaction that is there */
	CONSUMER_EMPTY, /* nothing now */
	CONSUMER_HOLE	/* something is to be had from the log only */
} ConsumerResult;

/* The next transaction, without waiting. */
extern ConsumerResult consumer_next(Consumer *consumer, ConsumerTxn *txn);

/*
 * The hole: of which epochs the log has to be read.  False if there is none
 * (any more).
 */
extern bool consumer_hole(Consumer *consumer, uint64 *from_epoch,
						  uint64 *to_epoch);

/*
 * Found in the log: does the lossless subscription to this vshard, if there
 * is one, still wait for it?  If so it counts as received.
 */
extern bool consumer_takes(Consumer *consumer, uint16 vshard, uint64 epoch,
						   uint32 position);

/* The log was read to that epoch, the end of the hole. */
extern void consumer_hole_filled(Consumer *consumer, uint64 to_epoch);

/* Goes up whenever positions went back: a walk of the log is worthless then. */
extern uint32 consumer_rewinds(const Consumer *consumer);

/* Publish how far the consumer has got; at the end of every call. */
extern void consumer_report(Consumer *consumer);

/* Room for who reads the log for this consumer; freed with it. */
extern void *consumer_attachment(Consumer *consumer);
extern void consumer_attach(Consumer *consumer, MemoryContext context,
							void *attachment);

#endif							/* CALVIN_CONSUMER_CONSUMER_H */
