/*
 * result.c
 *	  The rows that functions return: their types are compared before they are
 *	  filled.
 */
#include "compat.h"

#include "log/shape.h"
#include "sql/result.h"
#include "utils/builtins.h"
#include "utils/regproc.h"

static void
check_columns(FunctionCallInfo fcinfo, TupleDesc desc, int n, const Oid *types)
{
	int			wrong = -1;

	for (int i = 0; i < n && i < desc->natts && wrong < 0; i++)
	{
		Form_pg_attribute column = TupleDescAttr(desc, i);

		if (column->attisdropped || column->atttypid != types[i])
			wrong = i;
	}
	if (wrong < 0 && desc->natts == n)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("the row type of %s is not as extension %s made it",
					format_procedure(fcinfo->flinfo->fn_oid), EXTENSION_NAME),
			 wrong >= 0 ?
			 errdetail("Its column %d is to be of type %s.", wrong + 1,
					   format_type_be(types[wrong])) :
			 errdetail("It has %d columns instead of %d.", desc->natts, n),
			 errhint("Undo what was altered.")));
}

TupleDesc
result_row(FunctionCallInfo fcinfo, int n, const Oid *types)
{
	TupleDesc	desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("%s was not called where a row is expected",
						format_procedure(fcinfo->flinfo->fn_oid))));
	check_columns(fcinfo, desc, n, types);
	return BlessTupleDesc(desc);
}

ReturnSetInfo *
result_rows(FunctionCallInfo fcinfo, int n, const Oid *types)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, 0);
	check_columns(fcinfo, rsinfo->setDesc, n, types);
	return rsinfo;
}
