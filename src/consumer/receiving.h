/*
 * receiving.h
 *	  What comes on a consumer's queues, and what is missing there.
 */
#ifndef CALVIN_CONSUMER_RECEIVING_H
#define CALVIN_CONSUMER_RECEIVING_H

#include "compat.h"

#include "consumer/consumer.h"

/* A transaction as it came, valid until the next call on this Consumer. */
typedef struct ReceivedTxn
{
	uint16		vshard;
	const QueueMessage *message;
} ReceivedTxn;

typedef enum ReceiveResult
{
	RECEIVE_TXN,   /* the next transaction that is there */
	RECEIVE_EMPTY, /* nothing now; the latch is set when there is */
	RECEIVE_HOLE   /* something is to be had from the log only */
} ReceiveResult;

/* The next transaction, without waiting. */
extern ReceiveResult receiving_next(Consumer *consumer, ReceivedTxn *txn);

/*
 * The hole: of which epochs the log has to be read.  False if there is none
 * (any more).
 */
extern bool receiving_hole(Consumer *consumer, uint64 *from_epoch,
						   uint64 *to_epoch);

/*
 * Found in the log: does the lossless subscription to this vshard, if there
 * is one, still wait for it?  If so it counts as received.
 */
extern bool receiving_takes(Consumer *consumer, uint16 vshard, uint64 epoch,
							uint32 position);

/* The log was read to that epoch, the end of the hole. */
extern void receiving_hole_filled(Consumer *consumer, uint64 to_epoch);

#endif							/* CALVIN_CONSUMER_RECEIVING_H */
