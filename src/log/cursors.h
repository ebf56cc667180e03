/*
 * cursors.h
 *	  Durable cursors: the table seq_cursor_positions.
 */
#ifndef CALVIN_LOG_CURSORS_H
#define CALVIN_LOG_CURSORS_H

#include "compat.h"

#include "log/access.h"
#include "shared/key.h"
#include "wire/wire.h"

/* A durable cursor: the first key not processed yet. */
typedef struct StreamCursor
{
	uint16		vshard;
	StreamKey	next;
	uint64		version; /* goes up with every change; 0: there is none */
	uint64		incarnation; /* another one if it was dropped and made anew */
	uint64		stored_by; /* the (sub)transaction that has stored the version */
} StreamCursor;

/*
 * Read the cursors of a name for n vshards as they are committed now, this
 * transaction's own changes included, whatever its isolation level.  rows has
 * room for n; returns how many there are.
 */
extern int	cursors_load(const char *name, int n, const uint16 *vshards,
						 StreamCursor *rows);

/*
 * Store n cursors in this transaction, each only if the stored one is still
 * of that version, incarnation and storing transaction (version 0: there is none).  True: all were,
 * and now have the next version, and the other two are filled in.  False: at
 * least one was not; the caller must fail, and do nothing else before.
 */
extern bool cursors_store(const char *name, int n, StreamCursor *rows);

/* A cursor as others see it. */
typedef struct NamedCursor
{
	NameData	name;
	StreamCursor cursor;
	TimestampTz committed_at;
} NamedCursor;

/*
 * All cursors that there are, one after the other, without passing by what
 * their earlier versions have left behind.
 */
typedef struct CursorWalk CursorWalk;

extern CursorWalk *cursors_walk_begin(AccessSnapshot kind);
extern bool cursors_walk_next(CursorWalk *walk, NamedCursor *cursor);
extern void cursors_walk_end(CursorWalk *walk);

/*
 * All cursors, as committed now, that stand at an epoch or before; *cursors is
 * palloc'd.  Returns how many.  If there are some that a transaction under way
 * moves from there, or to there, *changing becomes one such, and they are left
 * out; else InvalidTransactionId.
 */
extern int	cursors_behind(uint64 epoch, NamedCursor **cursors,
						   TransactionId *changing);

/*
 * Move n cursors to the beginning of an epoch, unless they were changed
 * meanwhile: nothing before it is for them.  Who holds one does not notice.
 */
extern void cursors_move(int n, const NamedCursor *cursors, uint64 epoch);

/* Forget a name's cursors, all with vshards NULL; returns how many. */
extern int	cursors_drop(const char *name, int n, const uint16 *vshards);

/* Does a name have a cursor for a vshard, as committed now or made here? */
extern bool cursors_exist(const char *name, uint16 vshard);

/* Has this transaction stored cursors, rolled back or not? */
extern bool cursors_stored_here(void);

#endif							/* CALVIN_LOG_CURSORS_H */
