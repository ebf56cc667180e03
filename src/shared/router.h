/*
 * router.h
 *	  The applier's side of the queues: who gets a transaction, and handing
 *	  it over without ever waiting.
 */
#ifndef CALVIN_SHARED_ROUTER_H
#define CALVIN_SHARED_ROUTER_H

#include "compat.h"

#include "machine/machine.h"
#include "shared/queue.h"
#include "shared/shmem.h"

typedef struct Router Router;

/* Lives in the current memory context, for the rest of the process. */
extern Router *router_create(DatabaseSlot *database);

/*
 * Take note of subscriptions that came and went.  From here on, entries up
 * to "through" are routed to those known now: who subscribes later gets what
 * comes after.  Call it outside transactions, before every burst.
 */
extern void router_sync(Router *router, uint64 through);

/* Has router_sync() nothing to take note of?  Then that much of it is done. */
extern bool router_unchanged(Router *router, uint64 through);

/* Does anyone listen at all? */
extern bool router_in_use(const Router *router);

/* Does anyone listen to one of the transaction's vshards? */
extern bool router_wants(const Router *router, uint64 log_index,
						 const WireTxn *txn);

/* Is the ring of any of them larger than the transaction as the log has it? */
extern bool router_has_room(const Router *router, uint64 log_index,
							const WireTxn *txn);

/* It is too large for all of them; counts what it did. */
extern void router_drop(Router *router, uint64 log_index, uint64 epoch,
						const WireTxn *txn, MachineCounters *counters);

/* Put a transaction on the queues of its vshards; counts what it did. */
extern void router_send(Router *router, uint64 log_index, QueueOutgoing *out,
						MachineCounters *counters);

/* It is part of their streams, but they have to get it from the log. */
extern void router_pass_over(Router *router, uint64 log_index, uint64 epoch,
							 const WireTxn *txn);

/*
 * Entries up to a log_index, of epochs up to the given one (MACHINE_NO_EPOCH:
 * none), can be had no more: any of them may have been meant for anybody.
 */
extern void router_pass_over_all(Router *router, uint64 log_index,
								 uint64 epoch);

/*
 * The end of a burst: what was sent becomes visible, consumers are woken and
 * the subscriptions' progress is published.
 */
extern void router_flush(Router *router, MachineCounters *counters);

/*
 * After the state was published: wake those who stand before next_epoch and can
 * read more of the log now.
 */
extern void router_wake_readers(Router *router, uint64 next_epoch);

#endif							/* CALVIN_SHARED_ROUTER_H */
