/*
 * guard.c
 *	  The event trigger that keeps what the extension made as it made it.
 *
 * What its script has made are members of the extension: tables, functions,
 * views, types, and the indexes, triggers and constraints on its tables
 * (members.c); the server lets nobody drop them.  What else a command may do with
 * a member is written down here: whatever is not, is undone by an error.
 *
 * Only what a command has touched is looked at, as the server lists it, since
 * names may be another object's by now.  So a command on objects of others never
 * fails because of us, in whatever state ours are, unless it makes them part of
 * ours or ours part of them.
 */
#include "compat.h"

#include "access/htup_details.h"
#include "catalog/indexing.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/event_trigger.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "executor/tuptable.h"
#include "funcapi.h"
#include "log/members.h"
#include "log/shape.h"
#include "log/table.h"
#include "tcop/cmdtag.h"
#include "tcop/utility.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/tuplestore.h"

CALVIN_FUNCTION(seq_log_guard);

/* Columns of pg_event_trigger_ddl_commands(). */
#define COMMAND_CLASS 1
#define COMMAND_OBJECT 2

typedef struct Guard
{
	Oid			extension;
	const Node *statement;
	Oid			relid; /* the relation that is looked at */
} Guard;

static void
refuse(const Guard *guard, const char *name, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("\"%s\" must stay as extension %s made it", name, EXTENSION_NAME),
			 errdetail("%s", detail != NULL ? detail :
					   psprintf("%s is not among the commands that may change it.",
								CreateCommandName((Node *) guard->statement))),
			 errhint("Use DROP EXTENSION to remove it, or ALTER EXTENSION UPDATE to change it.")));
}

static bool
is_member_relation(const Guard *guard, Oid relid)
{
	return members_include(guard->extension, RelationRelationId, relid);
}

/*
 * Triggers run as the table's owner when one of our functions writes to it,
 * whoever calls that.  So TRIGGER, the privilege, is not enough to make one.
 */
static void
check_owner(Oid relid)
{
	if (!compat_owns_relation(relid, GetUserId()))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to create a trigger on %s",
						get_rel_name(relid)),
				 errdetail("It would run with the rights of the table's owner."),
				 errhint("Have the owner create it.")));
}

/* Of each trigger on a table of ours. */
static bool
check_trigger(HeapTuple tuple, void *arg)
{
	const Guard *guard = arg;
	Form_pg_trigger trigger = (Form_pg_trigger) GETSTRUCT(tuple);
	const char *table = get_rel_name(guard->relid);

	if (!members_is_new(tuple))
		return true;
	if (trigger->tgdeferrable)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("%s cannot have deferrable triggers or constraints", table),
				 errdetail("They would fire at the commit of whoever used the table by a function."),
				 errhint("Make it NOT DEFERRABLE.")));
	if (members_include(guard->extension, TriggerRelationId, trigger->oid) &&
		trigger->tgenabled != TRIGGER_FIRES_ALWAYS)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the triggers of %s must stay as they are", table),
				 errdetail("They keep what is stored there right, for every session and for replication."),
				 errhint("Use pg_restore without --disable-triggers, and DROP EXTENSION to remove the log.")));
	return true;
}

/* Of each foreign key that a relation of others has. */
static bool
check_constraint(HeapTuple tuple, void *arg)
{
	const Guard *guard = arg;
	Form_pg_constraint constraint = (Form_pg_constraint) GETSTRUCT(tuple);

	if (members_is_new(tuple) && constraint->contype == CONSTRAINT_FOREIGN &&
		is_member_relation(guard, constraint->confrelid))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("%s cannot be referenced by foreign keys",
						get_rel_name(constraint->confrelid)),
				 errdetail("Its rows are removed without regard to who refers to them.")));
	return true;
}

/* Of each parent and each child that a relation has got. */
static bool
check_inheritance(HeapTuple tuple, void *arg)
{
	const Guard *guard = arg;
	Form_pg_inherits inherits = (Form_pg_inherits) GETSTRUCT(tuple);
	Oid			ours = is_member_relation(guard, inherits->inhparent) ?
		inherits->inhparent : inherits->inhrelid;

	if (members_is_new(tuple) && is_member_relation(guard, ours))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("%s cannot take part in inheritance or partitioning",
						get_rel_name(ours)),
				 errdetail("Rows would come and go by other tables' names.")));
	return true;
}

/* Whatever a relation got to do with others'. */
static void
check_relatives(Guard *guard)
{
	members_visit(ConstraintRelationId, ConstraintRelidTypidNameIndexId,
				  Anum_pg_constraint_conrelid, guard->relid, check_constraint, guard);
	members_visit(InheritsRelationId, InheritsRelidSeqnoIndexId,
				  Anum_pg_inherits_inhrelid, guard->relid, check_inheritance, guard);
	if (IsA(guard->statement, AlterTableStmt))
		members_visit(InheritsRelationId, InheritsParentIndexId,
					  Anum_pg_inherits_inhparent, guard->relid, check_inheritance,
					  guard);
}

static void
check_triggers(Guard *guard)
{
	members_visit(TriggerRelationId, TriggerRelidNameIndexId,
				  Anum_pg_trigger_tgrelid, guard->relid, check_trigger, guard);
}

static void
check_columns(const Guard *guard)
{
	if (!shape_columns_intact(guard->relid))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the columns of %s, and its primary key, must stay as they are",
						get_rel_name(guard->relid)),
				 errhint("Columns can be added behind those of %s.", LOG_NAME)));
}

/* What may be done to any relation of ours. */
static bool
is_for_storage(AlterTableType type)
{
	switch (type)
	{
		case AT_ChangeOwner:
		case AT_ReplaceRelOptions:
		case AT_ResetRelOptions:
		case AT_SetLogged:
		case AT_SetRelOptions:
		case AT_SetTableSpace:
			return true;
		default:
			return false;
	}
}

/* What may be done to a table besides, triggers and columns being checked after it. */
static bool
is_for_tables(AlterTableType type)
{
	switch (type)
	{
		case AT_AddConstraint:
		case AT_AddIndexConstraint:
		case AT_ClusterOn:
		case AT_DisableRowSecurity:
		case AT_DisableTrig:
		case AT_DisableTrigAll:
		case AT_DisableTrigUser:
		case AT_DropCluster:
		case AT_DropColumn:
		case AT_DropConstraint:
		case AT_EnableAlwaysTrig:
		case AT_EnableReplicaTrig:
		case AT_EnableRowSecurity:
		case AT_EnableTrig:
		case AT_EnableTrigAll:
		case AT_EnableTrigUser:
		case AT_ForceRowSecurity:
		case AT_NoForceRowSecurity:
		case AT_ReplicaIdentity:
		case AT_ResetOptions:
		case AT_SetCompression:
		case AT_SetOptions:
		case AT_SetStatistics:
		case AT_SetStorage:
		case AT_ValidateConstraint:
			return true;
		default:
			return false;
	}
}

/* What may be done to a column that somebody has added. */
static bool
is_for_added_columns(AlterTableType type)
{
	switch (type)
	{
		case AT_AddIdentity:
		case AT_AlterColumnType:
		case AT_ColumnDefault:
		case AT_DropExpression:
		case AT_DropIdentity:
		case AT_DropNotNull:
		case AT_SetIdentity:
		case AT_SetNotNull:
			return true;
		default:
			return false;
	}
}

static bool
is_added_column(Oid relid, const char *name)
{
	return shape_takes_columns(relid) && name != NULL &&
		get_attnum(relid, name) > shape_own_columns(relid);
}

/*
 * Columns that somebody adds come with pg_dump only if an extension adds them; the rows
 * of a dump do name them.
 */
static void
warn_of_column(const Guard *guard, const char *column)
{
	const char *table = get_rel_name(guard->relid);

	ereport(WARNING,
			(errcode(ERRCODE_WARNING),
			 errmsg("a dump of %s can be restored only where it has column \"%s\"", table,
					column),
			 errdetail("The dump has what is in it, and CREATE EXTENSION does not make it."),
			 errhint("Have an extension of your own add it, or add it before the data are restored: see docs/backup.md.")));
}

/*
 * Of each thing that depends on a table: is it a sequence that a column owns?  In a
 * dump it is part of the table's definition, which comes before anybody could add the
 * column again.
 */
static bool
check_sequence(HeapTuple tuple, void *arg)
{
	const Guard *guard = arg;
	Form_pg_depend depend = (Form_pg_depend) GETSTRUCT(tuple);

	if (members_is_new(tuple) && depend->refclassid == RelationRelationId &&
		depend->refobjsubid != 0 && depend->classid == RelationRelationId &&
		get_rel_relkind(depend->objid) == RELKIND_SEQUENCE)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("columns of %s cannot own sequences", get_rel_name(guard->relid)),
				 errdetail("A dump could not be restored."),
				 errhint("Use DEFAULT nextval() with a sequence that is not part of the table, or have an extension of your own add the column.")));
	return true;
}

static void
check_alter_table(Guard *guard, Oid object)
{
	const AlterTableStmt *statement = (const AlterTableStmt *) guard->statement;
	bool		is_table = get_rel_relkind(object) == RELKIND_RELATION;
	ListCell   *lc;

	foreach(lc, statement->cmds)
	{
		const AlterTableCmd *command = lfirst_node(AlterTableCmd, lc);
		AlterTableType type = command->subtype;

		if (is_for_storage(type) || (is_table && is_for_tables(type)))
			continue;
		if (is_table && type == AT_AddColumn && shape_takes_columns(object))
		{
			if (!creating_extension)
				warn_of_column(guard, castNode(ColumnDef, command->def)->colname);
			continue;
		}
		if (is_table && is_for_added_columns(type) &&
			is_added_column(object, command->name))
			continue;
		refuse(guard, get_rel_name(object),
			   "This form of ALTER is not among those that may change it.");
	}
	if (is_table)
	{
		check_columns(guard);
		check_triggers(guard);
		if (!creating_extension)
			members_visit(DependRelationId, DependReferenceIndexId, Anum_pg_depend_refobjid,
						  object, check_sequence, guard);
	}
}

/* A part that somebody else has made may be given another name. */
static void
check_rename(const Guard *guard, Oid class_id, Oid object)
{
	const RenameStmt *statement = (const RenameStmt *) guard->statement;

	if (statement->renameType == OBJECT_COLUMN && object == guard->relid &&
		is_added_column(object, statement->newname))
		return;
	if (!members_include(guard->extension, class_id, object))
		return;
	if (statement->renameType == OBJECT_COLUMN)
		check_columns(guard);
	refuse(guard, statement->relation != NULL ? statement->relation->relname :
		   EXTENSION_NAME, NULL);
}

/* A command has touched a member, or a part of a relation that is one. */
static void
check_member(Guard *guard, Oid class_id, Oid object)
{
	bool		is_itself = members_include(guard->extension, class_id, object);
	bool		is_table = OidIsValid(guard->relid) &&
		get_rel_relkind(guard->relid) == RELKIND_RELATION;
	const char *name = NULL;

	switch (nodeTag(guard->statement))
	{
		case T_AlterOwnerStmt:
			/* event triggers run as whoever runs a command */
			if (class_id != ProcedureRelationId ||
				get_func_rettype(object) != EVENT_TRIGGEROID)
				return;
			break;
		case COMPAT_CLUSTER_STMT:
		case T_AlterTableMoveAllStmt:
		case T_CommentStmt:
		case T_GrantStmt:
		case T_ReindexStmt:
		case T_SecLabelStmt:
		case T_VacuumStmt:
			return;
		case T_AlterPolicyStmt:
		case T_CreatePolicyStmt:
			/* the owner is not subject to them */
			if (is_table)
				return;
			break;
		case T_IndexStmt:
			if (is_table && !is_itself)
				return;
			break;
		case T_CreateTrigStmt:
			if (is_table)
				check_owner(guard->relid);
			if (is_table && !is_itself)
			{
				check_triggers(guard);
				return;
			}
			break;
		case T_AlterTableStmt:
			check_relatives(guard);
			check_alter_table(guard, object);
			return;
		case T_RenameStmt:
			check_rename(guard, class_id, object);
			return;
		default:
			break;
	}
	if (OidIsValid(guard->relid))
		name = get_rel_name(guard->relid);
	else if (class_id == ProcedureRelationId)
		name = get_func_name(object);
	refuse(guard, name != NULL ? name : EXTENSION_NAME, NULL);
}

static bool
is_of_extension(const Guard *guard, Oid class_id, Oid object)
{
	return class_id == ExtensionRelationId && object == guard->extension;
}

static void
check_touched(Guard *guard, Oid class_id, Oid object)
{
	guard->relid = members_relation_of(class_id, object);
	if (members_include(guard->extension, class_id, object) ||
		(OidIsValid(guard->relid) && is_member_relation(guard, guard->relid)))
		check_member(guard, class_id, object);
	else if (class_id == RelationRelationId)
		check_relatives(guard);
	else if (is_of_extension(guard, class_id, object) &&
			 IsA(guard->statement, AlterExtensionContentsStmt) && !IsBinaryUpgrade)
		refuse(guard, EXTENSION_NAME, NULL);
}

/* What our own script has made are members from here on. */
static void
adopt_touched(Guard *guard, Oid class_id, Oid object)
{
	guard->relid = members_relation_of(class_id, object);
	if (OidIsValid(guard->relid) && is_member_relation(guard, guard->relid))
		members_adopt_new(guard->extension, guard->relid);
}

/* Have a look at each object that the command has touched. */
static void
for_each_touched(Guard *guard, void (*look) (Guard *guard, Oid class_id, Oid object))
{
	LOCAL_FCINFO(fcinfo, 0);
	FmgrInfo	function;
	ReturnSetInfo result = {
		.type = T_ReturnSetInfo,
		.econtext = CreateStandaloneExprContext(),
		.allowedModes = SFRM_Materialize,
	};
	TupleTableSlot *slot;

	fmgr_info(F_PG_EVENT_TRIGGER_DDL_COMMANDS, &function);
	InitFunctionCallInfoData(*fcinfo, &function, 0, InvalidOid, NULL,
							 (Node *) &result);
	(void) FunctionCallInvoke(fcinfo);
	slot = MakeSingleTupleTableSlot(result.setDesc, &TTSOpsMinimalTuple);
	while (tuplestore_gettupleslot(result.setResult, true, false, slot))
	{
		bool		no_class;
		bool		no_object;
		Oid			class_id = DatumGetObjectId(slot_getattr(slot, COMMAND_CLASS, &no_class));
		Oid			object = DatumGetObjectId(slot_getattr(slot, COMMAND_OBJECT, &no_object));

		/* grants name none, and are allowed */
		if (!no_class && !no_object)
			look(guard, class_id, object);
	}
	ExecDropSingleTupleTableSlot(slot);
	tuplestore_end(result.setResult);
	FreeExprContext(result.econtext, true);
}

/* On ddl_command_end of all commands. */
Datum
seq_log_guard(PG_FUNCTION_ARGS)
{
	Guard		guard = {0};
	Oid			log;

	if (!CALLED_AS_EVENT_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("seq_log_guard() was not called by its event trigger")));
	guard.extension = get_extension_oid(EXTENSION_NAME, true);
	guard.statement = ((EventTriggerData *) fcinfo->context)->parsetree;
	if (!OidIsValid(guard.extension))
		PG_RETURN_NULL();
	if (creating_extension && CurrentExtensionObject == guard.extension)
	{
		for_each_touched(&guard, adopt_touched);
		PG_RETURN_NULL();
	}

	/* other sessions have to look at the extension's version again */
	log = log_relation_oid();
	if (IsA(guard.statement, AlterExtensionStmt) && OidIsValid(log))
		CacheInvalidateRelcacheByRelid(log);
	if (IsBinaryUpgrade && IsA(guard.statement, AlterExtensionContentsStmt))
		members_adopt_upgraded(guard.extension);
	for_each_touched(&guard, check_touched);
	PG_RETURN_NULL();
}
