/*
 * key.h
 *	  A transaction's key: its place in the order of all.
 */
#ifndef CALVIN_SHARED_KEY_H
#define CALVIN_SHARED_KEY_H

#include "compat.h"

#include "machine/machine.h"

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

/* Is all before a key whose last key is "last", with no epoch if there is none? */
static inline bool
traffic_before(StreamKey last, StreamKey key)
{
	return last.epoch == MACHINE_NO_EPOCH ||
		key_before(last.epoch, last.position, key);
}

#endif							/* CALVIN_SHARED_KEY_H */
