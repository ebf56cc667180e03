/*
 * owner.c
 *	  Acting as the owner of one of the extension's tables.
 *
 * A section is what runs between log_become_owner() and log_become_self().  The
 * owner's code may run in it, in the session of whoever called, be it a
 * superuser.  So that it does nothing as the caller and leaves nothing with
 * him:
 *
 * - It is a security-restricted operation: the server refuses temporary tables,
 *	 cursors WITH HOLD, LISTEN, other roles, and triggers left for the commit.
 * - Settings are taken back at its end; search_path is a safe one, so neither
 *	 does the caller choose what careless code calls.
 * - Triggers that are deferred fire at the end of the statement that queues
 *	 them: at the caller's commit they would run as the caller.
 * - Utility commands are those listed below.  All others define something, which
 *	 could be in the caller's temporary schema, where his names are looked up
 *	 first, or change what is the session's: its prepared statements, its cursors
 *	 and constraints.
 * - No query is run that was begun outside: the caller's cursors read with his
 *	 rights.
 * - Advisory locks end with the transaction.
 *
 * The hooks cost everybody else the test of one variable.
 */
#include "compat.h"

#include "access/xact.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_namespace_d.h"
#include "catalog/pg_proc_d.h"
#include "executor/executor.h"
#include "log/owner.h"
#include "tcop/cmdtag.h"
#include "tcop/utility.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/reltrigger.h"
#include "utils/syscache.h"

/* As the server itself has it for maintenance commands, since 17. */
#define SAFE_SEARCH_PATH "pg_catalog, pg_temp"

static ExecutorStart_hook_type prev_executor_start = NULL;
static ExecutorRun_hook_type prev_executor_run = NULL;
static ProcessUtility_hook_type prev_process_utility = NULL;
static object_access_hook_type prev_object_access = NULL;

/* The nest level of the transaction that the outermost section began in, or 0. */
static int	section_level = 0;

/* What the memory of a query that was begun in a section is called. */
static const char *const section_query = "calvin_seq: of a table's owner";

static Oid
owner_of(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation with OID %u does not exist", relid)));
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

static LogIdentity
become(Oid user, bool runs_code)
{
	LogIdentity self = {0};

	GetUserIdAndSecContext(&self.user, &self.context);
	SetUserIdAndSecContext(user,
						   self.context | SECURITY_LOCAL_USERID_CHANGE |
						   SECURITY_RESTRICTED_OPERATION | SECURITY_NOFORCE_RLS);
	self.level = section_level;
	if (runs_code)
	{
		self.settings = NewGUCNestLevel();
		(void) set_config_option("search_path", SAFE_SEARCH_PATH, PGC_USERSET,
								 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
		if (section_level == 0)
			section_level = GetCurrentTransactionNestLevel();
	}
	return self;
}

LogIdentity
log_become_owner(const LogTable *table)
{
	return become(table->owner, true);
}

LogIdentity
log_become_side_owner(const LogTable *table, SideTable side)
{
	return become(owner_of(log_side_table(table, side)), true);
}

LogIdentity
log_become_relation_owner(Oid relid)
{
	return become(owner_of(relid), true);
}

LogIdentity
log_become_owner_to_append(const LogTable *table)
{
	return become(table->owner, !table->bare);
}

LogIdentity
log_become_worker(const LogTable *table)
{
	return become(table->owner, false);
}

void
log_become_self(const LogIdentity *identity)
{
	if (identity->settings != 0)
		AtEOXact_GUC(false, identity->settings);
	section_level = identity->level;
	SetUserIdAndSecContext(identity->user, identity->context);
}

static void
at_xact_event(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_ABORT || event == XACT_EVENT_COMMIT)
		section_level = 0;
}

static void
at_subxact_event(SubXactEvent event, SubTransactionId subid,
				 SubTransactionId parent, void *arg)
{
	/* the owner's code may catch errors in subtransactions of its own */
	if (event == SUBXACT_EVENT_ABORT_SUB &&
		GetCurrentTransactionNestLevel() <= section_level)
		section_level = 0;
}

/* Let nothing that a query queues wait for the transaction's end. */
static void
defer_nothing(EState *estate)
{
	ListCell   *lc;

	foreach(lc, estate->es_opened_result_relations)
	{
		/* a copy of its own */
		TriggerDesc *triggers = ((ResultRelInfo *) lfirst(lc))->ri_TrigDesc;

		for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
		{
			triggers->triggers[i].tgdeferrable = false;
			triggers->triggers[i].tginitdeferred = false;
		}
	}
}

void
owner_defer_nothing(EState *estate)
{
	if (section_level > 0)
		defer_nothing(estate);
}

static void
executor_start(QueryDesc *query, int eflags)
{
	if (prev_executor_start)
		prev_executor_start(query, eflags);
	else
		standard_ExecutorStart(query, eflags);
	if (section_level > 0)
	{
		defer_nothing(query->estate);
		MemoryContextSetIdentifier(query->estate->es_query_cxt, section_query);
	}
}

static void
refuse(const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("cannot %s in what the owner has attached to a table of extension %s",
					what, EXTENSION_NAME),
			 errdetail("It runs in the session of whoever uses the table by a function, where nothing may be left or used of his.")));
}

static void
executor_run(QueryDesc *query, ScanDirection direction,
			 uint64 count COMPAT_EXECUTE_ONCE_PARAMETER)
{
	if (section_level > 0 && query->estate->es_query_cxt->ident != section_query)
		refuse("fetch from a cursor of the session");
	if (prev_executor_run)
		prev_executor_run(query, direction, count COMPAT_EXECUTE_ONCE);
	else
		standard_ExecutorRun(query, direction, count COMPAT_EXECUTE_ONCE);
}

/* What neither defines anything nor is about the session's own. */
static bool
is_harmless(const Node *command)
{
	switch (nodeTag(command))
	{
		case T_CallStmt:
		case T_CopyStmt:
		case T_DoStmt:
		case T_LockStmt:
		case T_NotifyStmt:
		case T_TruncateStmt:
		case T_VariableSetStmt: /* taken back */
		case T_VariableShowStmt:
			return true;
		default:
			return false;
	}
}

static void
process_utility(PlannedStmt *pstmt, const char *query, bool read_only,
				ProcessUtilityContext context, ParamListInfo params,
				QueryEnvironment *env, DestReceiver *dest, QueryCompletion *qc)
{
	if (section_level > 0 && !is_harmless(pstmt->utilityStmt))
		refuse(psprintf("execute %s", CreateCommandName(pstmt->utilityStmt)));
	if (prev_process_utility)
		prev_process_utility(pstmt, query, read_only, context, params, env, dest, qc);
	else
		standard_ProcessUtility(pstmt, query, read_only, context, params, env,
								dest, qc);
}

/* One of the server's that takes or gives back locks of the session? */
static bool
locks_session(Oid function)
{
	const char *name;

	if (get_func_namespace(function) != PG_CATALOG_NAMESPACE)
		return false;
	name = get_func_name(function);
	return strstr(name, "_advisory_") != NULL && strstr(name, "_xact_") == NULL;
}

static void
object_access(ObjectAccessType access, Oid class_id, Oid object_id, int sub_id,
			  void *arg)
{
	if (prev_object_access)
		prev_object_access(access, class_id, object_id, sub_id, arg);
	if (section_level > 0 && access == OAT_FUNCTION_EXECUTE &&
		class_id == ProcedureRelationId && locks_session(object_id))
		refuse("lock for the session");
}

void
owner_init(void)
{
	prev_executor_start = ExecutorStart_hook;
	ExecutorStart_hook = executor_start;
	prev_executor_run = ExecutorRun_hook;
	ExecutorRun_hook = executor_run;
	prev_process_utility = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
	prev_object_access = object_access_hook;
	object_access_hook = object_access;
	RegisterXactCallback(at_xact_event, NULL);
	RegisterSubXactCallback(at_subxact_event, NULL);
}
