/*
 * registrations.c
 *	  The trigger on seq_registrations: whose a restored registration is.
 */
#include "compat.h"

#include "access/htup_details.h"
#include "commands/trigger.h"
#include "log/insert.h"
#include "log/registry.h"
#include "log/shape.h"
#include "miscadmin.h"
#include "shared/wakeup.h"
#include "sql/triggers.h"
#include "utils/acl.h"

CALVIN_FUNCTION(seq_registrations_before_insert);

/* The role of a dump's name; who restores, where there is none. */
static Oid
find_owner(const char *consumer, const char *role)
{
	Oid			owner = get_role_oid(role, true);

	if (OidIsValid(owner))
		return owner;
	ereport(WARNING,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("role \"%s\" does not exist", role),
			 errdetail("Consumer \"%s\" belongs to \"%s\" from now on.", consumer,
					   GetUserNameFromId(GetUserId(), false))));
	return GetUserId();
}

/*
 * BEFORE INSERT FOR EACH ROW on seq_registrations: a dump has the name of the owner
 * instead of his number.
 */
Datum
seq_registrations_before_insert(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	TupleDesc	desc;
	int			columns[] = {REGISTRATION_ATTR_OWNER, REGISTRATION_ATTR_OWNER_NAME};
	Datum		values[2];
	bool		nulls[] = {false, true};
	bool		no_name;
	bool		no_owner;
	Datum		name;
	Datum		owner_name;

	trigger_require_insert_into(fcinfo, "seq_registrations_before_insert",
								SIDE_REGISTRATIONS);
	if (insert_is_under_way(trigger->tg_relation, trigger->tg_trigtuple))
		return PointerGetDatum(trigger->tg_trigtuple);
	/* its handler may have been restored before it */
	wakeup_handlers_at_commit(false);
	desc = RelationGetDescr(trigger->tg_relation);
	name = heap_getattr(trigger->tg_trigtuple, REGISTRATION_ATTR_NAME, desc, &no_name);
	owner_name = heap_getattr(trigger->tg_trigtuple, REGISTRATION_ATTR_OWNER_NAME, desc,
							  &no_owner);
	if (no_owner || no_name)
		return PointerGetDatum(trigger->tg_trigtuple);
	values[0] = ObjectIdGetDatum(find_owner(NameStr(*DatumGetName(name)),
											NameStr(*DatumGetName(owner_name))));
	values[1] = (Datum) 0;
	return PointerGetDatum(heap_modify_tuple_by_cols(trigger->tg_trigtuple, desc, 2,
													 columns, values, nulls));
}
