/*
 * table.h
 *	  Where the extension's tables are in this database.
 */
#ifndef CALVIN_LOG_TABLE_H
#define CALVIN_LOG_TABLE_H

#include "compat.h"

#include "log/shape.h"

typedef struct LogTable
{
	Oid			extension;
	Oid			schema;
	Oid			log;		 /* seq_log */
	Oid			log_pkey;	 /* its index on log_index */
	Oid			epoch_index; /* on (epoch), of the epoch_batch rows */
	Oid			ack_index;	 /* on (epoch, position), of the acks */
	Oid			owner;		 /* of seq_log */
	bool		created_here; /* by the transaction that looked it up */
	bool		bare; /* when a row is inserted our triggers run, and nothing
					   * else but ours */
} LogTable;

/*
 * Look the tables up, from a cache that invalidations keep true.  Needs a
 * transaction.  NULL when the extension is not installed here.  Raises an
 * error when it is, but its tables are not what its script made, or this library
 * does not serve its version.
 */
extern const LogTable *log_table_find(void);

/* As log_table_find(), but a missing extension is an error too. */
extern const LogTable *log_table_require(void);

/*
 * An error if this seq_log was dropped, for a subscription of that name: what it
 * knows of it says nothing about a successor.
 */
extern void log_table_require_same(Oid log, const char *consumer);

/*
 * Another table.  They are looked up and checked when they are used: who needs
 * the log alone shall not wait for whoever has one of them locked.
 */
extern Oid	log_side_table(const LogTable *table, SideTable side);

/*
 * Just the OID of seq_log, InvalidOid without it; no table is locked, and none
 * looked at.
 */
extern Oid	log_relation_oid(void);

/* Where the extension is, InvalidOid without it. */
extern Oid	log_schema(void);

/* Is the extension installed in this database?  Needs a transaction. */
extern bool log_extension_exists(void);

/* Look up again next time, whatever invalidations say. */
extern void log_table_forget(void);

/* The tables as SQL writes them, quoted and qualified; palloc'd. */
extern char *log_table_name(const LogTable *table);
extern char *log_cursors_name(const LogTable *table);

#endif							/* CALVIN_LOG_TABLE_H */
