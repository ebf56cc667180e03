/*
 * calling.c
 *	  What was fetched for a handler, and calling it.
 *
 * A call is as a statement of a session: its own snapshot, statement_timeout, its line
 * in pg_stat_activity.
 */
#include "compat.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_proc.h"
#include "fmgr.h"
#include "funcapi.h"
#include "log/memory.h"
#include "log/rows.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "process/calling.h"
#include "shared/pause.h"
#include "utils/array.h"
#include "utils/backend_status.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"
#include "utils/typcache.h"

/* No more is taken for a call once it is larger than this. */
#define MAX_BYTES (64 * 1024 * 1024)

/* Filled in regardless, numbers would be taken for pointers. */
static TupleDesc
txn_desc(const HandlerFunction *function)
{
	TupleDesc	desc = lookup_rowtype_tupdesc_copy(function->txn_type, -1);
	bool		same = desc->natts == ROW_COLUMNS;

	for (int i = 0; i < ROW_COLUMNS && same; i++)
		same = TupleDescAttr(desc, i)->atttypid == row_types[i];
	if (!same)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("type %s is not as extension %s made it", TXN_TYPE_NAME,
						EXTENSION_NAME),
				 errhint("Undo what was altered.")));
	return desc;
}

bool
calling_gather(Fetch *fetch, const HandlerFunction *function, bool doubted,
			   HandlerRows *rows, int *partition)
{
	TupleDesc	desc = txn_desc(function);
	RowMaker	maker;
	Delivery	delivery;
	void	   *list = NULL;
	Size		size = 0;
	Size		bytes = 0;

	row_maker_init(&maker);
	rows->n = 0;
	while (bytes < MAX_BYTES && fetch_next(fetch, &delivery, partition))
	{
		HandlerRow *row;
		HeapTuple	tuple;

		CHECK_FOR_INTERRUPTS();
		if (!doubted && fetch_attempts(fetch, *partition) > 0)
			return false;
		memory_grow(NULL, &list, &size, (Size) rows->n + 1, sizeof(HandlerRow));
		row_make(&maker, &delivery);
		tuple = heap_form_tuple(desc, maker.values, maker.nulls);
		bytes += tuple->t_len;
		row = &((HandlerRow *) list)[rows->n++];
		row->partition = *partition;
		row->key.epoch = delivery.epoch;
		row->key.position = delivery.position;
		row->key.vshard = delivery.vshard;
		row->value = HeapTupleGetDatum(tuple);
	}
	rows->rows = list;
	return true;
}

/* For errors. */
typedef struct HandlerContext
{
	const HandlerDefinition *definition;
	const HandlerRow *first;
	const HandlerRow *last;
} HandlerContext;

static void
describe_call(void *arg)
{
	const HandlerContext *context = arg;
	const GroupKey *first = &context->first->key;
	const GroupKey *last = &context->last->key;

	if (context->first == context->last)
		errcontext("handler of group \"%s\", transaction (" UINT64_FORMAT ", %u) of vshard %u",
				   NameStr(context->definition->name), first->epoch, first->position,
				   (unsigned) first->vshard);
	else
		errcontext("handler of group \"%s\", %d transactions from (" UINT64_FORMAT ", %u) of vshard %u to (" UINT64_FORMAT ", %u) of vshard %u",
				   NameStr(context->definition->name),
				   (int) (context->last - context->first) + 1,
				   first->epoch, first->position, (unsigned) first->vshard,
				   last->epoch, last->position, (unsigned) last->vshard);
}

/* What is returned, or left behind, is of no use behind the call: "context" is for it. */
static void
call_for_one(FmgrInfo *flinfo, MemoryContext context, Datum argument)
{
	LOCAL_FCINFO(fcinfo, 1);
	PgStat_FunctionCallUsage usage;
	MemoryContext old = MemoryContextSwitchTo(context);

	SetCurrentStatementStartTimestamp();
	if (StatementTimeout > 0)
		enable_timeout_after(STATEMENT_TIMEOUT, StatementTimeout);
	PushActiveSnapshot(GetTransactionSnapshot());
	InitFunctionCallInfoData(*fcinfo, flinfo, 1, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = argument;
	fcinfo->args[0].isnull = false;
	pgstat_init_function_usage(fcinfo, &usage);
	(void) FunctionCallInvoke(fcinfo);
	pgstat_end_function_usage(&usage, true);
	PopActiveSnapshot();
	if (StatementTimeout > 0)
		disable_timeout(STATEMENT_TIMEOUT, false);
	/* one that came too late is for this call, not for the next one */
	CHECK_FOR_INTERRUPTS();
	CommandCounterIncrement();
	MemoryContextSwitchTo(old);
	MemoryContextReset(context);
}

static void
call_for_all(FmgrInfo *flinfo, MemoryContext context, const HandlerFunction *function,
			 const HandlerRows *rows)
{
	Datum	   *values = palloc(sizeof(Datum) * rows->n);

	for (int i = 0; i < rows->n; i++)
		values[i] = rows->rows[i].value;
	call_for_one(flinfo, context,
			  PointerGetDatum(construct_array(values, rows->n, function->txn_type, -1,
											  false, TYPALIGN_DOUBLE)));
}

bool
calling_be_role(Oid role)
{
	if (GetSessionUserId() != role)
		return false;
	if (GetUserId() != role)
		SetConfigOption("role", "none", PGC_USERSET, PGC_S_SESSION);
	return GetUserId() == role;
}

/* What one call has done to its role is not for the next one of its transaction. */
static void
be_role_again(Oid role)
{
	if (GetSessionUserId() != role)
		SetConfigOption("session_authorization", NULL, PGC_USERSET, PGC_S_SESSION);
	if (!calling_be_role(role))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
				 errmsg("the session is not that of the handler's role any more"),
				 errdetail("A call before has changed it.")));
}

static void
report_activity(const HandlerDefinition *definition)
{
	char	   *signature = handler_signature(definition);
	char	   *activity = psprintf("%s for group \"%s\"", signature,
									NameStr(definition->name));

	pgstat_report_activity(STATE_RUNNING, activity);
	pfree(activity);
	pfree(signature);
}

void
calling_prepare(const HandlerFunction *function, FmgrInfo *flinfo)
{
	InvokeFunctionExecuteHook(function->function);
	fmgr_info(function->function, flinfo);
}

void
calling_call(const HandlerDefinition *definition, const HandlerFunction *function,
			 FmgrInfo *flinfo, HandlerRows *rows)
{
	HandlerContext context = {definition, &rows->rows[0], &rows->rows[rows->n - 1]};
	ErrorContextCallback callback = {error_context_stack, describe_call, &context};
	MemoryContext each = AllocSetContextCreate(CurrentMemoryContext, "calvin_seq call",
											   ALLOCSET_DEFAULT_SIZES);

	rows->at = -1;
	report_activity(definition);
	error_context_stack = &callback;
	if (definition->takes_array)
		call_for_all(flinfo, each, function, rows);
	else
		for (int i = 0; i < rows->n; i++)
		{
			rows->at = i;
			context.first = context.last = &rows->rows[i];
			if (i > 0)
				be_role_again(definition->role);
			call_for_one(flinfo, each, rows->rows[i].value);
		}
	/* what fails from here on, at the commit, may be of any of them */
	rows->at = -1;
	MemoryContextDelete(each);
	error_context_stack = callback.previous;
	PAUSE_POINT("handler: called");
}
