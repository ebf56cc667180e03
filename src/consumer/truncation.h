/*
 * truncation.h
 *	  Removing the beginning of the log, unless somebody still needs it.
 */
#ifndef CALVIN_CONSUMER_TRUNCATION_H
#define CALVIN_CONSUMER_TRUNCATION_H

#include "compat.h"

#include "datatype/timestamp.h"
#include "shared/shmem.h"

/*
 * In this transaction, as the owner of the log: remove what is in front of the first
 * batch that reached an epoch.  An error, that names who, if somebody needs it; with
 * "force" nobody is asked.  Returns how many entries went.
 */
extern uint64 truncation_before(DatabaseSlot *database, uint64 epoch, bool force);

/* The same as far as nobody needs it. */
extern uint64 truncation_unneeded(DatabaseSlot *database);

typedef enum TruncationStep
{
	TRUNCATION_MORE, /* another step would go on */
	TRUNCATION_DONE, /* the rest is too young, or there is none */
	TRUNCATION_HELD	 /* somebody needs the rest, or is in the way just now */
} TruncationStep;

/*
 * One such step, of what was appended before a time, without waiting for anybody.
 * *too_young is when what stopped it was appended, 0 if nothing did.
 */
extern TruncationStep truncation_step(DatabaseSlot *database, TimestampTz before,
									  TimestampTz *too_young);

#endif							/* CALVIN_CONSUMER_TRUNCATION_H */
