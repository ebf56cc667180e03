/*
 * insert.h
 *	  Inserting a row into one of the extension's tables without SQL: no name
 *	  is resolved that could by now be somebody else's, and no rule applies.
 */
#ifndef CALVIN_LOG_INSERT_H
#define CALVIN_LOG_INSERT_H

#include "compat.h"

#include "executor/tuptable.h"
#include "nodes/execnodes.h"

typedef struct Insert
{
	Relation	rel;
	EState	   *estate;
	ResultRelInfo *result;
	TupleTableSlot *slot; /* all columns null, to be filled in */
} Insert;

/* Locks the table; row triggers fire only if wanted. */
extern void insert_begin(Insert *insert, Oid relid, bool triggers);

/* Insert what is in the slot; false if a trigger kept it out. */
extern bool insert_row(Insert *insert);

/* Fires AFTER triggers; what was inserted is visible from then on. */
extern void insert_end(Insert *insert);

#endif							/* CALVIN_LOG_INSERT_H */
