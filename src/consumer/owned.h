/*
 * owned.h
 *	  Names of streams that belong to somebody.
 */
#ifndef CALVIN_CONSUMER_OWNED_H
#define CALVIN_CONSUMER_OWNED_H

#include "compat.h"

#include "log/cursors.h"
#include "log/registry.h"

/*
 * May the present user use that name for a stream of these vshards?  With none given,
 * of any.  An error if not; what is registered under it, or NULL.
 */
extern Registration *owned_check(const char *name, int n, const uint16 *vshards);

/* May he begin there?  Under a registered name not where the log has not been. */
extern void owned_check_start(const char *name, int n, const uint16 *vshards,
							  const StreamKey *from);

/*
 * May he store these cursors in this transaction?  Who registers the name, or ends
 * that, waits for its end.
 */
extern void owned_check_cursors(const char *name, int n, const StreamCursor *cursors);

/* And is none of them, which were stored just now, beyond the log's end? */
extern void owned_check_positions(const char *name, int n, const StreamCursor *cursors);

#endif							/* CALVIN_CONSUMER_OWNED_H */
