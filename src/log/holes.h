/*
 * holes.h
 *	  The latest holes of log_index that were passed, and whether a row has
 *	  turned up in one of them since.
 *
 * Explicit log_indexes leave holes.  Nobody can fill one, as long as the append
 * lock holds; a row that does was never applied, and every replica that reads
 * the log anew will apply it.
 */
#ifndef CALVIN_LOG_HOLES_H
#define CALVIN_LOG_HOLES_H

#include "compat.h"

#include "log/access.h"

/* Only those who append side by side can meet in a hole: in one of the last. */
#define HOLES_KEPT 32

typedef struct Hole
{
	uint64		from;
	uint64		to;
} Hole;

typedef struct Holes
{
	int			n;
	int			oldest;
	Hole		holes[HOLES_KEPT];
} Holes;

extern void holes_note(Holes *holes, uint64 from, uint64 to);

/* A row in one of them, which is forgotten then; false if there is none. */
extern bool holes_find_row(Holes *holes, const LogAccess *access,
						   uint64 *log_index);

#endif							/* CALVIN_LOG_HOLES_H */
