/*
 * handlers.c
 *	  Functions that the server calls for groups: the table seq_handler_definitions.
 *
 * A function is stored by its name, since its number is another one after a dump, or
 * pg_upgrade.
 */
#include "compat.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/stratnum.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "log/access.h"
#include "log/handlers.h"
#include "log/insert.h"
#include "log/memory.h"
#include "log/newest.h"
#include "log/owner.h"
#include "log/remove.h"
#include "miscadmin.h"
#include "shared/handler_slot.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/syscache.h"

static bool storing = false;

static bool changed = false; /* by this transaction */

static void
at_xact_event(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_PRE_PREPARE && changed)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot PREPARE a transaction that has changed handlers"),
				 errhint("Change them in a transaction of its own.")));
	if (event == XACT_EVENT_COMMIT && changed && Calvin != NULL)
		handler_slots_note_changed(MyDatabaseId);
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT)
		changed = false;
}

void
handlers_note_changed(void)
{
	static bool registered = false;

	if (!registered)
		RegisterXactCallback(at_xact_event, NULL);
	registered = true;
	changed = true;
}

static void
read_row(const TupleTableSlot *slot, HandlerDefinition *definition)
{
	const Datum *values = slot->tts_values;

	definition->id = (uint64) DatumGetInt64(values[HANDLER_ATTR_ID - 1]);
	definition->definition = (uint64) DatumGetInt64(values[HANDLER_ATTR_DEFINITION - 1]);
	definition->handler = TextDatumGetCString(values[HANDLER_ATTR_HANDLER - 1]);
	definition->role = DatumGetObjectId(values[HANDLER_ATTR_ROLE - 1]);
	definition->workers = DatumGetInt32(values[HANDLER_ATTR_WORKERS - 1]);
	definition->max_attempts = DatumGetInt32(values[HANDLER_ATTR_MAX_ATTEMPTS - 1]);
	definition->batch = DatumGetInt32(values[HANDLER_ATTR_BATCH - 1]);
}

int
handlers_list(HandlerDefinition **definitions)
{
	SideAccess	access;
	IndexScanDesc scan;
	TupleTableSlot *slot;
	void	   *list = NULL;
	Size		size = 0;
	int			n = 0;

	side_access_begin(&access, SIDE_HANDLERS, AccessShareLock, ACCESS_LATEST);
	scan = compat_index_beginscan(access.rel, access.by_key, access.snapshot, 0);
	slot = table_slot_create(access.rel, NULL);
	index_rescan(scan, NULL, 0, NULL, 0);
	while (index_getnext_slot(scan, ForwardScanDirection, slot))
	{
		slot_getallattrs(slot);
		memory_grow(NULL, &list, &size, (Size) n + 1, sizeof(HandlerDefinition));
		read_row(slot, &((HandlerDefinition *) list)[n++]);
	}
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	side_access_end(&access);
	*definitions = list;
	return n;
}

static bool
scan_id(NewestScan *scan, uint64 id)
{
	ScanKeyData key;

	ScanKeyInit(&key, HANDLER_ATTR_ID, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum((int64) id));
	return newest_find(scan, &key);
}

bool
handlers_find(uint64 id, HandlerDefinition *definition)
{
	NewestScan	scan;
	bool		found;

	newest_begin(&scan, SIDE_HANDLERS, AccessShareLock, ACCESS_LATEST, 1);
	found = scan_id(&scan, id);
	if (found)
		read_row(scan.slot, definition);
	newest_end(&scan);
	return found;
}

bool
handlers_drop(uint64 id)
{
	LogIdentity self = log_become_side_owner(log_table_require(), SIDE_HANDLERS);
	NewestScan	scan;
	Insert		insert;
	bool		dropped;

	newest_begin(&scan, SIDE_HANDLERS, RowExclusiveLock, ACCESS_LATEST, 1);
	insert_begin(&insert, RelationGetRelid(scan.access.rel), true);
	dropped = scan_id(&scan, id) &&
		remove_row(&insert, scan.slot, scan.access.snapshot) == REMOVAL_DONE;
	insert_end(&insert);
	newest_end(&scan);
	log_become_self(&self);
	if (dropped)
		handlers_note_changed();
	return dropped;
}

static void
put(TupleTableSlot *slot, AttrNumber attribute, Datum value)
{
	slot->tts_values[attribute - 1] = value;
	slot->tts_isnull[attribute - 1] = false;
}

void
handlers_store(HandlerDefinition *definition)
{
	const LogTable *table = log_table_require();
	LogIdentity self;
	Insert		insert;

	(void) handlers_drop(definition->id);
	if (!pg_strong_random(&definition->definition, sizeof(uint64)))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate random values")));
	definition->definition &= PG_INT64_MAX;
	self = log_become_side_owner(table, SIDE_HANDLERS);
	storing = true;
	PG_TRY();
	{
		insert_begin(&insert, log_side_table(table, SIDE_HANDLERS), true);
		put(insert.slot, HANDLER_ATTR_ID, Int64GetDatum((int64) definition->id));
		put(insert.slot, HANDLER_ATTR_DEFINITION,
			Int64GetDatum((int64) definition->definition));
		put(insert.slot, HANDLER_ATTR_HANDLER, CStringGetTextDatum(definition->handler));
		put(insert.slot, HANDLER_ATTR_ROLE, ObjectIdGetDatum(definition->role));
		put(insert.slot, HANDLER_ATTR_WORKERS, Int32GetDatum(definition->workers));
		put(insert.slot, HANDLER_ATTR_MAX_ATTEMPTS,
			Int32GetDatum(definition->max_attempts));
		put(insert.slot, HANDLER_ATTR_BATCH, Int32GetDatum(definition->batch));
		(void) insert_row(&insert);
		insert_end(&insert);
	}
	PG_FINALLY();
	{
		storing = false;
	}
	PG_END_TRY();
	log_become_self(&self);
}

bool
handlers_storing(void)
{
	return storing;
}

/*
 * What can be called, and by whom
 */

static char *
form_problem(Oid function, HandlerForm *form)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Oid			txn = get_rel_type_id(get_relname_relid(TXN_TYPE_NAME,
														log_table_require()->schema));
	Form_pg_proc proc;
	char	   *problem = NULL;

	if (!HeapTupleIsValid(tuple))
		return psprintf("function with OID %u does not exist", function);
	proc = (Form_pg_proc) GETSTRUCT(tuple);
	if (proc->prokind != PROKIND_FUNCTION)
		problem = psprintf("%s is not a plain function", format_procedure(function));
	else if (proc->pronargs == 1 && proc->proargtypes.values[0] == txn)
		*form = HANDLER_ONE;
	else if (proc->pronargs == 1 &&
			 proc->proargtypes.values[0] == get_array_type(txn))
		*form = HANDLER_MANY;
	else
		problem = psprintf("%s does not take one argument of type seq_txn or seq_txn[]",
						   format_procedure(function));
	if (problem == NULL && proc->proretset)
		problem = psprintf("%s returns a set", format_procedure(function));
	ReleaseSysCache(tuple);
	return problem;
}

/* Can a worker connect as a role? */
static char *
role_problem(Oid role)
{
	HeapTuple	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(role));
	char	   *problem = NULL;

	if (!HeapTupleIsValid(tuple))
		return psprintf("the role with OID %u, which the handler runs as, was dropped", role);
	if (!((Form_pg_authid) GETSTRUCT(tuple))->rolcanlogin)
		problem = psprintf("role \"%s\" is not permitted to log in, as a worker does",
						   NameStr(((Form_pg_authid) GETSTRUCT(tuple))->rolname));
	else if (!compat_may_connect(MyDatabaseId, role))
		problem = psprintf("role \"%s\" is not permitted to connect to the database",
						   NameStr(((Form_pg_authid) GETSTRUCT(tuple))->rolname));
	ReleaseSysCache(tuple);
	return problem;
}

char *
handlers_problem(Oid function, Oid role, HandlerForm *form)
{
	char	   *problem = form_problem(function, form);

	if (problem == NULL)
		problem = role_problem(role);
	if (problem == NULL && !compat_may_execute(function, role))
		problem = psprintf("role \"%s\" is not permitted to execute %s",
						   GetUserNameFromId(role, false), format_procedure(function));
	return problem;
}

char *
handlers_resolve(const HandlerDefinition *definition, Oid *function, HandlerForm *form)
{
	LOCAL_FCINFO(fcinfo, 1);
	Datum		found;

	InitFunctionCallInfoData(*fcinfo, NULL, 1, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = CStringGetTextDatum(definition->handler);
	fcinfo->args[0].isnull = false;
	found = to_regprocedure(fcinfo);
	if (fcinfo->isnull)
		return psprintf("function %s does not exist", definition->handler);
	*function = DatumGetObjectId(found);
	return handlers_problem(*function, definition->role, form);
}
