/*
 * handling.c
 *	  Which workers for handlers are to run in this database.
 */
#include "compat.h"

#include "access/xact.h"
#include "log/handlers.h"
#include "log/registry.h"
#include "log/table.h"
#include "miscadmin.h"
#include "process/handling.h"
#include "shared/handler_slot.h"
#include "utils/inval.h"
#include "utils/memutils.h"

/* What can be run as it is now; the view says what is the matter with the others. */
static int
find_wanted(HandlerWanted **wanted)
{
	HandlerDefinition *definitions;
	int			n = handlers_list(&definitions);
	int			nwanted = 0;

	*wanted = palloc(sizeof(HandlerWanted) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		const HandlerDefinition *definition = &definitions[i];
		HandlerForm form;
		Oid			function;

		if (handlers_resolve(definition, &function, &form) != NULL)
			continue;
		(*wanted)[nwanted].definition = definition->definition;
		(*wanted)[nwanted].group = definition->id;
		(*wanted)[nwanted].role = definition->role;
		(*wanted)[nwanted++].workers = definition->workers;
	}
	return nwanted;
}

bool
handling_look(DatabaseSlot *slot)
{
	static bool looked = false;
	HandlerWanted *wanted;
	int			n;
	int			lacking;

	if (!handler_slots_take_changed(slot) && looked)
		return false;
	looked = false;
	StartTransactionCommand();
	/* whoever has changed something tells before his invalidations are sent */
	InvalidateSystemCaches();
	if (log_extension_exists())
	{
		n = find_wanted(&wanted);
		lacking = handler_slots_sync(MyDatabaseId, n, wanted);
		if (lacking > 0)
			ereport(WARNING,
					(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
					 errmsg("not enough slots for handlers: %d workers lack one", lacking),
					 errhint("Raise calvin_seq.max_handlers (now %d).",
							 calvin_max_handlers)));
	}
	CommitTransactionCommand();
	MemoryContextSwitchTo(TopMemoryContext);
	looked = true;
	return true;
}
