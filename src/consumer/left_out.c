/*
 * left_out.c
 *	  Queries that leave out rows of a receive, or of a fetch.
 *
 * The server collects what such a function returns before the query sees the first
 * row.  All of it counts as received, and the query may end without having handed
 * it out: a LIMIT had enough, or an EXISTS, or who runs the query did: PL/pgSQL's
 * INTO, a cursor that is closed, EXPLAIN, a driver that asks for so many rows.  What
 * is left would be committed as processed with nobody having seen it, so the query
 * fails at its end.  What a condition or a join passes over, and what an aggregate of all
 * rows reads, is handed out.
 *
 * LIMIT beside the call is refused when the statement is planned (sql/limit.c), that
 * is before anything is received.
 */
#include "compat.h"

#include "access/xact.h"
#include "consumer/left_out.h"
#include "executor/executor.h"
#include "funcapi.h"
#include "lib/ilist.h"
#include "nodes/nodeFuncs.h"
#include "tcop/pquery.h"
#include "utils/lsyscache.h"
#include "utils/portal.h"
#include "utils/tuplestore.h"

/* More rows than there are. */
#define ALL_ROWS PG_INT64_MAX

/* The calls in one place of a query that is under way. */
typedef struct Call
{
	dlist_node	node;
	MemoryContextCallback callback;
	EState	   *estate;
	Portal		portal; /* that runs the query, or what it is part of; NULL: none */
	Node	   *expression; /* of the plan */
	Oid			function;
	Tuplestorestate *store; /* with the rows of the last one */
	int64		times;	/* that they were made */
	int64		rows; /* that all of them returned */
	int64		most; /* that one of them returned */
	int64		handed_out; /* by the query, so far */
	bool		ended; /* the query has no more to hand out */
	bool		thrown_away; /* what it handed out, by EXPLAIN */
	bool		went_back; /* and stands before what it has handed out */
} Call;

static dlist_head calls = DLIST_STATIC_INIT(calls);

static ExecutorRun_hook_type prev_executor_run = NULL;
static ExecutorFinish_hook_type prev_executor_finish = NULL;

static void
at_query_end(void *arg)
{
	Call	   *call = arg;

	dlist_delete(&call->node);
}

static Call *
find_call(EState *estate, Node *expression)
{
	dlist_iter	iter;

	dlist_foreach(iter, &calls)
	{
		Call	   *call = dlist_container(Call, node, iter.cur);

		if (call->estate == estate && call->expression == expression)
			return call;
	}
	return NULL;
}

void
left_out_note(FunctionCallInfo fcinfo)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	EState	   *estate = rsinfo->econtext->ecxt_estate;
	Node	   *expression = fcinfo->flinfo->fn_expr;
	Call	   *call;
	int64		rows;

	if (estate == NULL)
		return;
	call = find_call(estate, expression);
	if (call == NULL)
	{
		call = MemoryContextAllocZero(estate->es_query_cxt, sizeof(Call));
		call->estate = estate;
		call->portal = ActivePortal;
		call->expression = expression;
		call->function = fcinfo->flinfo->fn_oid;
		call->callback.func = at_query_end;
		call->callback.arg = call;
		MemoryContextRegisterResetCallback(estate->es_query_cxt, &call->callback);
		dlist_push_head(&calls, &call->node);
	}
	rows = tuplestore_tuple_count(rsinfo->setResult);
	call->store = rsinfo->setResult;
	call->times++;
	call->rows += rows;
	call->most = Max(call->most, rows);
}

/* How many rows of a call can have got out of the plan. */
typedef struct Search
{
	const Call *call;
	int64		bound;	/* of the node whose children are looked at */
	bool		repeated;	/* they are run for each row of another node */
	int64		others; /* rows of the query's other calls */
	bool		unread; /* there are rows that no node has read */
	int64		most;	/* by the widest way that there is; -1: none */
} Search;

static void search_plan(PlanState *node, int64 bound, bool repeated, Search *search);

/* What is left where so many rows are taken, each time. */
static int64
cut(const Search *search, bool repeated, int64 bound, int64 count)
{
	if (repeated)
		return search->call->most > count ? 0 : bound;
	return Min(bound, count);
}

/* A plan of its own, unless it is read by nodes of this one. */
static void
search_subplans(List *subplans, bool repeated, Search *search) /* NOLINT(misc-no-recursion) */
{
	ListCell   *cell;

	foreach(cell, subplans)
	{
		SubPlanState *subplan = lfirst_node(SubPlanState, cell);
		int64		bound = ALL_ROWS;

		if (subplan->subplan->subLinkType == CTE_SUBLINK)
			continue;
		if (subplan->subplan->subLinkType == EXISTS_SUBLINK)
			bound = cut(search, repeated, bound, 1);
		search_plan(subplan->planstate, bound, repeated, search);
	}
}

static bool
search_child(PlanState *node, void *context)
{
	Search	   *search = context;

	/* those are entered from where they are read */
	if (!list_member_ptr(search->call->estate->es_subplanstates, node))
		search_plan(node, search->bound, search->repeated, search);
	return false;
}

/* The query's end was not reached, so rows that nobody has read were not passed over. */
static int64
bound_of_store(Tuplestorestate *store, int64 bound, Search *search)
{
	if (bound == ALL_ROWS || store == NULL || search->call->went_back)
		return bound;
	search->unread |= tuplestore_advance(store, true);
	return search->unread ? 0 : bound;
}

static void
search_function_scan(const FunctionScan *scan, int64 bound, Search *search)
{
	ListCell   *cell;

	foreach(cell, scan->functions)
	{
		RangeTblFunction *function = lfirst_node(RangeTblFunction, cell);

		if (function->funcexpr != search->call->expression)
			continue;
		/* with parameters it may be gone */
		if (bms_is_empty(function->funcparams))
			bound = bound_of_store(search->call->store, bound, search);
		search->most = Max(search->most, bound);
	}
}

static void
search_project_set(const ProjectSetState *node, int64 bound, Search *search)
{
	for (int i = 0; i < node->nelems; i++)
	{
		SetExprState *element = (SetExprState *) node->elems[i];

		if (IsA(element, SetExprState) &&
			(Node *) element->expr == search->call->expression)
			search->most = Max(search->most,
							   bound_of_store(element->funcResultStore, bound, search));
	}
}

static int64
bound_of_limit(const LimitState *limit, bool repeated, int64 bound,
			   const Search *search)
{
	if (limit->offset > 0)
		return 0;
	/* it has not cut off anything, the last time */
	if (limit->noCount ||
		(limit->lstate == LIMIT_SUBPLANEOF && !(repeated && search->call->times > 1)))
		return bound;
	return cut(search, repeated, bound, limit->count);
}

/* Of a node that makes several rows of one. */
static int64
bound_of_one(int64 bound)
{
	return bound == ALL_ROWS ? bound : Min(bound, 1);
}

static void
search_join(JoinState *node, int64 bound, bool repeated, Search *search) /* NOLINT(misc-no-recursion) */
{
	int64		one = bound_of_one(bound);

	search_plan(outerPlanState(node),
				node->single_match || node->jointype == JOIN_ANTI ? bound : one,
				repeated, search);
	if (IsA(node, NestLoopState) && ((NestLoop *) node->ps.plan)->nestParams != NIL)
		repeated = true;
	search_plan(innerPlanState(node),
				COMPAT_JOIN_OF_INNER(node->jointype) ? bound : one, repeated, search);
}

static void
search_plan(PlanState *node, int64 bound, bool repeated, Search *search) /* NOLINT(misc-no-recursion) */
{
	int64		outer_bound = search->bound;
	bool		outer_repeated = search->repeated;

	search_subplans(node->initPlan, repeated, search);
	search_subplans(node->subPlan, true, search);
	switch (nodeTag(node))
	{
		case T_FunctionScanState:
			search_function_scan((FunctionScan *) node->plan, bound, search);
			break;
		case T_ProjectSetState:
			search_project_set((ProjectSetState *) node, bound, search);
			bound = bound_of_one(bound);
			break;
		case T_NestLoopState:
		case T_MergeJoinState:
		case T_HashJoinState:
			search_join((JoinState *) node, bound, repeated, search);
			return;
		case T_RecursiveUnionState:
			bound = bound_of_one(bound);
			break;
		case T_LimitState:
			bound = bound_of_limit((LimitState *) node, repeated, bound, search);
			break;
		case T_AggState:
			/* of groups, some may be left out */
			if (((Agg *) node->plan)->aggstrategy == AGG_PLAIN)
				bound = ALL_ROWS;
			break;
		case T_AppendState:
		case T_MergeAppendState:
			/* those of a union may have come before */
			if (bound != ALL_ROWS)
				bound = Max(bound - search->others, 0);
			break;
		case T_ModifyTableState:
			/* the server runs to its end what is not the statement itself */
			if (!((ModifyTableState *) node)->canSetTag)
				bound = ALL_ROWS;
			break;
		case T_CteScanState:
			search_plan(((CteScanState *) node)->cteplanstate, bound, repeated, search);
			break;
		default:
			break;
	}
	search->bound = bound;
	search->repeated = repeated;
	(void) planstate_tree_walker(node, search_child, search);
	search->bound = outer_bound;
	search->repeated = outer_repeated;
}

static bool
leaves_out(const Call *call, const QueryDesc *query)
{
	Search		search = {.call = call, .most = -1};
	dlist_iter	iter;

	if (call->thrown_away)
		return call->rows > 0;
	dlist_foreach(iter, &calls)
	{
		const Call *other = dlist_container(Call, node, iter.cur);

		if (other != call && other->estate == call->estate)
			search.others += other->rows;
	}
	search_plan(query->planstate, call->ended ? ALL_ROWS : call->handed_out, false,
				&search);
	return search.most >= 0 && call->rows > search.most;
}

static void
refuse(const Call *call)
{
	/*
	 * One that is being closed would live on, without its query, where that is
	 * rolled back to a savepoint that the call is not behind.  Failed, it lets
	 * nothing be committed (holding.c).
	 */
	if (call->portal != NULL && call->portal->status == PORTAL_READY)
		MarkPortalFailed(call->portal);
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("the query leaves out rows that %s() returned",
					get_func_name(call->function)),
			 errdetail("Every row of the call counts as received, also those that a LIMIT, an EXISTS, an INTO, or a cursor that is closed leave out."),
			 call->thrown_away ?
			 errhint("EXPLAIN ANALYZE it between BEGIN and ROLLBACK.") :
			 errhint("Read all of them, or ask for less by max_txns.")));
}

/*
 * Is it run by EXPLAIN ANALYZE alone?  Nobody sees the rows, and where no transaction
 * block is there to be rolled back they have gone.
 */
static bool
is_explained(const QueryDesc *query)
{
	return query->operation == CMD_SELECT && !query->plannedstmt->hasModifyingCTE &&
		query->dest->mydest == DestNone && ActivePortal != NULL &&
		ActivePortal->strategy == PORTAL_UTIL_SELECT &&
		query->sourceText == ActivePortal->sourceText && !IsTransactionBlock();
}

static void
note_run(Call *call, const QueryDesc *query, bool forward, bool all)
{
	int64		position = call->handed_out;

	call->thrown_away = is_explained(query);
	if (!forward)
	{
		call->went_back = true;
		return;
	}
	/* a cursor may have been moved back */
	if (call->portal != NULL && call->portal->queryDesc == query)
		position = (int64) call->portal->portalPos;
	position += (int64) query->estate->es_processed;
	call->went_back = position < call->handed_out;
	call->handed_out = Max(call->handed_out, position);
	call->ended |= all;
}

static void
executor_run(COMPAT_RUN_PARAMS)
{
	dlist_iter	iter;
	bool		all;

	if (prev_executor_run)
		prev_executor_run(COMPAT_RUN_ARGS);
	else
		standard_ExecutorRun(COMPAT_RUN_ARGS);

	if (dlist_is_empty(&calls) || ScanDirectionIsNoMovement(direction))
		return;
	all = count == 0 || query->estate->es_processed < count ||
		!(query->operation == CMD_SELECT || query->plannedstmt->hasReturning);
	dlist_foreach(iter, &calls)
	{
		Call	   *call = dlist_container(Call, node, iter.cur);

		if (call->estate == query->estate)
			note_run(call, query, ScanDirectionIsForward(direction), all);
	}
}

static void
executor_finish(QueryDesc *query)
{
	dlist_iter	iter;

	if (prev_executor_finish)
		prev_executor_finish(query);
	else
		standard_ExecutorFinish(query);

	dlist_foreach(iter, &calls)
	{
		const Call *call = dlist_container(Call, node, iter.cur);

		if (call->estate == query->estate && leaves_out(call, query))
			refuse(call);
	}
}

void
left_out_init(void)
{
	prev_executor_run = ExecutorRun_hook;
	ExecutorRun_hook = executor_run;
	prev_executor_finish = ExecutorFinish_hook;
	ExecutorFinish_hook = executor_finish;
}
