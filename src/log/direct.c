/*
 * direct.c
 *	  May rows of the extension's tables be written without the executor?
 *
 * An INSERT or DELETE is planned, and executed with all that is attached to the table:
 * rules, triggers for rows and statements, transition tables, foreign keys, defaults,
 * identities, generated columns, domains.  That is many times the work of storing a
 * row, and nearly always there is nothing of it but the triggers of the extension,
 * which have nothing to do for what it writes itself.  So it looks here first.  If
 * anything else would run, the row goes by the executor: insert.c, remove.c.
 *
 * What is done for a row without it, too, need not be looked for: constraints are
 * checked and indexes maintained whichever way it goes.
 */
#include "compat.h"

#include "access/tupdesc.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "log/direct.h"
#include "log/shape.h"
#include "utils/lsyscache.h"
#include "utils/reltrigger.h"

/* Of the log: its primary key, and those on epochs and acks. */
#define LOG_INDEXES 3

/* Have all of the extension's triggers, always at work, and no others for an event? */
static bool
has_own_triggers_only(Relation rel, int16 event)
{
	const TriggerDesc *triggers = rel->trigdesc;
	int			own = 0;

	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
	{
		const Trigger *trigger = &triggers->triggers[i];

		if (shape_is_own_trigger(rel, trigger))
			own++;
		else if ((trigger->tgtype & event) != 0 &&
				 trigger->tgenabled != TRIGGER_DISABLED)
			return false;
	}
	return own == shape_own_triggers(rel);
}

/* Are columns that somebody has added null unless they are given? */
static bool
has_plain_columns(Relation rel)
{
	TupleDesc	desc = RelationGetDescr(rel);

	for (int i = shape_own_columns(RelationGetRelid(rel)); i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);

		if (!attribute->attisdropped &&
			(attribute->atthasdef || attribute->attidentity != '\0' ||
			 get_typtype(attribute->atttypid) == TYPTYPE_DOMAIN))
			return false;
	}
	return true;
}

bool
direct_insert(Relation rel)
{
	return rel->rd_rules == NULL &&
		has_own_triggers_only(rel, TRIGGER_TYPE_INSERT) && has_plain_columns(rel);
}

bool
direct_delete(Relation rel)
{
	return rel->rd_rules == NULL && has_own_triggers_only(rel, TRIGGER_TYPE_DELETE);
}

bool
direct_append(Relation log)
{
	const TupleConstr *constraints = RelationGetDescr(log)->constr;
	List	   *indexes = RelationGetIndexList(log);
	bool		bare = list_length(indexes) == LOG_INDEXES &&
		(constraints == NULL || constraints->num_check == 0);

	list_free(indexes);
	return bare && direct_insert(log);
}
