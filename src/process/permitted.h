/*
 * permitted.h
 *	  May a handler run, as its role and with its function?
 */
#ifndef CALVIN_PROCESS_PERMITTED_H
#define CALVIN_PROCESS_PERMITTED_H

#include "compat.h"

#include "log/definitions.h"

/* Why it may not; what is palloc'd. */
typedef struct HandlerRefusal
{
	int			sqlerrcode;
	const char *message;
	const char *hint;
} HandlerRefusal;

/* What it is to be called with, and is. */
typedef struct HandlerFunction
{
	Oid			function;
	Oid			txn_type; /* seq_txn */
} HandlerFunction;

/*
 * By the catalogs as they are now.  What is found here is looked up by each worker
 * before each transaction, so it has to be quick.
 */
extern bool handler_permitted(const HandlerDefinition *definition,
							  HandlerFunction *function, HandlerRefusal *refusal);

/* Is the group still there, and may the role use it?  For who starts workers. */
extern bool handler_has_group(const HandlerDefinition *definition,
							  HandlerRefusal *refusal);

/* The type seq_txn, or the one of its arrays. */
extern Oid	handler_argument_type(bool array);

/* The function with its argument, as SQL writes it; palloc'd. */
extern char *handler_signature(const HandlerDefinition *definition);

#endif							/* CALVIN_PROCESS_PERMITTED_H */
