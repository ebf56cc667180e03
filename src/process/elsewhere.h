/*
 * elsewhere.h
 *	  Whether another host has gone on, while the one that is followed has nothing new.
 */
#ifndef CALVIN_PROCESS_ELSEWHERE_H
#define CALVIN_PROCESS_ELSEWHERE_H

#include "compat.h"

#include "machine/machine.h"
#include "process/source.h"

typedef enum ElsewhereNext
{
	ELSEWHERE_WAITS,
	ELSEWHERE_AGAIN, /* there is more to do at once */
	ELSEWHERE_FOUND	 /* one has: begin there */
} ElsewhereNext;

/*
 * Do what can be done now, with "here" the state behind our last row, and nothing having
 * come since "since", as clock_ms() tells time.  *turn is the host to begin with, as in
 * conninfo.h; if one was found, it is that.
 */
extern ElsewhereNext elsewhere_some(const char *conninfo, const MachineState *here,
									int64 since, int *turn, SourceWait *wait);

/* What was waited for has come. */
extern void elsewhere_ready(int events);

/* Another source, or none. */
extern void elsewhere_stop(void);

#endif							/* CALVIN_PROCESS_ELSEWHERE_H */
