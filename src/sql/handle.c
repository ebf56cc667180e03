/*
 * handle.c
 *	  seq_handle, seq_unhandle and the view seq_handlers.
 */
#include "compat.h"

#include "access/htup_details.h"
#include "access/xlog.h"
#include "catalog/pg_type_d.h"
#include "log/handlers.h"
#include "log/registry.h"
#include "log/shape.h"
#include "miscadmin.h"
#include "shared/handler_slot.h"
#include "sql/args.h"
#include "sql/registering.h"
#include "sql/result.h"
#include "sql/triggers.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/regproc.h"

CALVIN_FUNCTION(seq_handle);
CALVIN_FUNCTION(seq_unhandle);
CALVIN_FUNCTION(seq_handlers_info);
CALVIN_FUNCTION(seq_handler_definitions_before_insert);

#define MAX_ATTEMPTS 1000
#define MAX_BATCH 100000

static int
number_argument(FunctionCallInfo fcinfo, int number, const char *name, int max)
{
	int32		value = PG_GETARG_INT32(number);

	if (value < 1 || value > max)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must be between 1 and %d", name, max)));
	return value;
}

/* seq_handle(name, handler, workers, max_attempts, batch) */
Datum
seq_handle(PG_FUNCTION_ARGS)
{
	HandlerDefinition definition = {0};
	Registration *registration;
	HandlerForm form;
	char	   *problem;

	for (int i = 0; i < 5; i++)
		if (PG_ARGISNULL(i))
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("arguments must not be null")));
	shmem_require();
	registering_refuse("seq_handle()");
	if (calvin_max_handlers == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("calvin_seq.max_handlers is 0"),
				 errhint("Raise it and restart the server.")));
	registration = registry_require(arg_name(PG_GETARG_TEXT_PP(0)), REGISTRATION_GROUP);
	definition.id = registration->id;
	definition.workers = number_argument(fcinfo, 2, "workers", calvin_max_handlers);
	definition.max_attempts = number_argument(fcinfo, 3, "max_attempts", MAX_ATTEMPTS);
	definition.batch = number_argument(fcinfo, 4, "batch", MAX_BATCH);
	definition.role = GetUserId();
	problem = handlers_problem(PG_GETARG_OID(1), definition.role, &form);
	if (problem != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("group \"%s\" cannot be handled like that",
						NameStr(registration->name)),
				 errdetail("%c%s.", pg_toupper((unsigned char) problem[0]), problem + 1),
				 errhint("A handler is a function of one argument, of type seq_txn or seq_txn[]; it is called by a background worker that connects as the present role.")));
	definition.handler = format_procedure_qualified(PG_GETARG_OID(1));
	registry_lock(registration->id, RowExclusiveLock);
	handlers_store(&definition);
	PG_RETURN_VOID();
}

/* seq_unhandle(name) */
Datum
seq_unhandle(PG_FUNCTION_ARGS)
{
	Registration *registration;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("name must not be null")));
	registering_refuse("seq_unhandle()");
	registration = registry_require(arg_name(PG_GETARG_TEXT_PP(0)), REGISTRATION_GROUP);
	if (!handlers_drop(registration->id))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("group \"%s\" has no handler", NameStr(registration->name))));
	PG_RETURN_VOID();
}

/*
 * (id bigint, handler text, role oid, workers int, max_attempts int, batch int,
 *  state text, pids int[], processed bigint, failed bigint, rate double precision,
 *  last_error text, last_error_at timestamptz)
 */
#define HANDLER_COLUMNS 13

/* What all workers of one definition do. */
typedef struct HandlerSum
{
	int			slots;
	bool		no_place;
	int			npids;
	Datum	   *pids;
	uint64		processed;
	uint64		failed;
	double		rate;
	TimestampTz last_error_at;
	char		last_error[CALVIN_ERROR_LEN];
} HandlerSum;

static void
sum_up(uint64 definition, HandlerSum *sum)
{
	memset(sum, 0, sizeof(*sum));
	sum->pids = palloc(sizeof(Datum) * Max(calvin_max_handlers, 1));
	for (int i = 0; Calvin != NULL && i < calvin_max_handlers; i++)
	{
		HandlerView view;

		if (!handler_slots_view(i, &view) || view.definition != definition)
			continue;
		sum->slots++;
		sum->no_place |= view.no_place;
		if (view.pid != 0)
			sum->pids[sum->npids++] = Int32GetDatum((int32) view.pid);
		sum->processed += view.processed;
		sum->failed += view.failed;
		sum->rate += view.rate;
		if (view.last_error_at > sum->last_error_at)
		{
			sum->last_error_at = view.last_error_at;
			strlcpy(sum->last_error, view.last_error, sizeof(sum->last_error));
		}
	}
}

static const char *
state_of(const HandlerDefinition *definition, const HandlerSum *sum,
		 const char *problem)
{
	if (RecoveryInProgress())
		return "standby";
	if (problem != NULL)
		return "stopped";
	if (sum->npids > 0)
		return "running";
	if (sum->slots < definition->workers)
		return "no slot";
	return sum->no_place ? "no place" : "starting";
}

Datum
seq_handlers_info(PG_FUNCTION_ARGS)
{
	static const Oid types[HANDLER_COLUMNS] = {
		INT8OID, TEXTOID, OIDOID, INT4OID, INT4OID, INT4OID, TEXTOID, INT4ARRAYOID,
		INT8OID, INT8OID, FLOAT8OID, TEXTOID, TIMESTAMPTZOID
	};
	ReturnSetInfo *rsinfo = result_rows(fcinfo, HANDLER_COLUMNS, types);
	HandlerDefinition *definitions;
	int			n;

	n = handlers_list(&definitions);
	for (int i = 0; i < n; i++)
	{
		const HandlerDefinition *definition = &definitions[i];
		HandlerSum	sum;
		HandlerForm form;
		Oid			function;
		char	   *problem = handlers_resolve(definition, &function, &form);
		Datum		values[HANDLER_COLUMNS];
		bool		nulls[HANDLER_COLUMNS] = {false};

		sum_up(definition->definition, &sum);
		values[0] = Int64GetDatum((int64) definition->id);
		values[1] = CStringGetTextDatum(definition->handler);
		values[2] = ObjectIdGetDatum(definition->role);
		values[3] = Int32GetDatum(definition->workers);
		values[4] = Int32GetDatum(definition->max_attempts);
		values[5] = Int32GetDatum(definition->batch);
		values[6] = CStringGetTextDatum(state_of(definition, &sum, problem));
		values[7] = PointerGetDatum(construct_array(sum.pids, sum.npids, INT4OID,
													sizeof(int32), true, TYPALIGN_INT));
		values[8] = Int64GetDatum((int64) sum.processed);
		values[9] = Int64GetDatum((int64) sum.failed);
		values[10] = Float8GetDatum(sum.rate);
		values[11] = CStringGetTextDatum(problem != NULL ? problem : sum.last_error);
		nulls[11] = problem == NULL && sum.last_error_at == 0;
		values[12] = TimestampTzGetDatum(sum.last_error_at);
		nulls[12] = problem != NULL || sum.last_error_at == 0;
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/*
 * BEFORE INSERT FOR EACH ROW on seq_handler_definitions: a dump has the name of the role
 * instead of its number.  Where there is none, the handler stands still.
 */
Datum
seq_handler_definitions_before_insert(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	TupleDesc	desc;
	int			columns[] = {HANDLER_ATTR_ROLE, HANDLER_ATTR_ROLE_NAME};
	Datum		values[2];
	bool		nulls[] = {false, true};
	bool		no_role;
	Datum		role_name;
	const char *role;

	trigger_require_insert_into(fcinfo, "seq_handler_definitions_before_insert",
								SIDE_HANDLERS);
	handlers_note_changed();
	if (handlers_storing())
		return PointerGetDatum(trigger->tg_trigtuple);
	desc = RelationGetDescr(trigger->tg_relation);
	role_name = heap_getattr(trigger->tg_trigtuple, HANDLER_ATTR_ROLE_NAME, desc,
							 &no_role);
	if (no_role)
		return PointerGetDatum(trigger->tg_trigtuple);
	role = NameStr(*DatumGetName(role_name));
	values[0] = ObjectIdGetDatum(get_role_oid(role, true));
	values[1] = (Datum) 0;
	if (!OidIsValid(DatumGetObjectId(values[0])))
		ereport(WARNING,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("role \"%s\" does not exist", role),
				 errdetail("A handler that runs as this role is stopped."),
				 errhint("Call seq_handle() again, as another role.")));
	return PointerGetDatum(heap_modify_tuple_by_cols(trigger->tg_trigtuple, desc, 2,
													 columns, values, nulls));
}
