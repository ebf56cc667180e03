/*
 * key.h
 *	  A transaction's key: its place in the order of all.
 */
#ifndef CALVIN_SHARED_KEY_H
#define CALVIN_SHARED_KEY_H

#include "compat.h"

typedef struct StreamKey
{
	uint64		epoch;
	uint32		position;
} StreamKey;

static inline bool
key_before(uint64 epoch, uint32 position, StreamKey key)
{
	return epoch < key.epoch ||
		(epoch == key.epoch && position < key.position);
}

#endif							/* CALVIN_SHARED_KEY_H */
