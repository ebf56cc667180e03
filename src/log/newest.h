/*
 * newest.h
 *	  The newest row of a thing that is stored anew, as a row of its own, each time
 *	  that it changes.
 *
 * The primary key of such a table ends with a version that goes up.  While
 * somebody holds an old snapshot, what was replaced can not be removed; but it
 * lies behind the newest row in the key, which is read from its upper end.  So
 * neither storing nor reading ever passes by it.
 */
#ifndef CALVIN_LOG_NEWEST_H
#define CALVIN_LOG_NEWEST_H

#include "compat.h"

#include "access/relscan.h"
#include "access/skey.h"
#include "log/access.h"

typedef struct NewestScan
{
	SideAccess	access;
	IndexScanDesc scan;
	int			nkeys;
	TupleTableSlot *slot;	/* the row found */
	TupleTableSlot *behind; /* and what it has replaced */
} NewestScan;

/* By the first columns of the primary key, nkeys of them. */
extern void newest_begin(NewestScan *scan, SideTable side, LOCKMODE mode,
						 AccessSnapshot kind, int nkeys);

/* The last row in the order of the key with these bounds, by one descent, or false. */
extern bool newest_find(NewestScan *scan, ScanKey keys);

/*
 * When the row found was replaced: have the index forget rows behind it that are
 * dead to everybody.
 */
extern void newest_try_dead(NewestScan *scan);

/* Go on with what is committed by now. */
extern void newest_refresh(NewestScan *scan);
extern void newest_end(NewestScan *scan);

#endif							/* CALVIN_LOG_NEWEST_H */
