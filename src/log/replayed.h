/*
 * replayed.h
 *	  Which entries of the log the connected standbys have replayed.
 */
#ifndef CALVIN_LOG_REPLAYED_H
#define CALVIN_LOG_REPLAYED_H

#include "compat.h"

#include "access/xlogdefs.h"

/* How far the standby that is furthest behind is; invalid: there is none. */
typedef struct Replayed
{
	XLogRecPtr	lsn;
	uint64		index; /* entries up to this one were in WAL before that for certain */
} Replayed;

extern void replayed_look(Replayed *replayed);

/* It was found that entries up to this one were in WAL before an LSN. */
extern void replayed_note(uint64 log_index, XLogRecPtr lsn);

/*
 * Before which LSN an entry was in WAL, as far as is known; "page" is that of the page
 * it is on, which others may have changed since.
 */
extern XLogRecPtr replayed_lsn(uint64 log_index, XLogRecPtr page);

#endif							/* CALVIN_LOG_REPLAYED_H */
