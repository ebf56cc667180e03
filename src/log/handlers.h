/*
 * handlers.h
 *	  Functions that the server calls for groups: the table seq_handler_definitions.
 */
#ifndef CALVIN_LOG_HANDLERS_H
#define CALVIN_LOG_HANDLERS_H

#include "compat.h"

typedef struct HandlerDefinition
{
	uint64		id;			/* of the group */
	uint64		definition; /* another one each time it is made */
	char	   *handler;	/* with its schema and the type of its argument */
	Oid			role;		/* that it runs as */
	int			workers;
	int			max_attempts;
	int			batch;		/* transactions that are fetched at once */
} HandlerDefinition;

/* All of them, palloc'd; how many. */
extern int	handlers_list(HandlerDefinition **definitions);

/* That of a group; false if there is none. */
extern bool handlers_find(uint64 id, HandlerDefinition *definition);

/* Put this one in the place of the one that the group had; "definition" is set. */
extern void handlers_store(HandlerDefinition *definition);

/* Forget that of a group; false if there was none. */
extern bool handlers_drop(uint64 id);

/* When this transaction commits, the workers are made what the definitions say. */
extern void handlers_note_changed(void);

/* Is this session storing one just now?  For the trigger on the table. */
extern bool handlers_storing(void);

/* Do workers call with one transaction, or an array of them? */
typedef enum HandlerForm
{
	HANDLER_ONE,
	HANDLER_MANY
} HandlerForm;

/*
 * The function of a definition as it is now.  NULL: it can be called by its role in a
 * worker of its own; or why not, palloc'd.
 */
extern char *handlers_resolve(const HandlerDefinition *definition, Oid *function,
							  HandlerForm *form);

/* The same of a function by itself, for a role. */
extern char *handlers_problem(Oid function, Oid role, HandlerForm *form);

#endif							/* CALVIN_LOG_HANDLERS_H */
