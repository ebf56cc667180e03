/*
 * fetchers.h
 *	  Who waits for something to fetch, and waking one of them.
 *
 * Of those that wait for a group one is woken at a time, by the applier when it has
 * applied something for the group, or by a transaction that has ended and had taken
 * partitions of it.  The one that was woken looks, and sees to the rest: if it leaves
 * more than it takes, or goes without having looked, it wakes the next one.
 *
 * Whoever waits has joined the list first and then looks once more before he sleeps;
 * whoever wakes has first made known what there is, and then looks at the list.
 *
 * The list is under a lock of its own, inside of which no other is taken.  The number
 * of those that wait in a database is written under it, and read by anyone.  When a
 * group was found crowded is written by anyone, and hints at how much to take, no
 * more; groups may share a word.
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

/* This session waits for a group with these vshards; once at a time. */
extern void fetchers_join(DatabaseSlot *slot, uint64 group, const uint64 *mask);

/* What has woken this session is dealt with: it may be woken again. */
extern void fetchers_looked(void);

/* It waits no more; "served": it has looked since it was woken, if it was. */
extern void fetchers_leave(bool served);

/*
 * Somebody has found a partition of a group taken by another; and, does anybody wait
 * for the group, or was it so within the last second?
 */
extern void fetchers_note_crowded(uint64 group);
extern bool fetchers_crowded(DatabaseSlot *slot, uint64 group);

/* Wake one that waits for a group. */
extern void fetchers_wake_group(DatabaseSlot *slot, uint64 group);

/* The applier: wake one of each group that has one of these vshards; NULL: all. */
extern void fetchers_wake(DatabaseSlot *slot, const uint64 *mask);

#endif							/* CALVIN_SHARED_FETCHERS_H */
