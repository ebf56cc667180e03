/*
 * members.h
 *	  What belongs to the extension, by the catalogs.
 *
 * The server makes tables, functions and types that the script creates members of
 * the extension, and lets nobody drop them.  Indexes, triggers and constraints
 * are not among them, so we make them members ourselves.
 */
#ifndef CALVIN_LOG_MEMBERS_H
#define CALVIN_LOG_MEMBERS_H

#include "compat.h"

/* Is an object a member itself?  Of a type's relation: is the type? */
extern bool members_include(Oid extension, Oid class_id, Oid object_id);

/* The relation that a part (an index, trigger, rule, constraint ...) is of, or
 * InvalidOid; a relation that is no index is of itself. */
extern Oid	members_relation_of(Oid class_id, Oid object_id);

/*
 * Make members of what this transaction has made on a relation.  Nobody else may use
 * its row type.
 */
extern void members_adopt_new(Oid extension, Oid relid);

/*
 * The same under pg_upgrade, which carries membership of parts over to no new
 * server, for all relations: those whose names are known, and what calls our
 * functions.
 */
extern void members_adopt_upgraded(Oid extension);

/* Was a row of a catalog written by this transaction? */
extern bool members_is_new(HeapTuple tuple);

/* To be called with each row of a catalog; false ends it. */
typedef bool (*MemberVisitor) (HeapTuple tuple, void *arg);

/* Visit the rows of a catalog that an index finds by one OID. */
extern void members_visit(Oid catalog, Oid index, AttrNumber column, Oid oid,
						  MemberVisitor visit, void *arg);

#endif							/* CALVIN_LOG_MEMBERS_H */
