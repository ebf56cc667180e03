/*
 * submit.c
 *	  seq_send, seq_send_bytes, seq_submit and seq_submit_encoded: submissions to
 *	  be sequenced if this transaction commits.
 *
 * Their arguments may not be null: a function that does nothing then would lose
 * a message in silence.
 */
#include "compat.h"

#include "fmgr.h"
#include "log/attach.h"
#include "log/memory.h"
#include "log/report.h"
#include "log/submission.h"
#include "mb/pg_wchar.h"
#include "shared/admission.h"
#include "shared/database.h"
#include "sql/json_encode.h"
#include "sql/submit.h"
#include "utils/builtins.h"

CALVIN_FUNCTION(seq_send);
CALVIN_FUNCTION(seq_send_bytes);
CALVIN_FUNCTION(seq_submit);
CALVIN_FUNCTION(seq_submit_encoded);

/* More than a TxClass with one empty Document adds to its name and its plans. */
#define DOCUMENT_FRAME 64

static void
check_not_null(FunctionCallInfo fcinfo, int argument, const char *name)
{
	if (PG_ARGISNULL(argument))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null", name),
				 errdetail("Nothing was submitted."),
				 strcmp(name, "payload") == 0 ?
				 errhint("A payload can be JSON's null, or empty.") : 0));
}

static uint64
get_tenant(FunctionCallInfo fcinfo, int argument)
{
	int64		tenant_id;

	check_not_null(fcinfo, argument, "tenant_id");
	tenant_id = PG_GETARG_INT64(argument);
	if (tenant_id < 0)
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("tenant_id " INT64_FORMAT " is negative", tenant_id),
				 errdetail("Tenants are numbered from 0.")));
	return (uint64) tenant_id;
}

/* What the log holds of text is UTF-8. */
static char *
to_utf8(char *text, Size *len)
{
	char	   *utf8 = pg_server_to_any(text, (int) *len, PG_UTF8);

	if (utf8 != text)
		*len = strlen(utf8);
	return utf8;
}

int64
submit_document(char *collection, Size collection_len, char *payload,
				Size payload_len, bool is_bytes, uint64 tenant_id)
{
	WireTxClassFigures figures = {0};
	WireBuffer	tx_class;
	int64		number;

	collection = to_utf8(collection, &collection_len);
	if (!is_bytes)
		payload = to_utf8(payload, &payload_len);

	/* all is known without looking at it once more */
	figures.participants = 1;
	figures.plans_bytes = payload_len;
	figures.tenant_id = tenant_id;
	admission_check(&figures, (uint64) collection_len + payload_len + DOCUMENT_FRAME);

	wire_buffer_init(&tx_class, memory_realloc, NULL);
	wire_put_document_write(&tx_class, collection, collection_len, payload,
							payload_len, tenant_id);
	number = submission_add(tx_class.data, tx_class.len, payload_len, tenant_id);
	wire_buffer_free(&tx_class);
	return number;
}

/* seq_send(collection text, payload jsonb, tenant_id bigint) -> bigint */
Datum
seq_send(PG_FUNCTION_ARGS)
{
	text	   *collection;
	Jsonb	   *payload;
	uint64		tenant_id;
	StringInfoData json;

	submission_begin("seq_send()");
	check_not_null(fcinfo, 0, "collection");
	check_not_null(fcinfo, 1, "payload");
	collection = PG_GETARG_TEXT_PP(0);
	payload = PG_GETARG_JSONB_P(1);
	tenant_id = get_tenant(fcinfo, 2);

	initStringInfo(&json);
	(void) JsonbToCString(&json, &payload->root, VARSIZE(payload));
	PG_RETURN_INT64(submit_document(VARDATA_ANY(collection),
									VARSIZE_ANY_EXHDR(collection),
									json.data, json.len, false, tenant_id));
}

/* seq_send_bytes(collection text, payload bytea, tenant_id bigint) -> bigint */
Datum
seq_send_bytes(PG_FUNCTION_ARGS)
{
	text	   *collection;
	bytea	   *payload;
	uint64		tenant_id;

	submission_begin("seq_send_bytes()");
	check_not_null(fcinfo, 0, "collection");
	check_not_null(fcinfo, 1, "payload");
	collection = PG_GETARG_TEXT_PP(0);
	payload = PG_GETARG_BYTEA_PP(1);
	tenant_id = get_tenant(fcinfo, 2);

	PG_RETURN_INT64(submit_document(VARDATA_ANY(collection),
									VARSIZE_ANY_EXHDR(collection),
									VARDATA_ANY(payload),
									VARSIZE_ANY_EXHDR(payload), true, tenant_id));
}

/* One that the caller has made: in whatever form. */
static int64
submit_tx_class(const uint8 *data, Size size)
{
	WireTxClassFigures figures;
	WireBuffer	canonical;
	WireError	error;
	bool		is_canonical;
	int64		number;

	wire_buffer_init(&canonical, memory_realloc, NULL);
	if (!wire_examine_tx_class(data, size, &figures, &is_canonical, &error) ||
		!is_canonical)
	{
		if (!wire_canonicalise_tx_class(data, size, &canonical, &error))
			wire_report_tx_class(&error);
		data = canonical.data;
		size = canonical.len;
		if (!wire_examine_tx_class(data, size, &figures, &is_canonical, &error))
			wire_report_tx_class(&error);
	}
	admission_check(&figures, size);
	number = submission_add(data, size, figures.plans_bytes, figures.tenant_id);
	wire_buffer_free(&canonical);
	return number;
}

/* seq_submit(tx_class jsonb) -> bigint */
Datum
seq_submit(PG_FUNCTION_ARGS)
{
	bytea	   *tx_class;

	submission_begin("seq_submit()");
	check_not_null(fcinfo, 0, "tx_class");
	tx_class = json_encode_tx_class(PG_GETARG_JSONB_P(0));
	PG_RETURN_INT64(submit_tx_class((const uint8 *) VARDATA_ANY(tx_class),
									VARSIZE_ANY_EXHDR(tx_class)));
}

/* seq_submit_encoded(tx_class bytea) -> bigint */
Datum
seq_submit_encoded(PG_FUNCTION_ARGS)
{
	bytea	   *tx_class;

	submission_begin("seq_submit_encoded()");
	check_not_null(fcinfo, 0, "tx_class");
	tx_class = PG_GETARG_BYTEA_PP(0);
	PG_RETURN_INT64(submit_tx_class((const uint8 *) VARDATA_ANY(tx_class),
									VARSIZE_ANY_EXHDR(tx_class)));
}
