/*
 * stream.h
 *	  A consumer's stream: the live queues, spliced with the log where they
 *	  lack something.
 */
#ifndef CALVIN_CONSUMER_STREAM_H
#define CALVIN_CONSUMER_STREAM_H

#include "compat.h"

#include "log/delivery.h"
#include "consumer/consumer.h"

/*
 * Subscribe this session; see consumer_subscribe().  A lossless subscription
 * starts at "from"; or, if that is NULL, at its durable cursor; or, without
 * one, with the first batch appended after the call.
 */
extern void stream_subscribe(DatabaseSlot *database, const char *name, int n,
							 const uint16 *vshards, Size ring_size,
							 bool lossless, const StreamKey *from);

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

/* Go back to the durable cursor, or to where this transaction began. */
extern void stream_rewind(Consumer *consumer);

#endif							/* CALVIN_CONSUMER_STREAM_H */
