/*
 * queues.h
 *	  The DSM segments and queues of this session.
 */
#ifndef CALVIN_CONSUMER_QUEUES_H
#define CALVIN_CONSUMER_QUEUES_H

#include "compat.h"

#include "consumer/state.h"

/*
 * A segment with n queues of the given rings.  Until it is pinned it goes away
 * with the resource owner; readers, and "queues" with its arrays, are filled in.
 */
extern Segment *queues_make(int n, const Size *ring_sizes, QueueReader *readers,
							Size *offsets, SubscriptionQueues *queues);

/* It is the session's from here on. */
extern void queues_pin(Segment *segment);

/* One that no stream was given. */
extern void queues_free(Segment *segment);

/* Let go of a stream's queue; its place in the array is the caller's. */
extern void queues_drop(Stream *stream);

/* New queues for all streams whose applier has ended. */
extern void queues_reconnect(struct Consumer *consumer);

#endif							/* CALVIN_CONSUMER_QUEUES_H */
