/*
 * parked.h
 *	  Transactions that groups have set aside: the table seq_parked_txns.
 */
#ifndef CALVIN_LOG_PARKED_H
#define CALVIN_LOG_PARKED_H

#include "compat.h"

#include "log/delivery.h"
#include "log/group_positions.h"

/* Set a transaction aside for a group; an error if it is already. */
extern void parked_add(uint64 id, const Delivery *delivery, uint32 attempts,
					   const char *reason);

/* An error if a transaction is set aside, or was before its group came to it. */
extern void parked_refuse(uint64 id, GroupKey key);

/* One that a group passes over. */
typedef struct ParkedKey
{
	GroupKey	key;
	bool		settled; /* nothing waits to be retried any more */
} ParkedKey;

/*
 * Those of a group from a key on, through an epoch, ascending; palloc'd.  Returns how
 * many.
 */
extern int	parked_list(uint64 id, GroupKey from, uint64 to_epoch, ParkedKey **keys);

/*
 * Take one back, for which another transaction that is about to do it is waited for;
 * false if there is none.  "ahead": the group has not come to it, and is still to pass
 * over it.  *tx_class is palloc'd.
 */
extern bool parked_settle(uint64 id, GroupKey key, bool ahead, bytea **tx_class,
						  int64 *epoch_system_ms);

/* The group has passed over one that was settled. */
extern void parked_forget(uint64 id, GroupKey key);

/* All of a group are another one's from here on. */
extern void parked_give(uint64 from, uint64 to);

/* Forget all of a group. */
extern void parked_drop(uint64 id);

#endif							/* CALVIN_LOG_PARKED_H */
