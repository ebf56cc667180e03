/*
 * fetch.c
 *	  seq_fetch and seq_fetch_json: what is next for a group, as rows.
 */
#include "compat.h"

#include "catalog/pg_type_d.h"
#include "consumer/fetch.h"
#include "consumer/holding.h"
#include "consumer/left_out.h"
#include "log/rows.h"
#include "miscadmin.h"
#include "sql/args.h"
#include "sql/json.h"
#include "sql/names.h"
#include "sql/result.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/tuplestore.h"

CALVIN_FUNCTION(seq_fetch);
CALVIN_FUNCTION(seq_fetch_json);

/* (vshard, epoch, position, at, collection, tenant_id, payload) */
#define JSON_COLUMNS 7

static Fetch *
begin_fetching(FunctionCallInfo fcinfo, const char *function, FetchGroup **group)
{
	FetchRequest request = {0};

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(2))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("name, max_txns and timeout must not be null")));
	request.max_txns = PG_GETARG_INT32(1);
	if (request.max_txns < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_txns must not be negative")));
	request.deadline = arg_deadline(PG_GETARG_INTERVAL_P(2));
	request.partition = -1;
	fetch_refuse(function);
	holding_check(true);
	request.group = *group = group_require(arg_name(PG_GETARG_TEXT_PP(0), "group"));
	return fetch_begin(&request);
}

static Datum
end_fetching(FunctionCallInfo fcinfo, Fetch *fetch, const FetchGroup *group)
{
	if (fetch_gave(fetch))
		holding_note(NameStr(group->name), true);
	fetch_end(fetch);
	left_out_note(fcinfo);
	return (Datum) 0;
}

/* seq_fetch(name, max_txns, timeout) */
Datum
seq_fetch(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = result_rows(fcinfo, ROW_COLUMNS, row_types);
	FetchGroup *group;
	Fetch	   *fetch;
	Delivery	delivery;
	RowMaker	maker;
	int			partition;

	fetch = begin_fetching(fcinfo, "seq_fetch()", &group);
	row_maker_init(&maker);
	while (fetch_next(fetch, &delivery, &partition))
	{
		row_make(&maker, &delivery);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, maker.values,
							 maker.nulls);
		CHECK_FOR_INTERRUPTS();
	}
	return end_fetching(fcinfo, fetch, group);
}

/* The transaction that a row is made of, for errors. */
typedef struct RowContext
{
	const FetchGroup *group;
	const Delivery *delivery;
} RowContext;

static void
describe_row(void *arg)
{
	const RowContext *context = arg;
	const Delivery *delivery = context->delivery;

	errcontext("transaction (" UINT64_FORMAT ", %u) of vshard %u, which seq_park('%s', %u, " UINT64_FORMAT ", %u, ...) sets aside",
			   delivery->epoch, delivery->position, (unsigned) delivery->vshard,
			   NameStr(context->group->name), (unsigned) delivery->vshard,
			   delivery->epoch, delivery->position);
}

/* The collection that it is for: the first one that it writes in the vshard. */
static void
put_collection(const FetchGroup *group, const Delivery *delivery,
			   const NameDecoder *names, Datum *value, bool *isnull)
{
	WireSlice	name;
	Size		len;
	char	   *decoded;

	*isnull = !group_collection(group, delivery->tx_class, delivery->vshard, &name);
	if (*isnull)
		return;
	decoded = name_decode(names, name,
						  (uint32) (name.data - delivery->tx_class.data), &len);
	*value = PointerGetDatum(cstring_to_text_with_len(decoded, (int) len));
}

static void
make_json_row(const FetchGroup *group, const Delivery *delivery,
			  const NameDecoder *names, Datum *values, bool *nulls)
{
	memset(nulls, 0, sizeof(bool) * JSON_COLUMNS);
	values[0] = Int32GetDatum(delivery->vshard);
	values[1] = Int64GetDatum((int64) delivery->epoch);
	values[2] = Int32GetDatum((int32) delivery->position);
	values[3] = arg_timestamp_of_ms(delivery->epoch_system_ms, &nulls[3]);
	put_collection(group, delivery, names, &values[4], &nulls[4]);
	values[5] = Int64GetDatum((int64) delivery->tenant_id);
	values[6] = json_of_plans(delivery->plans);
}

/* seq_fetch_json(name, max_txns, timeout) */
Datum
seq_fetch_json(PG_FUNCTION_ARGS)
{
	static const Oid types[JSON_COLUMNS] = {
		INT4OID, INT8OID, INT4OID, TIMESTAMPTZOID, TEXTOID, INT8OID, JSONBOID
	};
	ReturnSetInfo *rsinfo = result_rows(fcinfo, JSON_COLUMNS, types);
	RowContext	context;
	ErrorContextCallback callback = {error_context_stack, describe_row, &context};
	NameDecoder names;
	Fetch	   *fetch;
	FetchGroup *group;
	Delivery	delivery;
	MemoryContext row_context;
	int			partition;

	fetch = begin_fetching(fcinfo, "seq_fetch_json()", &group);
	name_decoder_init(&names, "TxClass");
	context.group = group;
	context.delivery = &delivery;
	row_context = AllocSetContextCreate(CurrentMemoryContext, "seq_fetch_json row",
										ALLOCSET_DEFAULT_SIZES);
	while (fetch_next(fetch, &delivery, &partition))
	{
		MemoryContext old = MemoryContextSwitchTo(row_context);
		Datum		values[JSON_COLUMNS];
		bool		nulls[JSON_COLUMNS];

		error_context_stack = &callback;
		make_json_row(group, &delivery, &names, values, nulls);
		error_context_stack = callback.previous;
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
		MemoryContextSwitchTo(old);
		MemoryContextReset(row_context);
		CHECK_FOR_INTERRUPTS();
	}
	return end_fetching(fcinfo, fetch, group);
}
