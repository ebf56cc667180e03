/*
 * stream.h
 *	  A consumer's stream: the live queues, spliced with the log where they
 *	  lack something.
 */
#ifndef CALVIN_CONSUMER_STREAM_H
#define CALVIN_CONSUMER_STREAM_H

#include "compat.h"

#include "consumer/consumer.h"
#include "log/delivery.h"

/*
 * Begin a call: takeovers are noticed here, and after a rollback the durable
 * cursors are read.
 */
extern void stream_begin(Consumer *consumer);

/*
 * The next transaction, without waiting; false if there is none now.  Valid
 * until the next call on this consumer.
 */
extern bool stream_next(Consumer *consumer, Delivery *delivery);

/*
 * Store the positions as the durable cursor, in this transaction; how many
 * were.  An error if another session has moved one of them.
 */
extern int	stream_commit(Consumer *consumer);

/* The first key that a subscription wants; false if there is none to vshard. */
extern bool stream_position(Consumer *consumer, uint16 vshard, StreamKey *next);

/* Go back to the durable cursor, or to where this transaction began. */
extern void stream_rewind(Consumer *consumer);

#endif							/* CALVIN_CONSUMER_STREAM_H */
