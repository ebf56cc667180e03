/*
 * remove.h
 *	  Removing a row from one of the extension's tables: without SQL, if nothing but
 *	  that is to be done (direct.h).
 */
#ifndef CALVIN_LOG_REMOVE_H
#define CALVIN_LOG_REMOVE_H

#include "compat.h"

#include "log/insert.h"
#include "utils/snapshot.h"

typedef enum Removal
{
	REMOVAL_DONE,
	REMOVAL_GONE, /* another transaction has removed or changed it meanwhile */
	REMOVAL_KEPT  /* a trigger keeps it in */
} Removal;

/*
 * Remove the row in a slot, which a snapshot has found in insert->rel; waits
 * for the end of a transaction that is about to change it.
 */
extern Removal remove_row(Insert *insert, TupleTableSlot *row, Snapshot snapshot);

/* The same; what somebody else has locked is gone. */
extern Removal remove_row_nowait(Insert *insert, TupleTableSlot *row,
								 Snapshot snapshot);

#endif							/* CALVIN_LOG_REMOVE_H */
