/*
 * left_out.c
 *	  Queries that leave out rows of a receive, or of a fetch.
 *
 * The server collects what such a function returns before the query sees the first
 * row.  All of it counts as received, and the query may end without having handed
 * it out: a LIMIT had enough, or an EXISTS, or who runs the query did: PL/pgSQL's
 * INTO, a cursor that is closed, a driver that asks for so many rows.  What is left
 * would be committed as processed with nobody having seen it, so the query fails at
 * its end.  What a condition or a join passes over, and what an aggregate of all
 * rows reads, is handed out.
 *
 * LIMIT beside the call is refused when the statement is planned (sql/limit.c), that
 * is before anything is received.
 */
#include "compat.h"

#include "consumer/left_out.h"
#include "executor/executor.h"
#include "funcapi.h"
#include "lib/ilist.h"
#include "nodes/nodeFuncs.h"
#include "utils/lsyscache.h"
#include "utils/tuplestore.h"

/* More rows than there are. */
#define ALL_ROWS PG_INT64_MAX

/* The calls in one place of a query that is under way. */
typedef struct Call
{
	dlist_node	node;
	MemoryContextCallback callback;
	EState	   *estate;
	Node	   *expression; /* of the plan */
	Oid			function;
	int64		rows; /* that all of them returned */
	int64		handed_out; /* by the query, so far */
	bool		ended; /* the query has no more to hand out */
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

	if (estate == NULL)
		return;
	call = find_call(estate, expression);
	if (call == NULL)
	{
		call = MemoryContextAllocZero(estate->es_query_cxt, sizeof(Call));
		call->estate = estate;
		call->expression = expression;
		call->function = fcinfo->flinfo->fn_oid;
		call->callback.func = at_query_end;
		call->callback.arg = call;
		MemoryContextRegisterResetCallback(estate->es_query_cxt, &call->callback);
		dlist_push_head(&calls, &call->node);
	}
	call->rows += tuplestore_tuple_count(rsinfo->setResult);
}

/* How many rows of a call can have got out of the plan. */
typedef struct Search
{
	const Call *call;
	int64		bound;	/* of the node whose children are looked at */
	int64		most;	/* by the widest way that there is; -1: none */
} Search;

static void search_plan(PlanState *node, int64 bound, Search *search);

/* A plan of its own, unless it is read by nodes of this one. */
static void
search_subplans(List *subplans, Search *search)
{
	ListCell   *cell;

	foreach(cell, subplans)
	{
		SubPlanState *subplan = lfirst_node(SubPlanState, cell);

		if (subplan->subplan->subLinkType != CTE_SUBLINK)
			search_plan(subplan->planstate,
						subplan->subplan->subLinkType == EXISTS_SUBLINK ? 1 : ALL_ROWS,
						search);
	}
}

static bool
search_child(PlanState *node, void *context)
{
	Search	   *search = context;

	/* those are entered from where they are read */
	if (!list_member_ptr(search->call->estate->es_subplanstates, node))
		search_plan(node, search->bound, search);
	return false;
}

static bool
is_call(Node *node, void *call)
{
	return node == call ||
		(node != NULL && expression_tree_walker(node, is_call, call));
}

static int64
bound_of_limit(const LimitState *limit, int64 bound)
{
	if (limit->offset > 0)
		return 0;
	/* otherwise it has not cut off anything */
	if (limit->lstate == LIMIT_WINDOWEND && !limit->noCount)
		return Min(bound, limit->count);
	return bound;
}

static void
search_plan(PlanState *node, int64 bound, Search *search)
{
	int64		outer = search->bound;

	search_subplans(node->initPlan, search);
	search_subplans(node->subPlan, search);
	switch (nodeTag(node))
	{
		case T_FunctionScanState:
		case T_ProjectSetState:
			if (is_call((Node *) (IsA(node, ProjectSetState) ? node->plan->targetlist :
								  ((FunctionScan *) node->plan)->functions),
						search->call->expression))
				search->most = Max(search->most, bound);
			break;
		case T_LimitState:
			bound = bound_of_limit((LimitState *) node, bound);
			break;
		case T_AggState:
			/* of groups, some may be left out */
			if (((Agg *) node->plan)->aggstrategy == AGG_PLAIN)
				bound = ALL_ROWS;
			break;
		case T_ModifyTableState:
			bound = ALL_ROWS;
			break;
		case T_CteScanState:
			search_plan(((CteScanState *) node)->cteplanstate, bound, search);
			break;
		default:
			break;
	}
	search->bound = bound;
	(void) planstate_tree_walker(node, search_child, search);
	search->bound = outer;
}

static void
check_call(const Call *call, QueryDesc *query)
{
	Search		search = {.call = call, .most = -1};

	search_plan(query->planstate, call->ended ? ALL_ROWS : call->handed_out, &search);
	if (search.most < 0 || call->rows <= search.most)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("the query leaves out rows that %s() returned",
					get_func_name(call->function)),
			 errdetail("Every row of the call counts as received, also those that a LIMIT, an EXISTS, an INTO, or a cursor that is closed leave out."),
			 errhint("Read all of them, or ask for less by max_txns.")));
}

static void
executor_run(COMPAT_RUN_PARAMS)
{
	dlist_iter	iter;

	if (prev_executor_run)
		prev_executor_run(COMPAT_RUN_ARGS);
	else
		standard_ExecutorRun(COMPAT_RUN_ARGS);

	if (!ScanDirectionIsForward(direction))
		return;
	dlist_foreach(iter, &calls)
	{
		Call	   *call = dlist_container(Call, node, iter.cur);

		if (call->estate != query->estate)
			continue;
		call->handed_out += (int64) query->estate->es_processed;
		call->ended |= count == 0 || query->estate->es_processed < count;
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

		if (call->estate == query->estate)
			check_call(call, query);
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
