/*
 * holes.c
 *	  The latest holes of log_index that were passed, and whether a row has
 *	  turned up in one of them since.
 */
#include "compat.h"

#include "log/holes.h"
#include "log/reader.h"

void
holes_note(Holes *holes, uint64 from, uint64 to)
{
	Hole	   *hole;

	if (holes->n < HOLES_KEPT)
		hole = &holes->holes[holes->n++];
	else
	{
		hole = &holes->holes[holes->oldest];
		holes->oldest = (holes->oldest + 1) % HOLES_KEPT;
	}
	hole->from = from;
	hole->to = to;
}

bool
holes_find_row(Holes *holes, const LogAccess *access, uint64 *log_index)
{
	for (int i = 0; i < holes->n; i++)
	{
		Hole	   *hole = &holes->holes[i];
		int64		last;

		if (hole->from > hole->to)
			continue;
		last = log_index_before(access, (int64) hole->to + 1);
		if (last < (int64) hole->from)
			continue;
		*log_index = (uint64) last;
		/* an empty one */
		hole->to = hole->from - 1;
		return true;
	}
	return false;
}
