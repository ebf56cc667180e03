/*
 * reaching.h
 *	  A follower's way to its source, which may be any of several hosts.
 */
#ifndef CALVIN_PROCESS_REACHING_H
#define CALVIN_PROCESS_REACHING_H

#include "compat.h"

#include "process/source.h"

/* It can wait for two at a time. */
#define REACHING_SOCKETS 2

/* Begin to connect.  The string has to stay until it is over. */
extern SourceStatus reaching_start(Source *source, const char *conninfo);

/* Go on with it; if it waits, for what "waits_for" says. */
extern SourceStatus reaching_some(Source *source, SourceWait waits_for[REACHING_SOCKETS]);

/* At one of them, what was waited for has come. */
extern void reaching_ready(int which);

/* It is over, or given up. */
extern void reaching_stop(void);

/* The next attempt begins with the host behind the one that this is connected to, or tries. */
extern void reaching_pass_over(const Source *source);

/* The next attempt begins with that one. */
extern void reaching_begin_with(int first);

/* The host to begin with, as in conninfo.h. */
extern int	reaching_turn(void);

#endif							/* CALVIN_PROCESS_REACHING_H */
