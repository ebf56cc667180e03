/*
 * standbys.h
 *	  How far the standbys connected to this server have replayed.
 */
#ifndef CALVIN_LOG_STANDBYS_H
#define CALVIN_LOG_STANDBYS_H

#include "compat.h"

#include "access/xlogdefs.h"

/* A walsender whose standby has not replayed something yet. */
typedef struct StandbyBehind
{
	pid_t		pid; /* of the walsender */
	XLogRecPtr	replayed;
} StandbyBehind;

/*
 * How many of the connected standbys have not replayed WAL up to lsn, and the
 * one furthest behind.  Receivers that do not replay, and logical subscribers,
 * do not count.
 */
extern int	standbys_behind(XLogRecPtr lsn, StandbyBehind *furthest);

#endif							/* CALVIN_LOG_STANDBYS_H */
