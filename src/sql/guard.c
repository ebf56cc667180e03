/*
 * guard.c
 *	  The event trigger that keeps seq_log as the extension made it.
 *
 * With one of its triggers dropped or disabled, the log would take rows
 * without a place in the commit order, or lose some; without its indexes
 * nobody could read it.  So a command that leaves it like that is undone by
 * an error.
 */
#include "compat.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_trigger.h"
#include "commands/event_trigger.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "log/inbox.h"
#include "log/table.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"

CALVIN_FUNCTION(seq_log_guard);

typedef bool (*IsOwnTrigger) (Oid relid, HeapTuple tuple, TupleDesc desc);

/* How many of its triggers are ours, as they were made? */
static int
count_intact(Oid relid, IsOwnTrigger is_own)
{
	Relation	rel = table_open(TriggerRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	int			count = 0;

	ScanKeyInit(&key, Anum_pg_trigger_tgrelid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(relid));
	scan = systable_beginscan(rel, TriggerRelidNameIndexId, true, NULL, 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		count += is_own(relid, tuple, RelationGetDescr(rel));
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return count;
}

/* Has this transaction made, or replaced, a trigger of this name? */
static bool
is_new_trigger(Oid relid, const char *name)
{
	Relation	rel = table_open(TriggerRelationId, AccessShareLock);
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		is_new;

	ScanKeyInit(&keys[0], Anum_pg_trigger_tgrelid, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(relid));
	ScanKeyInit(&keys[1], Anum_pg_trigger_tgname, BTEqualStrategyNumber,
				F_NAMEEQ, CStringGetDatum(name));
	scan = systable_beginscan(rel, TriggerRelidNameIndexId, true, NULL, 2, keys);
	tuple = systable_getnext(scan);
	is_new = HeapTupleIsValid(tuple) &&
		TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(tuple->t_data));
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return is_new;
}

/*
 * Triggers on our tables run as their owner when one of our functions writes
 * to them, whoever calls it.  So TRIGGER, the privilege, is not enough to
 * make one.  What the command names may be another table by now: the catalog
 * tells which one got the trigger.
 */
static void
check_new_trigger(Oid log, const CreateTrigStmt *statement)
{
	static const char *const tables[] = {
		LOG_NAME, CURSORS_NAME, SNAPSHOTS_NAME, IDENTITY_NAME, LANDING_NAME,
		REGISTRATIONS_NAME, GROUP_POSITIONS_NAME, PARKED_NAME,
		HANDLERS_NAME
	};

	for (size_t i = 0; i < lengthof(tables); i++)
	{
		Oid			relid = get_relname_relid(tables[i], get_rel_namespace(log));

		if (!OidIsValid(relid) || compat_owns_relation(relid, GetUserId()) ||
			!is_new_trigger(relid, statement->trigname))
			continue;
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to create a trigger on %s", tables[i]),
				 errdetail("It would run with the rights of the table's owner."),
				 errhint("Have the owner create it.")));
	}
}

static void
refuse_change(const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("\"%s\" must stay as extension %s made it", name, EXTENSION_NAME),
			 errdetail("Submissions wait in it.")));
}

/* What a command has given another name, or moved to another schema; or NULL. */
static const RangeVar *
moved_relation(const Node *statement)
{
	if (IsA(statement, RenameStmt))
		return ((const RenameStmt *) statement)->renameType == OBJECT_COLUMN ? NULL :
			((const RenameStmt *) statement)->relation;
	if (IsA(statement, AlterObjectSchemaStmt))
		return ((const AlterObjectSchemaStmt *) statement)->relation;
	return NULL;
}

/* The heaps that submissions wait in. */
static void
check_inbox(Oid log, const Node *statement)
{
	const RangeVar *moved = moved_relation(statement);

	if (IsA(statement, RefreshMatViewStmt))
		inbox_check_refresh(((const RefreshMatViewStmt *) statement)->relation);
	for (uint32 i = 0; i < INBOX_PARTITIONS; i++)
	{
		char		name[NAMEDATALEN];
		Oid			relid;

		shape_inbox_name(i, name);
		relid = get_relname_relid(name, get_rel_namespace(log));
		if (OidIsValid(relid) ? shape_inbox_spoilt(relid) :
			moved != NULL && strcmp(moved->relname, name) == 0)
			refuse_change(name);
	}
}

/* On ddl_command_end of the commands that can change a trigger. */
Datum
seq_log_guard(PG_FUNCTION_ARGS)
{
	Oid			log;
	Oid			landing;

	if (!CALLED_AS_EVENT_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("seq_log_guard() was not called by its event trigger")));
	/* our own script is not finished yet */
	if (creating_extension &&
		CurrentExtensionObject == get_extension_oid(EXTENSION_NAME, true))
		PG_RETURN_NULL();
	log = log_relation_oid();
	if (!OidIsValid(log))
		PG_RETURN_NULL();

	/* other sessions have to look at the extension's version again */
	if (IsA(((EventTriggerData *) fcinfo->context)->parsetree, AlterExtensionStmt))
		CacheInvalidateRelcacheByRelid(log);
	if (IsA(((EventTriggerData *) fcinfo->context)->parsetree, CreateTrigStmt))
		check_new_trigger(log, (const CreateTrigStmt *)
						  ((EventTriggerData *) fcinfo->context)->parsetree);
	check_inbox(log, ((EventTriggerData *) fcinfo->context)->parsetree);
	if (!shape_log_columns_intact(log))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the columns of seq_log, and its primary key, must stay as they are"),
				 errhint("Columns can be added behind them.")));
	if (has_superclass(log) || has_subclass(log))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("seq_log cannot take part in inheritance or partitioning"),
				 errdetail("Rows would come and go by other tables' names.")));
	landing = get_relname_relid(LANDING_NAME, get_rel_namespace(log));
	if (OidIsValid(landing) && count_intact(landing, shape_is_landing_trigger) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the trigger of seq_inbox must stay as it is"),
				 errdetail("Without it nobody would learn of what is restored there."),
				 errhint("Use pg_restore without --disable-triggers.")));
	if (count_intact(log, shape_is_own_trigger) != shape_own_triggers())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the triggers of seq_log must stay as they are"),
				 errdetail("They keep the log in commit order and append-only, for every session and for replication."),
				 errhint("Use pg_restore without --disable-triggers, and DROP EXTENSION to remove the log.")));
	PG_RETURN_NULL();
}
