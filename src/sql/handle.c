/*
 * handle.c
 *	  seq_handle and seq_unhandle, and the triggers on seq_handler_definitions.
 */
#include "compat.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "commands/trigger.h"
#include "consumer/group.h"
#include "log/definitions.h"
#include "log/hint.h"
#include "log/insert.h"
#include "log/table.h"
#include "miscadmin.h"
#include "process/permitted.h"
#include "shared/shmem.h"
#include "shared/wakeup.h"
#include "sql/args.h"
#include "sql/registering.h"
#include "sql/triggers.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

CALVIN_FUNCTION(seq_handle);
CALVIN_FUNCTION(seq_unhandle);
CALVIN_FUNCTION(seq_handler_definitions_before_change);
CALVIN_FUNCTION(seq_handler_definitions_after_change);

#define MAX_ATTEMPTS 1000000
#define MAX_BATCH 100000
#define MAX_BACKOFF_MS 60000

static int
checked_number(int value, const char *what, int most)
{
	if (value < 1 || value > most)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must be between 1 and %d", what, most)));
	return value;
}

static int
checked_workers(int workers)
{
	if (calvin_max_handlers == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("no handler can run, since calvin_seq.max_handlers is 0"),
				 errhint("Raise it, and restart the server.")));
	if (workers < 1 || workers > calvin_max_handlers)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("workers must be between 1 and %d", calvin_max_handlers),
				 errdetail("That is calvin_seq.max_handlers, for all databases together."),
				 errhint("Raise it, and restart the server, for more.")));
	return workers;
}

static int
checked_backoff(const Interval *backoff)
{
	double		ms = ((double) backoff->time +
					  (backoff->day + (double) backoff->month * DAYS_PER_MONTH) *
					  (double) USECS_PER_DAY) / 1000;

	if (!(ms >= 1 && ms <= MAX_BACKOFF_MS))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("backoff must be between 1 ms and 1 minute")));
	return (int) ms;
}

static void
report_refusal(const char *group, const HandlerRefusal *refusal)
{
	ereport(ERROR,
			(errcode(refusal->sqlerrcode),
			 errmsg("group \"%s\" cannot be handled like that", group),
			 errdetail("%c%s.", pg_toupper((unsigned char) refusal->message[0]),
					   refusal->message + 1),
			 errhint("%s", refusal->hint)));
}

static void
report_function(const HandlerDefinition *definition, const char *message)
{
	HandlerRefusal refusal = {ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, message,
		"Use another function."};

	report_refusal(NameStr(definition->name), &refusal);
}

/* By its names; an error unless it takes what a handler takes. */
static void
set_function(HandlerDefinition *definition, Oid oid)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(oid));
	Form_pg_proc function;
	Oid			schema;
	Oid			argument;
	Oid			txn = handler_argument_type(false);
	Oid			txns = handler_argument_type(true);

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("function with OID %u does not exist", oid)));
	function = (Form_pg_proc) GETSTRUCT(tuple);
	definition->function = function->proname;
	schema = function->pronamespace;
	namestrcpy(&definition->owner, GetUserNameFromId(function->proowner, false));
	argument = function->pronargs == 1 ? function->proargtypes.values[0] : InvalidOid;
	ReleaseSysCache(tuple);
	if (!OidIsValid(argument) || (argument != txn && argument != txns))
		report_function(definition, "a handler takes one argument, of type seq_txn or seq_txn[]");
	if (isAnyTempNamespace(schema))
		report_function(definition, "the function is of this session alone");
	namestrcpy(&definition->schema, get_namespace_name(schema));
	definition->takes_array = argument == txns;
}

static void
begin(FunctionCallInfo fcinfo, int nargs, const char *function)
{
	for (int i = 0; i < nargs; i++)
		if (PG_ARGISNULL(i))
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("arguments must not be null")));
	shmem_require();
	registering_refuse(function);
	PreventCommandIfParallelMode(function);
	if (InSecurityRestrictedOperation())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("cannot execute %s within a security-restricted operation",
						function)));
}

/* seq_handle(name, handler, workers, max_attempts, batch, backoff) */
Datum
seq_handle(PG_FUNCTION_ARGS)
{
	HandlerDefinition definition = {0};
	HandlerFunction function;
	HandlerRefusal refusal;
	FetchGroup *group;

	begin(fcinfo, 6, "seq_handle()");
	definition.workers = checked_workers(PG_GETARG_INT32(2));
	definition.max_attempts = checked_number(PG_GETARG_INT32(3), "max_attempts",
											 MAX_ATTEMPTS);
	definition.batch = checked_number(PG_GETARG_INT32(4), "batch", MAX_BATCH);
	definition.backoff_ms = checked_backoff(PG_GETARG_INTERVAL_P(5));
	group = group_require(arg_name(PG_GETARG_TEXT_PP(0), "group"));
	definition.name = group->name;
	definition.id = group->id;
	definition.role = GetUserId();
	namestrcpy(&definition.role_name, GetUserNameFromId(definition.role, false));
	set_function(&definition, PG_GETARG_OID(1));
	if (!handler_permitted(&definition, &function, &refusal))
		report_refusal(NameStr(definition.name), &refusal);
	definitions_put(&definition);
	wakeup_defined_at_commit();
	PG_RETURN_VOID();
}

/* seq_unhandle(name) */
Datum
seq_unhandle(PG_FUNCTION_ARGS)
{
	char	   *name;

	begin(fcinfo, 1, "seq_unhandle()");
	name = arg_name(PG_GETARG_TEXT_PP(0), "group");
	(void) registry_require(name, REGISTRATION_GROUP);
	if (!definitions_remove(name))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("group \"%s\" has no handler", name),
				 errhint_for_role("See seq_handlers.")));
	wakeup_defined_at_commit();
	PG_RETURN_VOID();
}

static void
require_role(Oid role)
{
	if (!has_privs_of_role(GetUserId(), role))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to define a handler that runs as role \"%s\"",
						GetUserNameFromId(role, true) != NULL ?
						GetUserNameFromId(role, true) : "that does not exist"),
				 errhint_for_role("Use seq_handle().")));
}

/*
 * The role of a row that is written by SQL: a dump has no number, and a copy from elsewhere
 * one that is somebody else's here.
 */
static Oid
find_role(const char *group, Oid role, const char *name)
{
	const char *found = OidIsValid(role) ? GetUserNameFromId(role, true) : NULL;

	if (found == NULL || strcmp(found, name) != 0)
		role = get_role_oid(name, true);
	if (!OidIsValid(role))
		ereport(WARNING,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("role \"%s\" does not exist", name),
				 errdetail("The handler of group \"%s\" does not run.", group),
				 errhint_for_role("Call seq_handle() as another role, or seq_unhandle().")));
	else
		require_role(role);
	return role;
}

/*
 * BEFORE INSERT FOR EACH ROW on seq_handler_definitions: a dump has the name of the role
 * instead of its number, and nobody has handlers run as others than he may be.  And BEFORE
 * UPDATE FOR EACH STATEMENT, which is not done.
 */
Datum
seq_handler_definitions_before_change(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	TupleDesc	desc;
	HeapTuple	tuple;
	int			column = HANDLER_ATTR_ROLE;
	bool		isnull = false;
	Datum		group;
	Datum		role;
	Datum		name;
	bool		no_group;
	bool		no_role;
	bool		no_name;

	if (CALLED_AS_TRIGGER(fcinfo) && TRIGGER_FIRED_BY_UPDATE(trigger->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot UPDATE %s", HANDLERS_NAME),
				 errhint_for_role("Use seq_handle() and seq_unhandle().")));
	trigger_require_insert_into(fcinfo, "seq_handler_definitions_before_change",
								SIDE_HANDLERS);
	tuple = trigger->tg_trigtuple;
	if (insert_is_under_way(trigger->tg_relation, trigger->tg_trigtuple))
		return PointerGetDatum(tuple);
	desc = RelationGetDescr(trigger->tg_relation);
	group = heap_getattr(tuple, HANDLER_ATTR_NAME, desc, &no_group);
	role = heap_getattr(tuple, HANDLER_ATTR_ROLE, desc, &no_role);
	name = heap_getattr(tuple, HANDLER_ATTR_ROLE_NAME, desc, &no_name);
	/* the constraints of the table refuse it */
	if (no_group || no_role || no_name)
		return PointerGetDatum(tuple);
	role = ObjectIdGetDatum(find_role(NameStr(*DatumGetName(group)),
									  DatumGetObjectId(role),
									  NameStr(*DatumGetName(name))));
	return PointerGetDatum(heap_modify_tuple_by_cols(tuple, desc, 1, &column, &role,
													 &isnull));
}

/* What other triggers have made of a row may not be more than who has inserted it. */
static void
check_stored_role(TriggerData *trigger)
{
	bool		isnull;
	Oid			role = DatumGetObjectId(heap_getattr(trigger->tg_trigtuple, HANDLER_ATTR_ROLE,
													 RelationGetDescr(trigger->tg_relation),
													 &isnull));

	if (OidIsValid(role) &&
		!insert_is_under_way(trigger->tg_relation, trigger->tg_trigtuple))
		require_role(role);
}

/*
 * AFTER INSERT, DELETE, TRUNCATE FOR EACH STATEMENT on seq_handler_definitions, and AFTER
 * INSERT FOR EACH ROW.
 */
Datum
seq_handler_definitions_after_change(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo) ||
		RelationGetRelid(((TriggerData *) fcinfo->context)->tg_relation) !=
		log_side_table(log_table_require(), SIDE_HANDLERS))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("%s() was not called by its trigger",
						"seq_handler_definitions_after_change")));
	if (TRIGGER_FIRED_FOR_ROW(((TriggerData *) fcinfo->context)->tg_event))
		check_stored_role((TriggerData *) fcinfo->context);
	else
		wakeup_handlers_at_commit(false);
	return PointerGetDatum(NULL);
}
