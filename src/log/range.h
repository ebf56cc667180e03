/*
 * range.h
 *	  How much of the beginning of the log may go: by age, by what was replayed, and by
 *	  what one transaction is to remove at most.
 */
#ifndef CALVIN_LOG_RANGE_H
#define CALVIN_LOG_RANGE_H

#include "compat.h"

#include "datatype/timestamp.h"
#include "log/replayed.h"

typedef struct RangeLimits
{
	uint64		through_index;	/* up to this entry */
	uint64		before_epoch;	/* in front of the first batch that reached it */
	TimestampTz appended_before; /* of that age; DT_NOEND: of any */
	TimestampTz lag_before;		/* what was appended before, consumers do not hold;
								 * DT_NOBEGIN: they hold everything */
	Replayed	replayed;		/* that standbys have replayed */
	int			entries;		/* about so many, */
	Size		bytes;			/* with about so many bytes */
} RangeLimits;

typedef struct LogRange
{
	uint64		before_epoch; /* what to truncate before; 0: nothing */
	bool		lagging;	/* all of it is of the age that consumers do not hold */
	uint64		through_index; /* entries up to this one were within all limits */
	bool		unreplayed; /* a standby ended it */
	TimestampTz too_young;	/* when what stopped it for its age was appended; else 0 */
} LogRange;

/* The longest range that is within all limits. */
extern void range_find(const RangeLimits *limits, LogRange *range);

#endif							/* CALVIN_LOG_RANGE_H */
