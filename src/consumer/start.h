/*
 * start.h
 *	  Where streams begin.
 */
#ifndef CALVIN_CONSUMER_START_H
#define CALVIN_CONSUMER_START_H

#include "compat.h"

#include "consumer/consumer.h"

/*
 * Subscribe this session; see consumer_subscribe().  A lossless subscription
 * starts at "from"; or, if that is NULL, at its durable cursor; or, without
 * one, with the first batch appended after the call.
 */
extern void start_streams(DatabaseSlot *database, const char *name, int n,
						  const uint16 *vshards, Size ring_size, bool lossless,
						  const StreamKey *from);

#endif							/* CALVIN_CONSUMER_START_H */
