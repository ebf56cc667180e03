/*
 * parking.h
 *	  Setting aside what a group cannot process.
 */
#ifndef CALVIN_CONSUMER_PARKING_H
#define CALVIN_CONSUMER_PARKING_H

#include "compat.h"

#include "consumer/group.h"

/*
 * Park what the log has at a key for a group; an error if there is nothing, or it is
 * parked already.  The caller has taken its partition.
 */
extern void parking_park(const FetchGroup *group, GroupKey key, uint32 attempts,
						 const char *reason);

/*
 * A partition, which is taken, is moved from one key to another: what was settled in
 * between is not to be passed over again.
 */
extern void parking_forget_settled(const FetchGroup *group, int partition, GroupKey from,
								   GroupKey to);

#endif							/* CALVIN_CONSUMER_PARKING_H */
