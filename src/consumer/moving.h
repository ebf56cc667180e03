/*
 * moving.h
 *	  Giving a group other vshards than it has, each of which goes on where it stands.
 */
#ifndef CALVIN_CONSUMER_MOVING_H
#define CALVIN_CONSUMER_MOVING_H

#include "compat.h"

#include "log/group_positions.h"
#include "log/registry.h"

/* What a group has, and how far it is. */
typedef struct GroupHolding
{
	int			n;
	GroupKey	keys[WIRE_VSHARDS]; /* of each of its vshards the first key that it has
									 * not processed, in their order */
	uint64		delivered;	/* by all of its partitions, */
	uint64		retried;	/* and their attempts */
} GroupHolding;

/*
 * The group of a name, which the present user may use, locked so that nobody has fetched
 * for it and not ended, and nobody begins to; an error if this transaction has fetched.
 * NULL if there is none.
 */
extern Registration *moving_lock(const char *name);

/* What such a group has. */
extern void moving_read(const Registration *registration, GroupHolding *holding);

/* Give a new registration the vshards and partitions that a holding has. */
extern void moving_describe(Registration *registration, const GroupHolding *holding,
							int partitions);

/* Have what was registered so begin there. */
extern void moving_begin(const Registration *registration, const GroupHolding *holding);

/*
 * Have the group, locked, have those in place of what it has, under another id, with what
 * it has parked, and with its handler.
 */
extern void moving_replace(const Registration *registration, const GroupHolding *holding,
						   int partitions);

/* It has none any more, and is dropped. */
extern void moving_end(const Registration *registration);

#endif							/* CALVIN_CONSUMER_MOVING_H */
