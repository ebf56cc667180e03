/*
 * traffic.h
 *	  Which vshards had something in which of the last epochs.
 *
 * Who fetches for a group asks whether a partition of it has anything, and where to
 * begin in the log, without reading it.  The applier notes the last epochs of every
 * vshard, once somebody has asked in the database.
 *
 *	word			written by			read by
 *	wanted			who fetches			the applier, with each entry
 *	known_from		the applier			who fetches
 *	count, epochs	the applier			who fetches: whole if the count is the same
 *										before and after
 *
 * The applier notes an entry before it publishes that it has applied it.  So whoever
 * has read the published state first, and then this, may conclude: of the epochs
 * through that state's, and not before known_from, none but those here had anything
 * for a vshard, unless there were more than are kept.  The first one that is kept counts
 * as gone: the next epoch takes its place before it is counted.  What the applier was
 * paused in, or has died after, is not published; it is noted once all the same.
 */
#ifndef CALVIN_SHARED_TRAFFIC_H
#define CALVIN_SHARED_TRAFFIC_H

#include "compat.h"

#include "shared/shmem.h"
#include "wire/wire.h"

/* No epoch: there is nothing. */
#define TRAFFIC_NONE PG_UINT64_MAX

/* Shared memory; called by shmem.c. */
extern Size traffic_shmem_size(void);
extern void traffic_shmem_init(void);

/* Nothing is known any more; the lock is held. */
extern void traffic_reset_locked(DatabaseSlot *slot);

/* From now on the applier shall note what comes; before anything is asked. */
extern void traffic_want(DatabaseSlot *slot);

/*
 * The first epoch, not before "from", that may have had something for a vshard, by
 * what is known; TRAFFIC_NONE: there was none through the epoch that the caller has
 * read to be applied.
 */
extern uint64 traffic_first(DatabaseSlot *slot, uint16 vshard, uint64 from);

/* The applier: does anybody want it? */
extern bool traffic_wanted(DatabaseSlot *slot);

/*
 * The applier: a batch of that epoch comes, after the last one, or MACHINE_NO_EPOCH.
 * What it has for whom is noted, or not known if it is not "noted".
 */
extern void traffic_begin_epoch(DatabaseSlot *slot, uint64 last, uint64 epoch,
								bool noted);
extern void traffic_note(DatabaseSlot *slot, uint64 epoch, const WireTxn *txn);

#endif							/* CALVIN_SHARED_TRAFFIC_H */
