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
 * - Cursors of the session, which read with the caller's rights, can neither be
 *	 fetched from nor closed meanwhile, and those that were opened are closed:
 *	 whoever fetched from one later would run its query as himself.
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
#include "utils/portal.h"
#include "utils/reltrigger.h"
#include "utils/syscache.h"

/* As the server itself has it for maintenance commands, since 17. */
#define SAFE_SEARCH_PATH "pg_catalog, pg_temp"

static ExecutorStart_hook_type prev_executor_start = NULL;
static ProcessUtility_hook_type prev_process_utility = NULL;
static object_access_hook_type prev_object_access = NULL;

/* The nest level of the transaction that the outermost section began in, or 0. */
static int	section_level = 0;

/*
 * The session's portals, its cursors among them, when the outermost section began.
 * None of them can go away before that ends.
 */
typedef struct OuterPortal
{
	Portal		portal;
	bool		closed_off; /* made to look as if it were running */
} OuterPortal;

static OuterPortal *outer_portals = NULL;
static int	outer_size = 0;
static int	nouter = 0;

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

/* Where the server keeps portals: in one memory context each, named like it. */
static MemoryContext
portals(void)
{
	static MemoryContext found = NULL;

	if (found == NULL)
		for (found = TopMemoryContext->firstchild;
			 strcmp(found->name, "TopPortalContext") != 0; found = found->nextchild)
			;
	return found;
}

static void
close_off_portals(void)
{
	nouter = 0;
	for (MemoryContext context = portals()->firstchild; context != NULL;
		 context = context->nextchild)
	{
		Portal		portal = context->ident == NULL ? NULL :
			GetPortalByName(context->ident);

		if (!PortalIsValid(portal))
			continue;
		if (nouter == outer_size)
		{
			int			size = Max(16, 2 * outer_size);

			if (outer_portals == NULL)
				outer_portals = MemoryContextAlloc(TopMemoryContext,
												   sizeof(OuterPortal) * size);
			else
				outer_portals = repalloc(outer_portals, sizeof(OuterPortal) * size);
			outer_size = size;
		}
		outer_portals[nouter].portal = portal;
		outer_portals[nouter++].closed_off = portal->status == PORTAL_READY;
		if (portal->status == PORTAL_READY)
			portal->status = PORTAL_ACTIVE;
	}
}

/* After an abort those that go with it are no good any more. */
static void
open_up_portals(bool aborted)
{
	for (int i = 0; i < nouter; i++)
	{
		Portal		portal = outer_portals[i].portal;

		if (outer_portals[i].closed_off && portal->status == PORTAL_ACTIVE)
			portal->status = aborted && portal->createSubid != InvalidSubTransactionId ?
				PORTAL_FAILED : PORTAL_READY;
	}
	nouter = 0;
}

static bool
is_outer_portal(Portal portal)
{
	for (int i = 0; i < nouter; i++)
		if (outer_portals[i].portal == portal)
			return true;
	return false;
}

static void
drop_inner_portals(void)
{
	MemoryContext next;

	for (MemoryContext context = portals()->firstchild; context != NULL; context = next)
	{
		Portal		portal = context->ident == NULL ? NULL :
			GetPortalByName(context->ident);

		next = context->nextchild;
		if (PortalIsValid(portal) && !is_outer_portal(portal) &&
			!portal->portalPinned && portal->status != PORTAL_ACTIVE)
			PortalDrop(portal, false);
	}
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
		{
			close_off_portals();
			section_level = GetCurrentTransactionNestLevel();
		}
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
	if (section_level > 0 && identity->level == 0)
	{
		drop_inner_portals();
		open_up_portals(false);
	}
	if (identity->settings != 0)
		AtEOXact_GUC(false, identity->settings);
	section_level = identity->level;
	SetUserIdAndSecContext(identity->user, identity->context);
}

static void
at_xact_event(XactEvent event, void *arg)
{
	if (event != XACT_EVENT_ABORT && event != XACT_EVENT_COMMIT)
		return;
	open_up_portals(event == XACT_EVENT_ABORT);
	section_level = 0;
}

static void
at_subxact_event(SubXactEvent event, SubTransactionId subid,
				 SubTransactionId parent, void *arg)
{
	/* the owner's code may catch errors in subtransactions of its own */
	if (event == SUBXACT_EVENT_ABORT_SUB &&
		GetCurrentTransactionNestLevel() <= section_level)
	{
		open_up_portals(false);
		section_level = 0;
	}
}

/* Within a section: let nothing on the tables opened to be written to be deferred. */
static void
defer_nothing(EState *estate)
{
	ListCell   *lc;

	if (section_level == 0)
		return;
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

static void
executor_start(QueryDesc *query, int eflags)
{
	if (prev_executor_start)
		prev_executor_start(query, eflags);
	else
		standard_ExecutorStart(query, eflags);
	defer_nothing(query->estate);
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
	prev_process_utility = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
	prev_object_access = object_access_hook;
	object_access_hook = object_access;
	RegisterXactCallback(at_xact_event, NULL);
	RegisterSubXactCallback(at_subxact_event, NULL);
}
