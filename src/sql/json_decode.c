/*
 * json_decode.c
 *	  The bytes of an entry, to JSON that a person can read.
 *
 * The strict reader decides whether the bytes are an entry; after that they
 * are read once more, value by value.  A TxClass is shown in its canonical
 * form, which is what it means.
 *
 * jsonb is built from a tree in memory that is many times larger than the
 * entry.  So the size of the result is counted from below on the way, and
 * what cannot become a jsonb is refused before its tree takes the memory.
 */
#include "compat.h"

#include "log/memory.h"
#include "log/report.h"
#include "sql/json_decode.h"
#include "sql/names.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "wire/reader.h"
#include "wire/schema.h"

/* What jsonb's lengths and offsets can tell. */
#define MAX_JSONB_BYTES JENTRY_OFFLENMASK

/* Arrays grow by doubling, and their last size must be one that palloc gives. */
#define MAX_JSONB_ELEMENTS ((uint32) 1 << 24)

StaticAssertDecl((Size) MAX_JSONB_ELEMENTS * sizeof(JsonbValue) <= MaxAllocSize,
				 "an array of jsonb values must not exceed what palloc gives");

/* The least that a value adds: its JEntry, and what that stands for. */
#define LEAST_CONTAINER (sizeof(JEntry) + sizeof(uint32))
#define LEAST_NUMBER (sizeof(JEntry) + VARHDRSZ + sizeof(uint16))
#define LEAST_STRING(len) (sizeof(JEntry) + (Size) (len))

/* Staging for the strict reader: it hands out any number, one by one. */
#define STAGED_TXNS 16

typedef struct Decoder
{
	WireReader	reader;
	JsonbParseState *state;
	JsonbValue *result; /* of the last container that was finished */
	Size		least; /* bytes that the jsonb will have at least */
	bool		checking; /* read only: for errors about names, */
	bool		superseded; /* but not these: they are not shown */
	NameDecoder names;
} Decoder;

/*
 * Writing
 */

static void
refuse_size(const Decoder *d)
{
	ereport(ERROR,
			(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
			 errmsg("%s is too large for jsonb", d->names.what),
			 errdetail("A jsonb has at most %d bytes, and the arrays in it at most %u elements.",
					   MAX_JSONB_BYTES, MAX_JSONB_ELEMENTS)));
}

static void
count_bytes(Decoder *d, Size bytes)
{
	d->least += bytes;
	if (d->least > MAX_JSONB_BYTES)
		refuse_size(d);
}

static void
push(Decoder *d, JsonbIteratorToken token, JsonbValue *value)
{
	if (!d->checking)
		d->result = pushJsonbValue(&d->state, token, value);
}

static void
begin_object(Decoder *d)
{
	if (!d->checking)
		count_bytes(d, LEAST_CONTAINER);
	push(d, WJB_BEGIN_OBJECT, NULL);
}

static void
end_object(Decoder *d)
{
	push(d, WJB_END_OBJECT, NULL);
}

static void
begin_array(Decoder *d, uint32 count)
{
	if (!d->checking)
		count_bytes(d, LEAST_CONTAINER);
	if (!d->checking && count > MAX_JSONB_ELEMENTS)
		refuse_size(d);
	push(d, WJB_BEGIN_ARRAY, NULL);
}

static void
end_array(Decoder *d)
{
	push(d, WJB_END_ARRAY, NULL);
}

/* "string" must stay in place. */
static void
put_string(Decoder *d, JsonbIteratorToken token, const char *string, Size len)
{
	JsonbValue	value;

	if (d->checking)
		return;
	count_bytes(d, LEAST_STRING(len));
	value.type = jbvString;
	value.val.string.val = (char *) string;
	value.val.string.len = (int) len;
	push(d, token, &value);
}

static void
put_key(Decoder *d, const char *name)
{
	put_string(d, WJB_KEY, name, strlen(name));
}

static void
put_number(Decoder *d, JsonbIteratorToken token, int64 number)
{
	JsonbValue	value;

	CHECK_FOR_INTERRUPTS();
	if (d->checking)
		return;
	count_bytes(d, LEAST_NUMBER);
	value.type = jbvNumeric;
	value.val.numeric = int64_to_numeric(number);
	push(d, token, &value);
}

/*
 * Reading.  The strict reader has accepted the bytes: a failure here means
 * that they changed since.
 */

static void
check_read(Decoder *d, bool ok)
{
	if (!ok)
		wire_report(&d->reader.error);
}

static uint64
get_uint(Decoder *d, uint64 most, const char *field)
{
	uint64		value = 0;

	check_read(d, wire_read_uint(&d->reader, most, &value, field));
	return value;
}

static int64
get_int(Decoder *d, const char *field)
{
	int64		value = 0;

	check_read(d, wire_read_int(&d->reader, &value, field));
	return value;
}

static WireSlice
get_str(Decoder *d, const char *field)
{
	WireSlice	value = {NULL, 0};

	check_read(d, wire_read_str(&d->reader, &value, field));
	return value;
}

static uint32
get_array(Decoder *d, const char *field)
{
	uint32		count = 0;

	check_read(d, wire_read_array(&d->reader, &count, field));
	return count;
}

static void
get_tuple(Decoder *d, uint32 count, const char *field)
{
	check_read(d, wire_read_tuple(&d->reader, count, field));
}

static void
put_name(Decoder *d, const char *field)
{
	WireSlice	name = get_str(d, field);
	Size		len;
	char	   *text;

	if (d->superseded)
		return;
	text = name_decode(&d->names, name, (uint32) (name.data - d->reader.start), &len);
	if (len > MAX_JSONB_BYTES)
		refuse_size(d);
	put_string(d, WJB_VALUE, text, len);
}

/*
 * The schema
 */

/* Bytes, as a string in bytea's hex format. */
static void
put_plans(Decoder *d)
{
	WireSlice	plans = {NULL, 0};
	char	   *text;

	check_read(d, wire_read_bin(&d->reader, &plans, WIRE_F_PLANS));
	if (d->checking)
		return;
	if (plans.len > MAX_JSONB_BYTES / 2)
		refuse_size(d);
	text = palloc(2 + 2 * (Size) plans.len);
	memcpy(text, "\\x", 2);
	hex_encode((const char *) plans.data, plans.len, text + 2);
	put_string(d, WJB_VALUE, text, 2 + 2 * (Size) plans.len);
}

/* The same for a Kv key, which is an array of integers. */
static void
put_kv_key(Decoder *d, const char *field)
{
	uint32		count = get_array(d, field);
	char	   *text = NULL;

	if (!d->checking)
	{
		if (count > MAX_JSONB_BYTES / 2)
			refuse_size(d);
		text = palloc(2 + 2 * (Size) count);
		memcpy(text, "\\x", 2);
	}
	for (uint32 i = 0; i < count; i++)
	{
		char		byte = (char) get_uint(d, UINT8_MAX, field);

		CHECK_FOR_INTERRUPTS();
		if (text != NULL)
			hex_encode(&byte, 1, text + 2 + 2 * (Size) i);
	}
	put_string(d, WJB_ELEM, text, 2 + 2 * (Size) count);
}

static void
put_key_set(Decoder *d, const WireSetFields *fields)
{
	WireSlice	tag;
	uint32		count;

	get_tuple(d, 2, fields->set);
	tag = get_str(d, fields->variant);
	get_tuple(d, 2, fields->payload);

	begin_object(d);
	put_string(d, WJB_KEY, (const char *) tag.data, tag.len);
	begin_object(d);
	put_key(d, "collection");
	put_name(d, fields->collection);
	switch (wire_set_kind(tag.data, tag.len))
	{
		case WIRE_SET_KV:
			put_key(d, "keys");
			count = get_array(d, fields->keys);
			begin_array(d, count);
			for (uint32 i = 0; i < count; i++)
				put_kv_key(d, fields->keys);
			break;
		case WIRE_SET_EDGE:
			put_key(d, "edges");
			count = get_array(d, fields->edges);
			begin_array(d, count);
			for (uint32 i = 0; i < count; i++)
			{
				get_tuple(d, 2, fields->edges);
				begin_array(d, 2);
				for (int end = 0; end < 2; end++)
					put_number(d, WJB_ELEM,
							   (int64) get_uint(d, PG_UINT32_MAX, fields->edges));
				end_array(d);
			}
			break;
		default:
			put_key(d, "surrogates");
			count = get_array(d, fields->surrogates);
			begin_array(d, count);
			for (uint32 i = 0; i < count; i++)
				put_number(d, WJB_ELEM,
						   (int64) get_uint(d, PG_UINT32_MAX, fields->surrogates));
			break;
	}
	end_array(d);
	end_object(d);
	end_object(d);
}

static void
put_key_sets(Decoder *d, const WireSetFields *fields)
{
	uint32		count = get_array(d, fields->sets);

	begin_array(d, count);
	for (uint32 i = 0; i < count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		put_key_set(d, fields);
	}
	end_array(d);
}

/*
 * The pairs of the map, whose keys may be repeated: the last one is what it means.
 * shown[] has for each vshard which pair that is; the reader stands before the first.
 */
static void
find_shown(Decoder *d, uint32 pairs, uint32 *shown)
{
	WireReader	before = d->reader;

	d->superseded = true;
	for (uint32 i = 0; i < pairs; i++)
	{
		uint64		vshard = get_uint(d, WIRE_VSHARDS - 1, WIRE_F_DEPENDENT_VSHARD);
		uint32		count = get_array(d, WIRE_F_DEPENDENT_KEYS);

		CHECK_FOR_INTERRUPTS();
		shown[vshard] = i;
		for (uint32 j = 0; j < count; j++)
		{
			CHECK_FOR_INTERRUPTS();
			get_tuple(d, 1, WIRE_F_DEPENDENT_KEYS);
			put_key_set(d, &wire_dependent_fields);
		}
	}
	d->superseded = false;
	d->reader = before;
}

static void
put_dependent_reads(Decoder *d)
{
	JsonbValue	null;
	uint32		pairs = 0;
	uint32		shown[WIRE_VSHARDS];

	if (wire_skip_nil(&d->reader))
	{
		null.type = jbvNull;
		push(d, WJB_VALUE, &null);
		return;
	}
	get_tuple(d, 1, WIRE_F_DEPENDENT);
	check_read(d, wire_read_map(&d->reader, &pairs, WIRE_F_DEPENDENT));
	/* what is not only checked is canonical, and repeats nothing */
	if (d->checking)
		find_shown(d, pairs, shown);
	begin_object(d);
	for (uint32 i = 0; i < pairs; i++)
	{
		uint64		vshard = get_uint(d, WIRE_VSHARDS - 1,
									  WIRE_F_DEPENDENT_VSHARD);
		uint32		count = get_array(d, WIRE_F_DEPENDENT_KEYS);

		CHECK_FOR_INTERRUPTS();
		d->superseded = d->checking && shown[vshard] != i;
		if (!d->checking)
			put_key(d, psprintf("%u", (unsigned) vshard));
		begin_array(d, count);
		for (uint32 j = 0; j < count; j++)
		{
			CHECK_FOR_INTERRUPTS();
			get_tuple(d, 1, WIRE_F_DEPENDENT_KEYS);
			put_key_set(d, &wire_dependent_fields);
		}
		end_array(d);
	}
	d->superseded = false;
	end_object(d);
}

static void
put_tx_class(Decoder *d)
{
	get_tuple(d, 5, WIRE_F_TX_CLASS);
	begin_object(d);
	put_key(d, "read_set");
	put_key_sets(d, &wire_read_set_fields);
	put_key(d, "write_set");
	put_key_sets(d, &wire_write_set_fields);
	put_key(d, "plans");
	put_plans(d);
	put_key(d, "tenant_id");
	put_number(d, WJB_VALUE, (int64) get_uint(d, WIRE_MAX_TENANT, WIRE_F_TENANT));
	put_key(d, "dependent_reads");
	put_dependent_reads(d);
	end_object(d);
}

/*
 * A TxClass in another form than the canonical one is read where it stands for
 * what is wrong with its names, so that offsets are those of the entry, then
 * from a copy.
 */
static void
put_any_tx_class(Decoder *d, const WireTxn *txn)
{
	WireReader	after;
	WireBuffer	copy;
	WireSlice	canonical;
	uint32		plans_offset;

	if (txn->canonical)
	{
		put_tx_class(d);
		return;
	}
	d->checking = true;
	put_tx_class(d);
	d->checking = false;
	after = d->reader;

	/* not freed: names in the result point into it */
	wire_buffer_init(&copy, memory_realloc, NULL);
	canonical = memory_deliverable(txn, &copy, &plans_offset);
	wire_reader_init(&d->reader, canonical.data, canonical.len, WIRE_STRICT);
	put_tx_class(d);
	d->reader = after;
}

static void
put_txn(Decoder *d, const WireTxn *txn)
{
	get_tuple(d, 4, WIRE_F_TXN);
	begin_object(d);
	put_key(d, "epoch");
	put_number(d, WJB_VALUE, (int64) get_uint(d, WIRE_MAX_EPOCH, WIRE_F_TXN_EPOCH));
	put_key(d, "position");
	put_number(d, WJB_VALUE,
			   (int64) get_uint(d, PG_UINT32_MAX, WIRE_F_TXN_POSITION));
	put_key(d, "tx_class");
	put_any_tx_class(d, txn);
	put_key(d, "epoch_system_ms");
	put_number(d, WJB_VALUE, get_int(d, WIRE_F_TXN_MS));
	end_object(d);
}

static void
put_batch(Decoder *d, WireDecoder *wire)
{
	WireTxn		txn;

	get_tuple(d, 1, WIRE_F_PAYLOAD);
	get_tuple(d, 3, WIRE_F_BATCH);
	begin_object(d);
	put_key(d, "epoch");
	put_number(d, WJB_VALUE, (int64) get_uint(d, WIRE_MAX_EPOCH, WIRE_F_EPOCH));
	put_key(d, "txns");
	begin_array(d, get_array(d, WIRE_F_TXNS));
	while (wire_next_txn(wire, &txn))
	{
		CHECK_FOR_INTERRUPTS();
		put_txn(d, &txn);
	}
	end_array(d);
	put_key(d, "epoch_system_ms");
	put_number(d, WJB_VALUE, get_int(d, WIRE_F_BATCH_MS));
	end_object(d);
}

static void
put_ack(Decoder *d)
{
	get_tuple(d, 3, WIRE_F_PAYLOAD);
	begin_object(d);
	put_key(d, "epoch");
	put_number(d, WJB_VALUE, (int64) get_uint(d, WIRE_MAX_EPOCH, WIRE_F_EPOCH));
	put_key(d, "position");
	put_number(d, WJB_VALUE, (int64) get_uint(d, PG_UINT32_MAX, WIRE_F_POSITION));
	put_key(d, "vshard_id");
	put_number(d, WJB_VALUE, (int64) get_uint(d, PG_UINT32_MAX, WIRE_F_VSHARD_ID));
	end_object(d);
}

Jsonb *
json_decode_entry(const uint8 *data, size_t len)
{
	WireTxn		txns[STAGED_TXNS];
	uint16		vshards[2 * WIRE_VSHARDS];
	WireDecoder wire;
	Decoder		d;
	WireSlice	tag;
	JsonbValue	null;

	wire_decoder_init(&wire, txns, STAGED_TXNS, vshards, lengthof(vshards));
	if (!wire_decode(&wire, data, len))
		wire_report(&wire.error);
	if (wire.entry.kind == WIRE_NOOP)
	{
		null.type = jbvNull;
		return JsonbValueToJsonb(&null);
	}

	memset(&d, 0, sizeof(d));
	name_decoder_init(&d.names, "sequencer entry");
	wire_reader_init(&d.reader, data, len, WIRE_STRICT);
	get_tuple(&d, 2, WIRE_F_ENTRY);
	tag = get_str(&d, WIRE_F_VARIANT);
	begin_object(&d);
	put_string(&d, WJB_KEY, (const char *) tag.data, tag.len);
	d.least = 0;				/* the outermost object's own is not limited */
	if (wire.entry.kind == WIRE_EPOCH_BATCH)
		put_batch(&d, &wire);
	else
		put_ack(&d);
	end_object(&d);
	return JsonbValueToJsonb(d.result);
}

Jsonb *
json_decode_tx_class(const uint8 *data, size_t len)
{
	WireTxClassFigures figures;
	WireError	error;
	WireTxn		txn;
	Decoder		d;

	memset(&txn, 0, sizeof(txn));
	if (!wire_examine_tx_class(data, len, &figures, &txn.canonical, &error))
		wire_report_tx_class(&error);
	txn.tx_class.data = data;
	txn.tx_class.len = (uint32) len;
	txn.plans.len = (uint32) figures.plans_bytes;

	memset(&d, 0, sizeof(d));
	name_decoder_init(&d.names, "TxClass");
	wire_reader_init(&d.reader, data, len, WIRE_STRICT);
	put_any_tx_class(&d, &txn);
	return JsonbValueToJsonb(d.result);
}
