/*
 * hooks.c
 *	  What commands in other sessions mean for the workers.
 *
 * Three hooks.  Object access tells of extensions and databases that come and
 * go, by whatever path; nothing is done before the transaction commits.
 * ProcessUtility sees the commands on whole databases, which fail while
 * anybody is connected: the workers give way to those who may run them, and
 * are held off until their transaction ends.  It also sees DISCARD ALL.
 */
#include "compat.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "consumer/consumer.h"
#include "log/inbox.h"
#include "log/table.h"
#include "nodes/parsenodes.h"
#include "pgstat.h"
#include "process/worker.h"
#include "shared/clock.h"
#include "shared/database.h"
#include "shared/handler_slot.h"
#include "shared/requests.h"
#include "shared/waits.h"
#include "shared/wakeup.h"
#include "shared/worker_slot.h"
#include "tcop/utility.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

/* How long a worker has to notice by itself before it is sent SIGTERM. */
#define POLITE_MS 200

static object_access_hook_type prev_object_access_hook = NULL;
static ProcessUtility_hook_type prev_process_utility_hook = NULL;

/* What the present transaction did; in TopTransactionContext. */
static bool extension_created = false;
static bool extension_dropped = false;
static bool extension_altered = false;
static List *databases_created = NIL;
static List *databases_held = NIL;
static List *databases_opened = NIL; /* for connections */

/* Whoever commits it later would not know what the workers have to know. */
static void
refuse_prepare(void)
{
	if (extension_created || extension_dropped || extension_altered)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot PREPARE a transaction that has created, altered or dropped extension calvin_seq")));
	if (databases_created != NIL || databases_held != NIL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot PREPARE a transaction that has altered a database with a calvin_seq applier")));
}

static void
at_xact_event(XactEvent event, void *arg)
{
	ListCell   *lc;

	if (event == XACT_EVENT_PRE_PREPARE)
		refuse_prepare();
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT)
		return;
	foreach(lc, databases_held)
		worker_slot_release(lfirst_oid(lc));
	if (event == XACT_EVENT_COMMIT)
	{
		foreach(lc, databases_created)
			requests_post(lfirst_oid(lc));
		/* no probe could look into it while it was closed */
		foreach(lc, databases_opened)
			if (!database_has_slot(lfirst_oid(lc)))
				requests_post(lfirst_oid(lc));
		if (extension_dropped || extension_altered)
			worker_slot_ask_to_recheck();
		/* from here on the functions work, even before the workers do */
		if (extension_created && !worker_slot_adopt(MyDatabaseId))
			requests_post(MyDatabaseId);
	}
	extension_created = false;
	extension_dropped = false;
	extension_altered = false;
	databases_created = NIL;
	databases_held = NIL;
	databases_opened = NIL;
}

static void
remember_database(List **list, Oid database)
{
	MemoryContext old = MemoryContextSwitchTo(TopTransactionContext);

	*list = lappend_oid(*list, database);
	MemoryContextSwitchTo(old);
}

/* The name is looked up as this very command sees it. */
static bool
is_our_extension(Oid extension)
{
	Relation	rel = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		ours = false;

	ScanKeyInit(&key, Anum_pg_extension_oid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(extension));
	scan = systable_beginscan(rel, ExtensionOidIndexId, true, SnapshotSelf, 1,
							  &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		ours = strcmp(NameStr(((Form_pg_extension) GETSTRUCT(tuple))->extname),
					  "calvin_seq") == 0;
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return ours;
}

/* A handler may have lost its function, or got it back; or its table has another owner. */
static void
note_function(ObjectAccessType access)
{
	DatabaseSlot *slot;

	if (access != OAT_DROP && access != OAT_POST_ALTER && access != OAT_POST_CREATE)
		return;
	slot = database_mine();
	if (slot != NULL && handler_slots_any(slot))
		wakeup_handlers_at_commit(false);
}

static bool
is_definitions_table(Oid class_id, Oid object_id)
{
	const char *name = class_id == RelationRelationId ? get_rel_name(object_id) : NULL;

	return name != NULL && strcmp(name, HANDLERS_NAME) == 0;
}

static void
object_access(ObjectAccessType access, Oid class_id, Oid object_id, int sub_id,
			  void *arg)
{
	if (prev_object_access_hook)
		prev_object_access_hook(access, class_id, object_id, sub_id, arg);

	if (class_id == ExtensionRelationId &&
		(access == OAT_POST_CREATE || access == OAT_POST_ALTER || access == OAT_DROP) &&
		is_our_extension(object_id))
	{
		if (access == OAT_POST_CREATE)
			extension_created = true;
		else if (access == OAT_POST_ALTER)
			extension_altered = true;
		else
			extension_dropped = true;
	}
	else if (class_id == DatabaseRelationId && access == OAT_POST_CREATE)
		remember_database(&databases_created, object_id);
	else if (class_id == ProcedureRelationId || class_id == NamespaceRelationId ||
			 is_definitions_table(class_id, object_id))
		note_function(access);
	else if (class_id == AuthIdRelationId &&
			 (access == OAT_DROP || access == OAT_POST_ALTER))
		wakeup_handlers_at_commit(true);
}

static bool
may_create_databases(void)
{
	HeapTuple	tuple;
	bool		may;

	if (superuser())
		return true;
	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(GetUserId()));
	if (!HeapTupleIsValid(tuple))
		return false;
	may = ((Form_pg_authid) GETSTRUCT(tuple))->rolcreatedb;
	ReleaseSysCache(tuple);
	return may;
}

static bool
is_template(Oid database)
{
	HeapTuple	tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(database));
	bool		result;

	if (!HeapTupleIsValid(tuple))
		return false;
	result = ((Form_pg_database) GETSTRUCT(tuple))->datistemplate;
	ReleaseSysCache(tuple);
	return result;
}

/*
 * The database that a command needs to be without connections, if the user
 * may run the command; otherwise InvalidOid.
 */
static Oid
database_needed_alone(Node *node)
{
	const char *name = NULL;
	bool		needs_createdb = false;
	bool		template_will_do = false;
	Oid			database;
	ListCell   *lc;

	if (IsA(node, DropdbStmt))
		name = ((DropdbStmt *) node)->dbname;
	else if (IsA(node, RenameStmt) &&
			 ((RenameStmt *) node)->renameType == OBJECT_DATABASE)
	{
		name = ((RenameStmt *) node)->subname;
		needs_createdb = true;
	}
	else if (IsA(node, AlterDatabaseStmt))
	{
		foreach(lc, ((AlterDatabaseStmt *) node)->options)
			if (strcmp(lfirst_node(DefElem, lc)->defname, "tablespace") == 0)
				name = ((AlterDatabaseStmt *) node)->dbname;
	}
	else if (IsA(node, CreatedbStmt))
	{
		name = "template1";
		needs_createdb = true;
		template_will_do = true;
		foreach(lc, ((CreatedbStmt *) node)->options)
		{
			DefElem    *option = lfirst_node(DefElem, lc);

			if (strcmp(option->defname, "template") == 0 && option->arg != NULL)
				name = defGetString(option);
		}
	}
	if (name == NULL)
		return InvalidOid;

	database = get_database_oid(name, true);
	if (!OidIsValid(database) || (needs_createdb && !may_create_databases()))
		return InvalidOid;
	if (!compat_owns_database(database, GetUserId()) &&
		!(template_will_do && is_template(database)))
		return InvalidOid;
	return database;
}

/* Handlers' workers are many, so they are signalled each time that is looked. */
static bool
handlers_run(Oid database, bool impolite)
{
	pid_t	   *pids = palloc(sizeof(pid_t) * Max(calvin_max_handlers, 1));
	int			n = handler_slots_pids(database, pids, calvin_max_handlers);

	for (int i = 0; impolite && i < n; i++)
		kill(pids[i], SIGTERM);
	pfree(pids);
	return n > 0;
}

/*
 * Does any worker of the database still run?  One that does not leave by itself
 * is sent SIGTERM if "impolite", once.
 */
static bool
workers_run(Oid database, bool impolite, pid_t signalled[WORKER_KINDS])
{
	bool		any = handlers_run(database, impolite);

	for (int i = 0; i < WORKER_KINDS; i++)
	{
		pid_t		pid = worker_slot_pid(database, (WorkerKind) i);

		if (pid == 0)
			continue;
		any = true;
		if (impolite && signalled[i] != pid)
		{
			kill(pid, SIGTERM);
			signalled[i] = pid;
		}
	}
	return any;
}

/* Ask the workers to leave, and wait until they have. */
static void
hold_off(Oid database)
{
	DatabaseSlot *slot;
	pid_t		signalled[WORKER_KINDS] = {0};
	int64		start = clock_ms();

	/* first what may fail: a hold that is not in the list stays for ever */
	remember_database(&databases_held, database);
	slot = worker_slot_hold(database);
	if (slot == NULL)
	{
		databases_held = list_delete_last(databases_held);
		return;
	}

	/* they may be waiting for a standby or a lock, where only SIGTERM reaches them */
	ConditionVariablePrepareToSleep(&slot->progress);
	while (workers_run(database, clock_ms() - start >= POLITE_MS, signalled))
		(void) ConditionVariableTimedSleep(&slot->progress, POLITE_MS,
										   wait_event(WAIT_HOLD_OFF));
	ConditionVariableCancelSleep();
}

/* ALTER DATABASE ... ALLOW_CONNECTIONS true: the launcher may look into it now. */
static void
note_opened(AlterDatabaseStmt *stmt)
{
	ListCell   *lc;

	foreach(lc, stmt->options)
	{
		DefElem    *option = lfirst_node(DefElem, lc);

		if (strcmp(option->defname, "allow_connections") != 0)
			continue;
		wakeup_handlers_at_commit(true);
		if (defGetBoolean(option))
			remember_database(&databases_opened,
							  get_database_oid(stmt->dbname, false));
	}
}

/* What a handler, or its role, may do is no object of its own. */
static bool
changes_rights(Node *node)
{
	return IsA(node, GrantStmt) || IsA(node, GrantRoleStmt) || IsA(node, AlterOwnerStmt) ||
		IsA(node, DropOwnedStmt) || IsA(node, ReassignOwnedStmt);
}

static void
process_utility(PlannedStmt *pstmt, const char *query, bool read_only,
				ProcessUtilityContext context, ParamListInfo params,
				QueryEnvironment *env, DestReceiver *dest, QueryCompletion *qc)
{
	Node	   *node = pstmt->utilityStmt;
	bool		discards_all = IsA(node, DiscardStmt) &&
		((DiscardStmt *) node)->target == DISCARD_ALL;

	/* also where event triggers are off */
	if (IsTransactionState() && IsA(node, RefreshMatViewStmt))
		inbox_check_refresh(((RefreshMatViewStmt *) node)->relation);
	if (Calvin != NULL && IsTransactionState())
	{
		Oid			database = database_needed_alone(node);

		if (OidIsValid(database))
			hold_off(database);
	}

	if (prev_process_utility_hook)
		prev_process_utility_hook(pstmt, query, read_only, context, params, env,
								  dest, qc);
	else
		standard_ProcessUtility(pstmt, query, read_only, context, params, env,
								dest, qc);

	if (Calvin != NULL && IsTransactionState() && IsA(node, AlterDatabaseStmt))
		note_opened((AlterDatabaseStmt *) node);
	if (Calvin != NULL && changes_rights(node))
		wakeup_handlers_at_commit(true);
	if (discards_all)
		consumer_unsubscribe_everything();
}

void
hooks_init(void)
{
	prev_object_access_hook = object_access_hook;
	object_access_hook = object_access;
	prev_process_utility_hook = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
	RegisterXactCallback(at_xact_event, NULL);
}
