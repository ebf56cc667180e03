/*
 * states.h
 *	  The state of the log behind any of its entries.
 */
#ifndef CALVIN_LOG_STATES_H
#define CALVIN_LOG_STATES_H

#include "compat.h"

#include "log/access.h"
#include "machine/machine.h"

/*
 * The state after all entries up to a log_index, which is not in front of the base:
 * stepped from the last snapshot before it, or from "known", a state of this log, if
 * that is nearer; it may be NULL.  An error for a log whose base is missing.  Needs
 * ACCESS_SNAPSHOTS and ACCESS_IDENTITY.
 */
extern void states_find(const LogAccess *access, uint64 through,
						const MachineState *known, MachineState *state);

#endif							/* CALVIN_LOG_STATES_H */
