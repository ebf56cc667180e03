/*
 * rotation.h
 *	  Which partition of the inbox is written to, and how the others get empty.
 */
#ifndef CALVIN_LOG_ROTATION_H
#define CALVIN_LOG_ROTATION_H

#include "compat.h"

#include "log/waiting.h"
#include "shared/shmem.h"

/* The sequencer begins: the partition that was written to last goes on. */
extern void rotation_begin(DatabaseSlot *slot, Relation *partitions,
						   Snapshot snapshot);

/* So many bytes were put into the log. */
extern void rotation_note(uint64 bytes);

/*
 * Is rotation_step() to be called?  If not, *wait_ms is when it may be, -1 if that
 * depends on what is submitted.
 */
extern bool rotation_due(long *wait_ms);

/*
 * Do one thing, in the transaction that was begun, which it ends.  "taken" is what
 * was taken and committed.
 */
extern void rotation_step(DatabaseSlot *slot, InboxTaken taken);

/* Rows that are gone, which a snapshot between the two would have seen: rotation.c. */
typedef struct RemovedSpan
{
	uint64		first; /* the first partition that was emptied came to be with it; */
	uint64		last;  /* the last one was emptied by it: full transaction ids */
	uint64		end;   /* stamps of packets that were in them, and of notes, lie below */
} RemovedSpan;

/*
 * What was removed from the inbox so far, by its newest header; palloc'd, *n of
 * them.
 */
extern RemovedSpan *rotation_removed(Relation *partitions, Snapshot snapshot,
									 int *n);

#endif							/* CALVIN_LOG_ROTATION_H */
