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

static inline bool
key_less(StreamKey a, StreamKey b)
{
	return key_before(a.epoch, a.position, b);
}

static inline bool
key_equal(StreamKey a, StreamKey b)
{
	return a.epoch == b.epoch && a.position == b.position;
}

/* The first epoch that is wholly behind a key: "before this" in epochs. */
static inline uint64
key_end_epoch(StreamKey key)
{
	return key.position > 0 ? key.epoch + 1 : key.epoch;
}

/* Is all before a key whose last key is "last", with no epoch if there is none? */
static inline bool
traffic_before(StreamKey last, StreamKey key)
{
	return last.epoch == MACHINE_NO_EPOCH ||
		key_before(last.epoch, last.position, key);
}

#endif							/* CALVIN_SHARED_KEY_H */
