/*
 * changes.c
 *	  seq_send_changes: the changes of any table, as submissions.
 *
 * The collection is the prefix and the row's key, so that what happens to one row
 * stays in order.  Where an UPDATE changes the key, it goes to both: to the one
 * that the row leaves, whose consumers would wait for more in vain, and to the one
 * it comes to.
 *
 * Key values are taken from the row's JSON, which says dates in one form whatever
 * the session's DateStyle.
 */
#include "compat.h"

#include "access/htup_details.h"
#include "commands/trigger.h"
#include "log/submission.h"
#include "sql/submit.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"

CALVIN_FUNCTION(seq_send_changes);

static void
report_misuse(const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
			 errmsg("seq_send_changes() must be called by an AFTER trigger FOR EACH ROW"),
			 errdetail("%s", detail),
			 errhint("CREATE TRIGGER ... AFTER INSERT OR UPDATE OR DELETE ON ... FOR EACH ROW EXECUTE FUNCTION seq_send_changes('prefix', 'key column', ...).")));
}

static void
check_trigger(FunctionCallInfo fcinfo)
{
	const TriggerData *data = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("seq_send_changes() was not called by its trigger")));
	if (!TRIGGER_FIRED_AFTER(data->tg_event))
		report_misuse("It was called before the change.");
	if (!TRIGGER_FIRED_FOR_ROW(data->tg_event))
		report_misuse("It was called for a statement.");
	if (data->tg_trigger->tgnargs < 2)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("seq_send_changes() needs a prefix and the columns of a key"),
				 errdetail_plural("Trigger \"%s\" has %d argument.",
								  "Trigger \"%s\" has %d arguments.",
								  data->tg_trigger->tgnargs,
								  data->tg_trigger->tgname,
								  data->tg_trigger->tgnargs),
				 errhint("For example seq_send_changes('orders', 'id').")));
}

static Jsonb *
row_json(HeapTuple tuple, TupleDesc desc)
{
	Datum		row = heap_copy_tuple_as_datum(tuple, desc);
	Datum		json = DirectFunctionCall1(row_to_json, row);

	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in,
											  CStringGetDatum(TextDatumGetCString(json))));
}

/* prefix/key/... of a row */
static char *
collection_of(const TriggerData *data, Jsonb *row)
{
	const Trigger *trigger = data->tg_trigger;
	StringInfoData name;

	initStringInfo(&name);
	appendStringInfoString(&name, trigger->tgargs[0]);
	for (int i = 1; i < trigger->tgnargs; i++)
	{
		const char *column = trigger->tgargs[i];
		JsonbValue	value;

		if (getKeyJsonValueFromContainer(&row->root, column, (int) strlen(column),
										 &value) == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("column \"%s\" of relation \"%s\" does not exist", column,
							RelationGetRelationName(data->tg_relation)),
					 errdetail("Trigger \"%s\" names it as part of the key.",
							   trigger->tgname)));
		appendStringInfoChar(&name, '/');
		if (value.type == jbvNull)
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("key column \"%s\" of relation \"%s\" is null", column,
							RelationGetRelationName(data->tg_relation)),
					 errdetail("Trigger \"%s\" sends changes by it.", trigger->tgname),
					 errhint("Name columns that are NOT NULL.")));
		if (value.type == jbvString)
			appendBinaryStringInfo(&name, value.val.string.val, value.val.string.len);
		else
		{
			Jsonb	   *json = JsonbValueToJsonb(&value);

			appendStringInfoString(&name, JsonbToCString(NULL, &json->root,
														 VARSIZE(json)));
		}
	}
	return name.data;
}

static void
append_member(StringInfo payload, const char *name, Jsonb *row)
{
	appendStringInfo(payload, ", \"%s\": ", name);
	if (row != NULL)
		(void) JsonbToCString(payload, &row->root, VARSIZE(row));
	else
		appendStringInfoString(payload, "null");
}

static void
send(const char *collection, StringInfo payload)
{
	(void) submit_document((char *) collection, strlen(collection), payload->data,
						   payload->len, false, 0);
}

/* seq_send_changes(prefix, key column, ...) as a trigger */
Datum
seq_send_changes(PG_FUNCTION_ARGS)
{
	const TriggerData *data = (TriggerData *) fcinfo->context;
	TupleDesc	desc;
	const char *op;
	HeapTuple	old_tuple = NULL;
	HeapTuple	new_tuple = NULL;
	Jsonb	   *old_row;
	Jsonb	   *new_row;
	char	   *old_collection;
	char	   *new_collection;
	StringInfoData payload;

	check_trigger(fcinfo);
	submission_begin("seq_send_changes()");
	if (TRIGGER_FIRED_BY_INSERT(data->tg_event))
	{
		op = "insert";
		new_tuple = data->tg_trigtuple;
	}
	else if (TRIGGER_FIRED_BY_DELETE(data->tg_event))
	{
		op = "delete";
		old_tuple = data->tg_trigtuple;
	}
	else
	{
		op = "update";
		old_tuple = data->tg_trigtuple;
		new_tuple = data->tg_newtuple;
	}

	desc = RelationGetDescr(data->tg_relation);
	old_row = old_tuple != NULL ? row_json(old_tuple, desc) : NULL;
	new_row = new_tuple != NULL ? row_json(new_tuple, desc) : NULL;

	initStringInfo(&payload);
	appendStringInfo(&payload, "{\"op\": \"%s\", \"table\": ", op);
	escape_json(&payload,
				quote_qualified_identifier(get_namespace_name(RelationGetNamespace(data->tg_relation)),
										   RelationGetRelationName(data->tg_relation)));
	append_member(&payload, "old", old_row);
	append_member(&payload, "new", new_row);
	appendStringInfoChar(&payload, '}');

	old_collection = old_row != NULL ? collection_of(data, old_row) : NULL;
	new_collection = new_row != NULL ? collection_of(data, new_row) : NULL;
	if (old_collection != NULL &&
		(new_collection == NULL || strcmp(old_collection, new_collection) != 0))
		send(old_collection, &payload);
	if (new_collection != NULL)
		send(new_collection, &payload);
	return PointerGetDatum(NULL);
}
