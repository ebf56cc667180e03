/*
 * delivery.h
 *	  A transaction as it is handed to a vshard's consumer.
 */
#ifndef CALVIN_LOG_DELIVERY_H
#define CALVIN_LOG_DELIVERY_H

#include "compat.h"

#include "wire/wire.h"

typedef struct Delivery
{
	uint16		vshard;
	uint16		vshard_count;
	uint32		position;
	uint64		epoch;
	int64		epoch_system_ms;
	uint64		tenant_id;
	const uint16 *vshards; /* participants, ascending */
	WireSlice	plans;
	WireSlice	tx_class; /* in canonical form */
	struct varlena *datum; /* tx_class as a bytea if it lies as one, or NULL */
} Delivery;

#endif							/* CALVIN_LOG_DELIVERY_H */
