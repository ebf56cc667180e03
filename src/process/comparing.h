/*
 * comparing.h
 *	  Whether the log here is a part of the source's.
 */
#ifndef CALVIN_PROCESS_COMPARING_H
#define CALVIN_PROCESS_COMPARING_H

#include "compat.h"

#include "log/following.h"
#include "machine/machine.h"
#include "process/source_state.h"
#include "shared/follower.h"

typedef struct Difference
{
	FollowerState state;
	char	   *message; /* palloc'd */
	const char *hint;
} Difference;

/*
 * Is there any between the source's log and the one here, which has that identity (NULL:
 * none yet), and "here" behind its last row?
 */
extern bool comparing_finds(const SourceState *there, const Following *following,
							const pg_uuid_t *identity, const MachineState *here,
							Difference *difference);

#endif							/* CALVIN_PROCESS_COMPARING_H */
