/*
 * fetchers.h
 *	  Who waits for something to fetch, and waking one of them.
 *
 * Of those that wait for a group one is woken at a time, by the applier when it has
 * applied something for the group, or by a transaction that has ended and had taken
 * partitions of it; besides, by the applier, who waits in a transaction that has taken
 * some already.  The one that was woken looks, and sees to the rest: if it leaves
 * more than it takes, or goes without having looked, it wakes the next one.
 *
 * Whoever waits has joined the list first and then looks once more before he sleeps;
 * whoever wakes has first made known what there is, and then looks at the list.
 *
 * The list is under a lock of its own, inside of which no other is taken.  The number
 * of those that wait in a database is written under it, and read by anyone.  When a
 * group was found crowded, and how often a partition was passed by, is written by anyone;
 * groups may share these words.  The first hints at how much to take, no more.
 */
#ifndef CALVIN_SHARED_FETCHERS_H
#define CALVIN_SHARED_FETCHERS_H

#include "compat.h"

#include "shared/shmem.h"
#include "wire/wire.h"

#define FETCH_MASK_WORDS (WIRE_VSHARDS / 64)

/* Shared memory; called by shmem.c. */
extern void fetchers_shmem_request(void);
extern void fetchers_shmem_init(void);

/*
 * This session waits for a group with these vshards; once at a time.  If it "holds"
 * partitions, what comes for them is for nobody else: it is told of all that comes.
 */
extern void fetchers_join(DatabaseSlot *slot, uint64 group, const uint64 *mask,
						  bool holds);

/* What has woken this session is dealt with: it may be woken again. */
extern void fetchers_looked(void);

/*
 * Has it been since?  Whatever waits in between, such as for a lock, may have taken the
 * latch's news.
 */
extern bool fetchers_woken(void);

/*
 * It waits no more.  What has woken it since it looked last is the next one's, who is
 * woken in its place; also if it has not "looked" to the end.
 */
extern void fetchers_leave(bool looked);

/*
 * Somebody has found a partition of a group taken by another; and, does anybody wait
 * for the group, or was it so within the last second?
 */
extern void fetchers_note_crowded(uint64 group);
extern bool fetchers_crowded(DatabaseSlot *slot, uint64 group);

/*
 * A partition of a group was found locked: he who found it so notes it, tries once more,
 * and passes by.  So whoever had it locked, and lets it go, sees by the number whether
 * anybody may sleep beside it.
 */
extern void fetchers_note_passed(uint64 group);
extern uint32 fetchers_passed(uint64 group);

/* Wake one that waits for a group. */
extern void fetchers_wake_group(DatabaseSlot *slot, uint64 group);

/* The applier: wake one of each group that has one of these vshards; NULL: all. */
extern void fetchers_wake(DatabaseSlot *slot, const uint64 *mask);

#endif							/* CALVIN_SHARED_FETCHERS_H */
