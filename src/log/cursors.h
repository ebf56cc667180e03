/*
 * cursors.h
 *	  Durable cursors: the table seq_cursors.
 */
#ifndef CALVIN_LOG_CURSORS_H
#define CALVIN_LOG_CURSORS_H

#include "compat.h"

#include "shared/key.h"
#include "wire/wire.h"

/* A durable cursor: the first key not processed yet. */
typedef struct StreamCursor
{
	uint16		vshard;
	StreamKey	next;
	uint64		version; /* goes up with every change; 0: there is none */
} StreamCursor;

/*
 * Read the cursors of a name as they are committed now, this transaction's
 * own changes included, whatever its isolation level.  rows has room for
 * WIRE_VSHARDS; returns how many.
 */
extern int	cursors_load(const char *name, StreamCursor *rows);

/*
 * Store n cursors in this transaction, each only if the stored one is still
 * of "version" (0: there is none).  True: all were, and now have the next
 * version.  False: at least one was not; the caller must fail.
 */
extern bool cursors_store(const char *name, int n, const StreamCursor *rows);

/* A cursor as others see it. */
typedef struct NamedCursor
{
	NameData	name;
	uint16		vshard;
	StreamKey	next;
} NamedCursor;

/*
 * All cursors, as committed now, that stand at an epoch or before; *cursors is
 * palloc'd.  Returns how many.
 */
extern int	cursors_behind(uint64 epoch, NamedCursor **cursors);

/*
 * Move n cursors to the beginning of an epoch, unless they have got there
 * meanwhile: nothing before it is for them.  Who holds one does not notice.
 */
extern void cursors_move(int n, const NamedCursor *cursors, uint64 epoch);

/* Forget a name's cursors, all with vshards NULL; returns how many. */
extern int	cursors_drop(const char *name, int n, const uint16 *vshards);

#endif							/* CALVIN_LOG_CURSORS_H */
