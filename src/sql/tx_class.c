/*
 * tx_class.c
 *	  seq_collections, seq_collection, seq_json and seq_decode_tx_class: what a
 *	  consumer wants of a row.
 *
 * None of them needs the library to be preloaded.
 */
#include "compat.h"

#include "catalog/pg_type_d.h"
#include "fmgr.h"
#include "log/report.h"
#include "mb/pg_wchar.h"
#include "sql/json.h"
#include "sql/json_decode.h"
#include "sql/names.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "wire/write_set.h"

CALVIN_FUNCTION(seq_collections);
CALVIN_FUNCTION(seq_collection);
CALVIN_FUNCTION(seq_json);
CALVIN_FUNCTION(seq_decode_tx_class);

/* The write set of a TxClass that the strict reader has accepted. */
typedef struct WriteSet
{
	WireWriteSet walk;
	NameDecoder names;
} WriteSet;

static void
open_write_set(WriteSet *set, bytea *tx_class)
{
	WireSlice	slice = {(const uint8 *) VARDATA_ANY(tx_class),
						 (uint32) VARSIZE_ANY_EXHDR(tx_class)};
	WireTxClassFigures figures;
	WireError	error;
	bool		canonical;

	if (!wire_examine_tx_class(slice.data, slice.len, &figures, &canonical, &error))
		wire_report_tx_class(&error);
	name_decoder_init(&set->names, "TxClass");
	wire_write_set_begin(&set->walk, slice);
}

static bool
next_collection(WriteSet *set, WireSlice *name)
{
	if (wire_write_set_next(&set->walk, name))
		return true;
	if (set->walk.reader.error.status != WIRE_OK)
		wire_report_tx_class(&set->walk.reader.error);
	return false;
}

static text *
collection_text(WriteSet *set, WireSlice name)
{
	Size		len;
	char	   *decoded = name_decode(&set->names, name,
									  (uint32) (name.data - set->walk.reader.start), &len);

	return cstring_to_text_with_len(decoded, (int) len);
}

/* By name, then by where it stands: of equal ones the first is the first. */
static int
compare_names(const void *a, const void *b)
{
	const WireSlice *x = a;
	const WireSlice *y = b;
	int			order;

	CHECK_FOR_INTERRUPTS();
	order = memcmp(x->data, y->data, Min(x->len, y->len));
	if (order != 0)
		return order;
	if (x->len != y->len)
		return x->len < y->len ? -1 : 1;
	return (x->data > y->data) - (x->data < y->data);
}

static int
compare_places(const void *a, const void *b)
{
	const WireSlice *x = a;
	const WireSlice *y = b;

	CHECK_FOR_INTERRUPTS();
	return (x->data > y->data) - (x->data < y->data);
}

/* seq_collections(tx_class bytea) -> text[]: in the write set's order, each once */
Datum
seq_collections(PG_FUNCTION_ARGS)
{
	WriteSet	set;
	WireSlice  *names;
	Datum	   *texts;
	uint32		n = 0;
	uint32		distinct = 0;

	open_write_set(&set, PG_GETARG_BYTEA_PP(0));
	if (set.walk.left == 0)
		PG_RETURN_ARRAYTYPE_P(construct_empty_array(TEXTOID));
	names = MemoryContextAllocHuge(CurrentMemoryContext,
								   mul_size(set.walk.left, sizeof(WireSlice)));
	while (next_collection(&set, &names[n]))
		n++;
	qsort(names, n, sizeof(WireSlice), compare_names);
	for (uint32 i = 0; i < n; i++)
	{
		if (i == 0 || names[i].len != names[distinct - 1].len ||
			memcmp(names[i].data, names[distinct - 1].data, names[i].len) != 0)
			names[distinct++] = names[i];
	}
	qsort(names, distinct, sizeof(WireSlice), compare_places);

	texts = MemoryContextAllocHuge(CurrentMemoryContext,
								   mul_size(distinct, sizeof(Datum)));
	for (uint32 i = 0; i < distinct; i++)
	{
		CHECK_FOR_INTERRUPTS();
		texts[i] = PointerGetDatum(collection_text(&set, names[i]));
	}
	PG_RETURN_ARRAYTYPE_P(construct_array(texts, (int) distinct, TEXTOID, -1, false,
										  TYPALIGN_INT));
}

/* seq_collection(tx_class bytea) -> text: the first one, null if nothing is written */
Datum
seq_collection(PG_FUNCTION_ARGS)
{
	WriteSet	set;
	WireSlice	name;

	open_write_set(&set, PG_GETARG_BYTEA_PP(0));
	if (!next_collection(&set, &name))
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(collection_text(&set, name));
}

Datum
json_of_plans(WireSlice plans)
{
	char	   *json = pnstrdup((const char *) plans.data, plans.len);

	if (!wire_utf8_valid(plans.data, plans.len))
		ereport(ERROR,
				(errcode(ERRCODE_CHARACTER_NOT_IN_REPERTOIRE),
				 errmsg("plans are not JSON"),
				 errdetail("They are not valid UTF-8."),
				 errhint("What seq_send_bytes was given is in \"plans\" as it was.")));
	/* jsonb_in() would take what stands before it for all */
	if (strlen(json) != plans.len)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
				 errmsg("plans are not JSON"),
				 errdetail("There is a zero byte at byte %zu.", strlen(json)),
				 errhint("What seq_send_bytes was given is in \"plans\" as it was.")));
	return DirectFunctionCall1(jsonb_in,
							   CStringGetDatum(pg_any_to_server(json, (int) plans.len,
																PG_UTF8)));
}

/* seq_json(plans bytea) -> jsonb */
Datum
seq_json(PG_FUNCTION_ARGS)
{
	bytea	   *plans = PG_GETARG_BYTEA_PP(0);

	PG_RETURN_DATUM(json_of_plans((WireSlice){(const uint8 *) VARDATA_ANY(plans),
											  (uint32) VARSIZE_ANY_EXHDR(plans)}));
}

/* seq_decode_tx_class(tx_class bytea) -> jsonb */
Datum
seq_decode_tx_class(PG_FUNCTION_ARGS)
{
	bytea	   *tx_class = PG_GETARG_BYTEA_PP(0);

	PG_RETURN_JSONB_P(json_decode_tx_class((const uint8 *) VARDATA_ANY(tx_class),
										   VARSIZE_ANY_EXHDR(tx_class)));
}
