/*
 * insert.h
 *	  Inserting a row into one of the extension's tables.
 *
 * Without SQL, if nothing but storing the row is to be done (direct.h): no name is
 * resolved.  Else by an INSERT of the extension's own columns.
 */
#ifndef CALVIN_LOG_INSERT_H
#define CALVIN_LOG_INSERT_H

#include "compat.h"

#include "access/htup.h"
#include "executor/tuptable.h"
#include "nodes/execnodes.h"

typedef struct Insert
{
	Relation	rel;
	EState	   *estate;
	ResultRelInfo *result;
	TupleTableSlot *slot; /* all columns null, to be filled in */
	bool		direct;	  /* rows are inserted, */
	bool		direct_removal; /* and removed, without the executor */
	bool		carries; /* the slot has what somebody has added to the columns, too */
	struct Insert *around; /* the one within which this one is under way */
} Insert;

/* Locks the table. */
extern void insert_begin(Insert *insert, Oid relid);

/* The same where it is known whether it may be direct. */
extern void insert_begin_known(Insert *insert, Oid relid, bool direct);

/*
 * Insert what is in the slot; false if a trigger kept it out.  An error if it was changed
 * on its way, but for seq_log, whose triggers set log_index in the slot too.
 */
extern bool insert_row(Insert *insert);

/* Fill in a column of a row's slot. */
static inline void
insert_put(TupleTableSlot *slot, AttrNumber attribute, Datum value)
{
	slot->tts_values[attribute - 1] = value;
	slot->tts_isnull[attribute - 1] = false;
}

/* What was inserted is visible from then on. */
extern void insert_end(Insert *insert);

/*
 * For the triggers of the extension: is this a row that insert_row() is about to insert?
 * Somebody's code that runs in between may insert others.
 */
extern bool insert_is_under_way(Relation rel, HeapTuple tuple);

#endif							/* CALVIN_LOG_INSERT_H */
