/*
 * landing.h
 *	  The table seq_inbox: submissions that a dump has brought.
 */
#ifndef CALVIN_LOG_LANDING_H
#define CALVIN_LOG_LANDING_H

#include "compat.h"

#include "log/batch.h"
#include "shared/shmem.h"

typedef enum LandingVerdict
{
	LANDING_EMPTY, /* nothing is left in it */
	LANDING_MORE,
	LANDING_EARLY  /* the log that they belong behind was not restored yet */
} LandingVerdict;

/*
 * Put the first ones into the log, in the transaction that was begun, as the log's
 * owner.
 */
extern LandingVerdict landing_take(DatabaseSlot *slot, Batch *batch);

/* So many are in it now. */
extern uint64 landing_now(void);

/* That transaction was committed. */
extern void landing_tell(DatabaseSlot *slot);

#endif							/* CALVIN_LOG_LANDING_H */
