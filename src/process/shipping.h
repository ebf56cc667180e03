/*
 * shipping.h
 *	  Acknowledgements of a follower, to its source: over a connection of their own, since
 *	  the other one waits for what the source appends.
 */
#ifndef CALVIN_PROCESS_SHIPPING_H
#define CALVIN_PROCESS_SHIPPING_H

#include "compat.h"

#include "machine/machine.h"
#include "process/source.h"
#include "shared/shmem.h"

/*
 * Do what can be done now, having stored the source's log with that state behind it; true
 * if there is more of it.  Starts and ends its own transactions.
 */
extern bool shipping_some(DatabaseSlot *slot, const char *conninfo, int turn,
						  const MachineState *stored, SourceWait *wait);

/* What was waited for has come. */
extern void shipping_ready(int events);

/* Begin anew, when there is something to ship again. */
extern void shipping_stop(void);

#endif							/* CALVIN_PROCESS_SHIPPING_H */
