/*
 * consumer.h
 *	  This session as a consumer: its subscriptions and their queues.
 *
 * A Consumer is a name under which the session holds subscriptions.  It is
 * the session's, not the transaction's: rolling back does not end it.
 */
#ifndef CALVIN_SHARED_CONSUMER_H
#define CALVIN_SHARED_CONSUMER_H

#include "compat.h"

#include "shared/queue.h"
#include "shared/shmem.h"

typedef struct Consumer Consumer;

/* A transaction as it came, valid until the next call on this Consumer. */
typedef struct ConsumerTxn
{
	uint16		vshard;
	const QueueMessage *message;
} ConsumerTxn;

/* This session's consumer of that name, or NULL. */
extern Consumer *consumer_find(const char *name);

/*
 * Become the consumer of n different vshards under a name: all of them, or
 * an error.  Transactions of entries above log_end, and above what the
 * applier has routed already, will arrive.  Not transactional.
 */
extern void consumer_subscribe(DatabaseSlot *database, const char *name,
							   int n, const uint16 *vshards, Size ring_size,
							   bool lossless, uint64 log_end);

/* End some subscriptions, or with vshards NULL all; returns how many. */
extern int	consumer_unsubscribe(Consumer *consumer, int n,
								 const uint16 *vshards);

/* End all subscriptions of the session. */
extern void consumer_unsubscribe_everything(void);

/*
 * Raise an error if another session has taken some of the subscriptions
 * over.  Those are gone then; the others stay.
 */
extern void consumer_check(Consumer *consumer);

/* The next transaction that is there, without waiting. */
extern bool consumer_next(Consumer *consumer, ConsumerTxn *txn);

/* Publish how far the consumer has got; at the end of every call. */
extern void consumer_report(Consumer *consumer);

#endif							/* CALVIN_SHARED_CONSUMER_H */
