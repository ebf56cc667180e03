/*
 * definitions.h
 *	  Which function handles what a group gets, and as whom: the table
 *	  seq_handler_definitions.
 */
#ifndef CALVIN_LOG_DEFINITIONS_H
#define CALVIN_LOG_DEFINITIONS_H

#include "compat.h"

#include "datatype/timestamp.h"

typedef struct HandlerDefinition
{
	NameData	name;		/* of the group */
	uint64		id;			/* of its registration */
	uint64		definition; /* another one each time that it is defined */
	NameData	schema;		/* of the function, */
	NameData	function;	/* which takes one argument: */
	bool		takes_array; /* seq_txn[], or else seq_txn */
	NameData	owner;		/* of the function, when it was defined */
	Oid			role;		/* that it runs as; InvalidOid: a dump named none that exists */
	NameData	role_name;	/* when it was defined */
	int			workers;
	int			max_attempts;
	int			batch;		/* transactions of a database transaction */
	int			backoff_ms; /* after the first failure, doubling */
	TimestampTz defined_at;
} HandlerDefinition;

/* That of a group, as committed now and by this transaction; false if it has none. */
extern bool definitions_find(const char *name, HandlerDefinition *definition);

/* All of them, in the order of their names, palloc'd; how many. */
extern int	definitions_list(HandlerDefinition **definitions);

/*
 * Put what is filled in, but for "definition" and defined_at, in the place of what the
 * group has; who does it at the same time is waited for.
 */
extern void definitions_put(HandlerDefinition *definition);

/* Take a group's away; false if it has none. */
extern bool definitions_remove(const char *name);

#endif							/* CALVIN_LOG_DEFINITIONS_H */
