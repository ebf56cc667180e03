/*
 * cursor.h
 *	  The session's side of durable cursors: which ones it continued from.
 */
#ifndef CALVIN_CONSUMER_CURSOR_H
#define CALVIN_CONSUMER_CURSOR_H

#include "compat.h"

#include "consumer/consumer.h"
#include "log/cursors.h"

/*
 * Are the stored cursors wanted, after a rollback or positions_rewind()?  They
 * are forgotten, then given one by one; subscriptions without one stay where
 * they are, unless their first one was in a prepared transaction and has not
 * come of it.  One whose start the user chose goes back to that, whatever is
 * stored, until its cursor is stored anew.
 */
extern bool cursor_wanted(const Consumer *consumer);
extern void cursor_forget(Consumer *consumer);
extern void cursor_set(Consumer *consumer, const StreamCursor *cursor);
extern void cursor_all_set(Consumer *consumer);

/* The user chose cursor->next for this subscription. */
extern void cursor_override(Consumer *consumer, const StreamCursor *cursor);

/*
 * Where the lossless subscriptions stand, with the versions they continued
 * from: those that moved since, or have no cursor yet.  cursors has room for
 * WIRE_VSHARDS.
 */
extern int	cursor_positions(Consumer *consumer, StreamCursor *cursors);

/* These were stored: each has the next version now. */
extern void cursor_stored(Consumer *consumer, int n, const StreamCursor *cursors);

#endif							/* CALVIN_CONSUMER_CURSOR_H */
