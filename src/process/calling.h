/*
 * calling.h
 *	  What was fetched for a handler, and calling it.
 */
#ifndef CALVIN_PROCESS_CALLING_H
#define CALVIN_PROCESS_CALLING_H

#include "compat.h"

#include "consumer/fetch.h"
#include "fmgr.h"
#include "log/definitions.h"
#include "process/permitted.h"

typedef struct HandlerRow
{
	int			partition;
	GroupKey	key;
	Datum		value; /* a seq_txn */
} HandlerRow;

typedef struct HandlerRows
{
	int			n;
	HandlerRow *rows;
	int			at; /* the row that a call is under way for; -1: all, or none */
} HandlerRows;

/*
 * Take what a fetch gives, up to some size, into the current memory context.  False if a
 * row belongs to a partition where calls have failed, unless they may ("doubted"):
 * *partition is which.
 */
extern bool calling_gather(Fetch *fetch, const HandlerFunction *function, bool doubted,
						   HandlerRows *rows, int *partition);

/* Look the function up; it may be gone since it was found to be permitted. */
extern void calling_prepare(const HandlerFunction *function, FmgrInfo *flinfo);

/*
 * Have the handler called for the rows.  Errors come with the transactions that it was
 * called for.
 */
extern void calling_call(const HandlerDefinition *definition,
						 const HandlerFunction *function, FmgrInfo *flinfo,
						 HandlerRows *rows);

/*
 * Undo what a call has left of SET ROLE, in a transaction; false if the session is somebody
 * else's now.
 */
extern bool calling_be_role(Oid role);

#endif							/* CALVIN_PROCESS_CALLING_H */
