/*
 * limit.c
 *	  LIMIT on a function whose every row counts as received.
 *
 * The server collects what such a function returns, and a LIMIT passes over a part
 * of it: that would be committed as processed with nobody having seen it.  The
 * planner asks a function's support function how many rows it returns, which is
 * where a LIMIT is seen before anything has been received.  One of another query
 * level is seen when the query has ended (consumer/left_out.c).
 */
#include "compat.h"

#include "nodes/nodeFuncs.h"
#include "nodes/pathnodes.h"
#include "nodes/supportnodes.h"
#include "optimizer/optimizer.h"
#include "utils/lsyscache.h"

/* What an expression of the query is, if it is known now: false: it is not. */
static bool
known_value(PlannerInfo *root, Node *expression, int64 *value, bool *isnull)
{
	Node	   *known = estimate_expression_value(root, expression);
	Const	   *constant = (Const *) known;

	if (!IsA(known, Const))
		return false;
	*isnull = constant->constisnull;
	if (constant->constisnull)
		return true;
	if (constant->consttype == INT8OID)
		*value = DatumGetInt64(constant->constvalue);
	else
		*value = DatumGetInt32(constant->constvalue);
	return true;
}

/* max_txns is the only integer that they take. */
static Node *
max_txns_of(FuncExpr *call)
{
	ListCell   *cell;

	foreach(cell, call->args)
	{
		if (exprType(lfirst(cell)) == INT4OID)
			return lfirst(cell);
	}
	return NULL;
}

/* Is there something that may give several rows for one of another relation? */
static bool
has_joins(PlannerInfo *root)
{
	Relids		joined = bms_copy(root->all_baserels);
	ListCell   *cell;

	foreach(cell, root->join_info_list)
	{
		SpecialJoinInfo *join = lfirst_node(SpecialJoinInfo, cell);

		if (join->jointype == JOIN_SEMI || join->jointype == JOIN_ANTI)
			joined = bms_del_members(joined, join->syn_righthand);
	}
	return bms_membership(joined) == BMS_MULTIPLE;
}

/* Does the query level of a call leave out rows of it by LIMIT or OFFSET? */
static bool
leaves_rows_out(PlannerInfo *root, FuncExpr *call)
{
	Query	   *query = root->parse;
	Node	   *max_txns = max_txns_of(call);
	int64		limit,
				offset,
				most;
	bool		isnull;

	/* an aggregate of all rows has read them; of groups, some would be left out */
	if (query->hasAggs && query->groupClause == NIL && query->groupingSets == NIL)
		return false;
	if (query->limitOffset != NULL &&
		!(known_value(root, query->limitOffset, &offset, &isnull) &&
		  (isnull || offset == 0)))
		return true;
	if (query->limitCount == NULL)
		return false;
	if (!known_value(root, query->limitCount, &limit, &isnull))
		return true;
	if (isnull)
		return false;
	if (max_txns == NULL || !known_value(root, max_txns, &most, &isnull))
		return true;
	if (isnull)
		return false;
	return most > (has_joins(root) ? Min(limit, 1) : limit);
}

/* seq_receive_support(internal) -> internal: the planner's, of what receives rows */
CALVIN_FUNCTION(seq_receive_support);
Datum
seq_receive_support(PG_FUNCTION_ARGS)
{
	Node	   *request = (Node *) PG_GETARG_POINTER(0);

	if (IsA(request, SupportRequestRows))
	{
		SupportRequestRows *rows = (SupportRequestRows *) request;

		if (rows->root != NULL && rows->node != NULL && IsA(rows->node, FuncExpr) &&
			leaves_rows_out(rows->root, (FuncExpr *) rows->node))
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("LIMIT cannot bound what %s() returns",
							get_func_name(rows->funcid)),
					 errdetail("Every row of the call counts as received, also those that LIMIT or OFFSET leave out."),
					 errhint("Bound the call itself, by max_txns.")));
	}
	PG_RETURN_POINTER(NULL);
}
