/*
 * needs.h
 *	  Who needs the log, and who removes its beginning: one of the two sees the
 *	  other.
 */
#ifndef CALVIN_LOG_NEEDS_H
#define CALVIN_LOG_NEEDS_H

#include "compat.h"

#include "shared/shmem.h"

/*
 * Truncations are one at a time: wait for the one before, to the end of its
 * transaction, and keep others out to the end of this one.
 */
extern void needs_lock_truncation(void);

/* The same; false, and no lock, if there is another one, or somebody keeps them out. */
extern bool needs_try_lock_truncation(void);

/*
 * Epochs up to this one are to go: who begins to need one of them waits for the
 * end of the (sub)transaction, or until that is taken back.
 */
extern void needs_fence(DatabaseSlot *database, uint64 through);
extern void needs_unfence(void);

/* Somebody begins to need the log. */
typedef struct LogNeed
{
	DatabaseSlot *database;
	uint64		raised; /* fences when he began */
} LogNeed;

/* Without a database slot, NULL, nobody can truncate. */
extern void needs_begin(LogNeed *need, DatabaseSlot *database);

/* Is another session about to remove that epoch? */
extern bool needs_fenced(const LogNeed *need, uint64 epoch);

/* Wait until it has, or has given up. */
extern void needs_wait(const LogNeed *need, uint64 epoch);

/*
 * After it has been made known that the log is needed from an epoch on: is it
 * certain that every truncation takes that into account, or did so?  If not,
 * one that began meanwhile may have passed it over.
 */
extern bool needs_settled(const LogNeed *need, uint64 epoch);

/* An error if an epoch has gone, for a subscription of that name. */
extern void needs_require(uint64 epoch, const char *name);

#endif							/* CALVIN_LOG_NEEDS_H */
