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
#include "sql/json_decode.h"
#include "sql/names.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "wire/reader.h"
#include "wire/schema.h"

CALVIN_FUNCTION(seq_collections);
CALVIN_FUNCTION(seq_collection);
CALVIN_FUNCTION(seq_json);
CALVIN_FUNCTION(seq_decode_tx_class);

/* A walk over the write set of a TxClass that the strict reader has accepted. */
typedef struct WriteSet
{
	WireReader	reader;
	NameDecoder names;
	uint32		left;
} WriteSet;

static void
check_read(WriteSet *set, bool ok)
{
	if (!ok)
		wire_report_tx_class(&set->reader.error);
}

/* Step over surrogates, keys or edges. */
static void
skip_elements(WriteSet *set, WireSetKind kind, const WireSetFields *fields)
{
	WireReader *r = &set->reader;
	uint32		count = 0;
	uint32		inner;
	uint64		value;

	check_read(set, wire_read_array(r, &count, fields->surrogates));
	for (; count > 0; count--)
	{
		wire_reader_yield(r, r->pos);
		inner = 1;
		if (kind == WIRE_SET_KV || kind == WIRE_SET_EDGE)
			check_read(set, wire_read_array(r, &inner, fields->keys));
		for (; inner > 0; inner--)
			check_read(set, wire_read_uint(r, kind == WIRE_SET_KV ? UINT8_MAX :
										   PG_UINT32_MAX, &value, fields->keys));
	}
}

static WireSlice
read_key_set(WriteSet *set, const WireSetFields *fields)
{
	WireReader *r = &set->reader;
	WireSlice	tag = {NULL, 0};
	WireSlice	name = {NULL, 0};

	check_read(set, wire_read_tuple(r, 2, fields->set) &&
			   wire_read_str(r, &tag, fields->variant) &&
			   wire_read_tuple(r, 2, fields->payload) &&
			   wire_read_str(r, &name, fields->collection));
	skip_elements(set, wire_set_kind(tag.data, tag.len), fields);
	return name;
}

static void
open_write_set(WriteSet *set, bytea *tx_class)
{
	const uint8 *data = (const uint8 *) VARDATA_ANY(tx_class);
	Size		size = VARSIZE_ANY_EXHDR(tx_class);
	WireTxClassFigures figures;
	WireError	error;
	bool		canonical;
	uint32		reads = 0;

	if (!wire_examine_tx_class(data, size, &figures, &canonical, &error))
		wire_report_tx_class(&error);
	name_decoder_init(&set->names, "TxClass");
	wire_reader_init(&set->reader, data, size, WIRE_STRICT);
	check_read(set, wire_read_tuple(&set->reader, 5, WIRE_F_TX_CLASS) &&
			   wire_read_array(&set->reader, &reads, wire_read_set_fields.sets));
	for (; reads > 0; reads--)
		(void) read_key_set(set, &wire_read_set_fields);
	check_read(set, wire_read_array(&set->reader, &set->left, wire_write_set_fields.sets));
}

static bool
next_collection(WriteSet *set, WireSlice *name)
{
	if (set->left == 0)
		return false;
	set->left--;
	*name = read_key_set(set, &wire_write_set_fields);
	return true;
}

static text *
collection_text(WriteSet *set, WireSlice name)
{
	Size		len;
	char	   *decoded = name_decode(&set->names, name,
									  (uint32) (name.data - set->reader.start), &len);

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
	if (set.left == 0)
		PG_RETURN_ARRAYTYPE_P(construct_empty_array(TEXTOID));
	names = MemoryContextAllocHuge(CurrentMemoryContext,
								   mul_size(set.left, sizeof(WireSlice)));
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

/* seq_json(plans bytea) -> jsonb */
Datum
seq_json(PG_FUNCTION_ARGS)
{
	bytea	   *plans = PG_GETARG_BYTEA_PP(0);
	Size		len = VARSIZE_ANY_EXHDR(plans);
	char	   *json = text_to_cstring((text *) plans);

	if (!wire_utf8_valid((const uint8 *) json, len))
		ereport(ERROR,
				(errcode(ERRCODE_CHARACTER_NOT_IN_REPERTOIRE),
				 errmsg("plans are not JSON"),
				 errdetail("They are not valid UTF-8."),
				 errhint("What seq_send_bytes was given is in \"plans\" as it was.")));
	/* jsonb_in() would take what stands before it for all */
	if (strlen(json) != len)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
				 errmsg("plans are not JSON"),
				 errdetail("There is a zero byte at byte %zu.", strlen(json)),
				 errhint("What seq_send_bytes was given is in \"plans\" as it was.")));
	PG_RETURN_DATUM(DirectFunctionCall1(jsonb_in,
										CStringGetDatum(pg_any_to_server(json, (int) len, PG_UTF8))));
}

/* seq_decode_tx_class(tx_class bytea) -> jsonb */
Datum
seq_decode_tx_class(PG_FUNCTION_ARGS)
{
	bytea	   *tx_class = PG_GETARG_BYTEA_PP(0);

	PG_RETURN_JSONB_P(json_decode_tx_class((const uint8 *) VARDATA_ANY(tx_class),
										   VARSIZE_ANY_EXHDR(tx_class)));
}
