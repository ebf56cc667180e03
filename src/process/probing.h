/*
 * probing.h
 *	  Finding out which databases have the extension.
 */
#ifndef CALVIN_PROCESS_PROBING_H
#define CALVIN_PROCESS_PROBING_H

#include "compat.h"

#include "access/xlogdefs.h"

/*
 * Take in what was asked for and what the probe under way has found, send the
 * next one out.  Called by the launcher whenever its latch is set, and after
 * the time in ms that the last call returned, -1 for none; also when more is
 * replayed than up to *replayed, if that is valid.
 */
extern long probing_advance(XLogRecPtr *replayed);

/* Is no database being looked at or waiting for it? */
extern bool probing_at_rest(void);

/*
 * Does a database exist, and can it be connected to?  For the launcher, outside
 * a transaction.
 */
extern bool probing_database_exists(Oid database, bool *open);

#endif							/* CALVIN_PROCESS_PROBING_H */
