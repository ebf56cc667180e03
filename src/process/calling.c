/*
 * calling.c
 *	  Calling a handler's function with what was fetched.
 */
#include "compat.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "fmgr.h"
#include "funcapi.h"
#include "log/memory.h"
#include "log/rows.h"
#include "log/shape.h"
#include "log/table.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "process/calling.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/array.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"
#include "utils/typcache.h"

struct Calling
{
	Oid			function;
	HandlerForm form;
	Oid			type;		/* seq_txn */
	TupleDesc	desc;
	RowMaker	maker;
	int			n;
	void	   *rows;		/* Datums */
	Size		size;
};

static ErrorData *last_error = NULL;

/* Filled in regardless, numbers would be taken for pointers. */
static void
check_type(TupleDesc desc)
{
	bool		same = desc->natts == ROW_COLUMNS;

	for (int i = 0; i < ROW_COLUMNS && same; i++)
		same = TupleDescAttr(desc, i)->atttypid == row_types[i];
	if (!same)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("type %s is not as extension %s made it", TXN_TYPE_NAME,
						EXTENSION_NAME),
				 errhint("Undo what was altered.")));
}

Calling *
calling_begin(Oid function, HandlerForm form)
{
	Calling    *calling = palloc0(sizeof(Calling));

	calling->function = function;
	calling->form = form;
	calling->type = get_rel_type_id(get_relname_relid(TXN_TYPE_NAME,
													  log_table_require()->schema));
	calling->desc = lookup_rowtype_tupdesc_copy(calling->type, -1);
	check_type(calling->desc);
	row_maker_init(&calling->maker);
	return calling;
}

void
calling_add(Calling *calling, const Delivery *delivery)
{
	memory_grow(NULL, &calling->rows, &calling->size, (Size) calling->n + 1,
				sizeof(Datum));
	row_make(&calling->maker, delivery);
	((Datum *) calling->rows)[calling->n++] =
		HeapTupleGetDatum(heap_form_tuple(calling->desc, calling->maker.values,
										  calling->maker.nulls));
}

/* One call is what a statement of a client is. */
static void
call(FmgrInfo *flinfo, Datum argument)
{
	LOCAL_FCINFO(fcinfo, 1);

	SetCurrentStatementStartTimestamp();
	if (StatementTimeout > 0)
		enable_timeout_after(STATEMENT_TIMEOUT, StatementTimeout);
	PushActiveSnapshot(GetTransactionSnapshot());
	InitFunctionCallInfoData(*fcinfo, flinfo, 1, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = argument;
	fcinfo->args[0].isnull = false;
	(void) FunctionCallInvoke(fcinfo);
	PopActiveSnapshot();
	CommandCounterIncrement();
	if (get_timeout_active(STATEMENT_TIMEOUT))
		disable_timeout(STATEMENT_TIMEOUT, false);
	CHECK_FOR_INTERRUPTS();
}

void
calling_call(Calling *calling)
{
	Datum	   *rows = calling->rows;
	FmgrInfo	flinfo;
	char	   *activity = psprintf("calling %s", get_func_name(calling->function));

	debug_query_string = activity;
	pgstat_report_activity(STATE_RUNNING, activity);
	fmgr_info(calling->function, &flinfo);
	if (calling->form == HANDLER_MANY)
	{
		int16		length;
		bool		by_value;
		char		align;

		get_typlenbyvalalign(calling->type, &length, &by_value, &align);
		call(&flinfo, PointerGetDatum(construct_array(rows, calling->n, calling->type,
													  length, by_value, align)));
	}
	else
		for (int i = 0; i < calling->n; i++)
			call(&flinfo, rows[i]);
	debug_query_string = NULL;
}

void
calling_failed(ErrorData *error)
{
	calling_forget_error();
	debug_query_string = NULL;
	last_error = error;
}

const ErrorData *
calling_error(void)
{
	return last_error;
}

void
calling_forget_error(void)
{
	if (last_error != NULL)
		FreeErrorData(last_error);
	last_error = NULL;
}
