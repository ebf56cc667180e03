/*
 * json_decode.c
 *	  The bytes of an entry, to JSON that a person can read.
 *
 * The strict reader decides whether the bytes are an entry; after that they
 * are read once more, value by value, and written as they come.  A TxClass is
 * shown in its canonical form, which is what it means.
 *
 * Members of an object stand in jsonb in an order of their own, by the length of
 * their names and then by these.  Where that is not the wire's, what is to come
 * first is looked for, and read again in its turn.
 */
#include "compat.h"

#include "log/memory.h"
#include "log/report.h"
#include "miscadmin.h"
#include "sql/json_decode.h"
#include "sql/jsonb_writer.h"
#include "sql/names.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "wire/reader.h"
#include "wire/schema.h"

/* Staging for the strict reader: it hands out any number, one by one. */
#define STAGED_TXNS 16

/* Bytes that are written as digits between two looks for interrupts. */
#define HEX_BYTES ((Size) 64 * 1024)

typedef struct Decoder
{
	WireReader	reader;
	JsonbWriter writer;
	bool		checking; /* read only: for errors about names, */
	bool		skipping; /* or not even for those */
	NameDecoder names;
} Decoder;

/*
 * Writing
 */

static inline bool
is_writing(const Decoder *d)
{
	return !d->checking && !d->skipping;
}

/* An object of members with these names, NULL behind them. */
static void
begin_object(Decoder *d, JsonbPart *part, JsonbPart *parent, const char *const *names)
{
	uint32		count = 0;

	if (!is_writing(d))
		return;
	while (names[count] != NULL)
		count++;
	jsonb_begin_object(&d->writer, part, parent, count);
	for (uint32 i = 0; i < count; i++)
		jsonb_put_string(&d->writer, part, names[i], strlen(names[i]));
}

static void
begin_array(Decoder *d, JsonbPart *part, JsonbPart *parent, uint32 count)
{
	if (is_writing(d))
		jsonb_begin_array(&d->writer, part, parent, count);
}

static void
end_part(Decoder *d, JsonbPart *part)
{
	if (is_writing(d))
		jsonb_end(&d->writer, part);
}

static void
put_number(Decoder *d, JsonbPart *part, int64 number)
{
	CHECK_FOR_INTERRUPTS();
	if (is_writing(d))
		jsonb_put_number(&d->writer, part, number);
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

/* A name that was read, in the database's encoding. */
static void
put_name(Decoder *d, JsonbPart *part, WireSlice name)
{
	char	   *text;
	Size		len;

	if (d->skipping)
		return;
	text = name_decode(&d->names, name, (uint32) (name.data - d->reader.start), &len);
	if (is_writing(d))
		jsonb_put_string(&d->writer, part, text, len);
	if (text != (const char *) name.data)
		pfree(text);
}

/*
 * The schema
 */

/* Bytes, as a string in bytea's hex format. */
static void
put_plans(Decoder *d, JsonbPart *part)
{
	WireSlice	plans = {NULL, 0};
	char	   *text;

	check_read(d, wire_read_bin(&d->reader, &plans, WIRE_F_PLANS));
	if (!is_writing(d))
		return;
	text = jsonb_put_room(&d->writer, part, 2 + 2 * (Size) plans.len);
	memcpy(text, "\\x", 2);
	for (Size done = 0; done < plans.len; done += HEX_BYTES)
	{
		CHECK_FOR_INTERRUPTS();
		hex_encode((const char *) plans.data + done, Min(plans.len - done, HEX_BYTES),
				   text + 2 + 2 * done);
	}
}

/* The same for a Kv key, which is an array of integers. */
static void
put_kv_key(Decoder *d, JsonbPart *part, const char *field)
{
	uint32		count = get_array(d, field);
	char	   *text = NULL;

	if (is_writing(d))
	{
		text = jsonb_put_room(&d->writer, part, 2 + 2 * (Size) count);
		memcpy(text, "\\x", 2);
	}
	for (uint32 i = 0; i < count; i++)
	{
		char		byte = (char) get_uint(d, UINT8_MAX, field);

		CHECK_FOR_INTERRUPTS();
		if (text != NULL)
			hex_encode(&byte, 1, text + 2 + 2 * (Size) i);
	}
}

static void
put_edge(Decoder *d, JsonbPart *part, const char *field)
{
	JsonbPart	ends;

	get_tuple(d, 2, field);
	begin_array(d, &ends, part, 2);
	for (int end = 0; end < 2; end++)
		put_number(d, &ends, (int64) get_uint(d, PG_UINT32_MAX, field));
	end_part(d, &ends);
}

/* What a key set has beside its collection. */
static void
put_elements(Decoder *d, JsonbPart *parent, WireSetKind kind,
			 const WireSetFields *fields)
{
	const char *field = kind == WIRE_SET_KV ? fields->keys :
		kind == WIRE_SET_EDGE ? fields->edges : fields->surrogates;
	uint32		count = get_array(d, field);
	JsonbPart	part;

	begin_array(d, &part, parent, count);
	for (uint32 i = 0; i < count; i++)
	{
		if (kind == WIRE_SET_KV)
			put_kv_key(d, &part, field);
		else if (kind == WIRE_SET_EDGE)
			put_edge(d, &part, field);
		else
			put_number(d, &part, (int64) get_uint(d, PG_UINT32_MAX, field));
	}
	end_part(d, &part);
}

static void
put_key_set(Decoder *d, JsonbPart *parent, const WireSetFields *fields)
{
	static const char *const surrogates[] = {"collection", "surrogates", NULL};
	static const char *const keys[] = {"keys", "collection", NULL};
	static const char *const edges[] = {"edges", "collection", NULL};
	JsonbPart	variant;
	JsonbPart	part;
	WireSlice	tag;
	WireSlice	name;
	WireSetKind kind;
	bool		name_first;

	get_tuple(d, 2, fields->set);
	tag = get_str(d, fields->variant);
	get_tuple(d, 2, fields->payload);
	kind = wire_set_kind(tag.data, tag.len);
	name_first = kind != WIRE_SET_KV && kind != WIRE_SET_EDGE;
	name = get_str(d, fields->collection);

	if (is_writing(d))
	{
		jsonb_begin_object(&d->writer, &variant, parent, 1);
		jsonb_put_string(&d->writer, &variant, (const char *) tag.data, tag.len);
	}
	begin_object(d, &part, &variant,
				 name_first ? surrogates : kind == WIRE_SET_KV ? keys : edges);
	if (name_first)
		put_name(d, &part, name);
	put_elements(d, &part, kind, fields);
	if (!name_first)
		put_name(d, &part, name);
	end_part(d, &part);
	end_part(d, &variant);
}

static void
put_key_sets(Decoder *d, JsonbPart *parent, const WireSetFields *fields)
{
	uint32		count = get_array(d, fields->sets);
	JsonbPart	part;

	begin_array(d, &part, parent, count);
	for (uint32 i = 0; i < count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		put_key_set(d, &part, fields);
	}
	end_part(d, &part);
}

static void
put_dependent_read(Decoder *d, JsonbPart *parent)
{
	uint32		count = get_array(d, WIRE_F_DEPENDENT_KEYS);
	JsonbPart	part;

	begin_array(d, &part, parent, count);
	for (uint32 i = 0; i < count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		get_tuple(d, 1, WIRE_F_DEPENDENT_KEYS);
		put_key_set(d, &part, &wire_dependent_fields);
	}
	end_part(d, &part);
}

/*
 * Walk the pairs of the map and come back.  Their keys may be repeated: the last one is
 * what it means, and shown[] has for each vshard which pair that is.  A map that is to
 * be written repeats none; its keys are written here, in their order, which is jsonb's.
 */
static void
walk_pairs(Decoder *d, JsonbPart *part, uint32 pairs, uint32 *shown)
{
	WireReader	before = d->reader;
	bool		writing = is_writing(d);
	bool		skipping = d->skipping;

	d->skipping = true;
	for (uint32 i = 0; i < pairs; i++)
	{
		uint64		vshard = get_uint(d, WIRE_VSHARDS - 1, WIRE_F_DEPENDENT_VSHARD);

		CHECK_FOR_INTERRUPTS();
		shown[vshard] = i;
		if (writing)
		{
			char		key[16];

			snprintf(key, sizeof(key), "%u", (unsigned) vshard);
			jsonb_put_string(&d->writer, part, key, strlen(key));
		}
		put_dependent_read(d, part);
	}
	d->skipping = skipping;
	d->reader = before;
}

static void
put_dependent_reads(Decoder *d, JsonbPart *parent)
{
	JsonbPart	part;
	uint32		pairs = 0;
	uint32		shown[WIRE_VSHARDS];
	bool		skipping = d->skipping;

	if (wire_skip_nil(&d->reader))
	{
		if (is_writing(d))
			jsonb_put_null(&d->writer, parent);
		return;
	}
	get_tuple(d, 1, WIRE_F_DEPENDENT);
	check_read(d, wire_read_map(&d->reader, &pairs, WIRE_F_DEPENDENT));
	if (is_writing(d))
		jsonb_begin_object(&d->writer, &part, parent, pairs);
	if (!skipping)
		walk_pairs(d, &part, pairs, shown);
	for (uint32 i = 0; i < pairs; i++)
	{
		uint64		vshard = get_uint(d, WIRE_VSHARDS - 1, WIRE_F_DEPENDENT_VSHARD);

		CHECK_FOR_INTERRUPTS();
		d->skipping = skipping || shown[vshard] != i;
		put_dependent_read(d, &part);
	}
	d->skipping = skipping;
	end_part(d, &part);
}

/* Step over values of this transaction, which are written later. */
static void
skip_key_sets(Decoder *d, const WireSetFields *fields)
{
	bool		skipping = d->skipping;

	d->skipping = true;
	put_key_sets(d, NULL, fields);
	d->skipping = skipping;
}

static uint64
get_tenant(Decoder *d)
{
	return get_uint(d, WIRE_MAX_TENANT, WIRE_F_TENANT);
}

/* In the order of the wire, for what is wrong with names. */
static void
check_tx_class(Decoder *d)
{
	d->checking = true;
	get_tuple(d, 5, WIRE_F_TX_CLASS);
	put_key_sets(d, NULL, &wire_read_set_fields);
	put_key_sets(d, NULL, &wire_write_set_fields);
	put_plans(d, NULL);
	(void) get_tenant(d);
	put_dependent_reads(d, NULL);
	d->checking = false;
}

/* A canonical one. */
static void
put_tx_class(Decoder *d, JsonbPart *parent)
{
	static const char *const names[] = {
		"plans", "read_set", "tenant_id", "write_set", "dependent_reads", NULL
	};
	JsonbPart	part;
	WireReader	read_set;
	WireReader	write_set;
	WireReader	dependent;
	uint64		tenant;

	get_tuple(d, 5, WIRE_F_TX_CLASS);
	begin_object(d, &part, parent, names);
	read_set = d->reader;
	skip_key_sets(d, &wire_read_set_fields);
	write_set = d->reader;
	skip_key_sets(d, &wire_write_set_fields);
	put_plans(d, &part);
	tenant = get_tenant(d);
	dependent = d->reader;
	d->reader = read_set;
	put_key_sets(d, &part, &wire_read_set_fields);
	put_number(d, &part, (int64) tenant);
	d->reader = write_set;
	put_key_sets(d, &part, &wire_write_set_fields);
	d->reader = dependent;
	put_dependent_reads(d, &part);
	end_part(d, &part);
}

/*
 * A TxClass in another form than the canonical one is read where it stands for
 * what is wrong with its names, so that offsets are those of the entry, then
 * from a copy.
 */
static void
put_any_tx_class(Decoder *d, JsonbPart *parent, const WireTxn *txn)
{
	WireReader	after;
	WireBuffer	copy;
	WireSlice	canonical;
	uint32		plans_offset;

	if (txn->canonical)
	{
		put_tx_class(d, parent);
		return;
	}
	check_tx_class(d);
	after = d->reader;

	wire_buffer_init(&copy, memory_realloc, NULL);
	canonical = memory_deliverable(txn, &copy, &plans_offset);
	wire_reader_init(&d->reader, canonical.data, canonical.len, WIRE_STRICT);
	put_tx_class(d, parent);
	wire_buffer_free(&copy);
	d->reader = after;
}

static void
put_txn(Decoder *d, JsonbPart *parent, const WireTxn *txn)
{
	static const char *const names[] = {
		"epoch", "position", "tx_class", "epoch_system_ms", NULL
	};
	JsonbPart	part;

	get_tuple(d, 4, WIRE_F_TXN);
	begin_object(d, &part, parent, names);
	put_number(d, &part, (int64) get_uint(d, WIRE_MAX_EPOCH, WIRE_F_TXN_EPOCH));
	put_number(d, &part,
			   (int64) get_uint(d, PG_UINT32_MAX, WIRE_F_TXN_POSITION));
	put_any_tx_class(d, &part, txn);
	put_number(d, &part, get_int(d, WIRE_F_TXN_MS));
	end_part(d, &part);
}

static void
put_batch(Decoder *d, JsonbPart *parent, WireDecoder *wire)
{
	static const char *const names[] = {"txns", "epoch", "epoch_system_ms", NULL};
	JsonbPart	part;
	JsonbPart	txns;
	WireTxn		txn;
	uint64		epoch;

	get_tuple(d, 1, WIRE_F_PAYLOAD);
	get_tuple(d, 3, WIRE_F_BATCH);
	begin_object(d, &part, parent, names);
	epoch = get_uint(d, WIRE_MAX_EPOCH, WIRE_F_EPOCH);
	begin_array(d, &txns, &part, get_array(d, WIRE_F_TXNS));
	while (wire_next_txn(wire, &txn))
	{
		CHECK_FOR_INTERRUPTS();
		put_txn(d, &txns, &txn);
	}
	end_part(d, &txns);
	put_number(d, &part, (int64) epoch);
	put_number(d, &part, get_int(d, WIRE_F_BATCH_MS));
	end_part(d, &part);
}

static void
put_ack(Decoder *d, JsonbPart *parent)
{
	static const char *const names[] = {"epoch", "position", "vshard_id", NULL};
	JsonbPart	part;

	get_tuple(d, 3, WIRE_F_PAYLOAD);
	begin_object(d, &part, parent, names);
	put_number(d, &part, (int64) get_uint(d, WIRE_MAX_EPOCH, WIRE_F_EPOCH));
	put_number(d, &part, (int64) get_uint(d, PG_UINT32_MAX, WIRE_F_POSITION));
	put_number(d, &part, (int64) get_uint(d, PG_UINT32_MAX, WIRE_F_VSHARD_ID));
	end_part(d, &part);
}

static void
decoder_init(Decoder *d, const char *what, const uint8 *data, size_t len)
{
	memset(d, 0, sizeof(*d));
	name_decoder_init(&d->names, what);
	jsonb_writer_init(&d->writer, what);
	wire_reader_init(&d->reader, data, len, WIRE_STRICT);
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
	JsonbPart	part;

	wire_decoder_init(&wire, txns, STAGED_TXNS, vshards, lengthof(vshards));
	if (!wire_decode(&wire, data, len))
		wire_report(&wire.error);
	if (wire.entry.kind == WIRE_NOOP)
	{
		null.type = jbvNull;
		return JsonbValueToJsonb(&null);
	}

	decoder_init(&d, "sequencer entry", data, len);
	get_tuple(&d, 2, WIRE_F_ENTRY);
	tag = get_str(&d, WIRE_F_VARIANT);
	jsonb_begin_object(&d.writer, &part, NULL, 1);
	jsonb_put_string(&d.writer, &part, (const char *) tag.data, tag.len);
	if (wire.entry.kind == WIRE_EPOCH_BATCH)
		put_batch(&d, &part, &wire);
	else
		put_ack(&d, &part);
	jsonb_end(&d.writer, &part);
	return jsonb_writer_finish(&d.writer);
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

	decoder_init(&d, "TxClass", data, len);
	put_any_tx_class(&d, NULL, &txn);
	return jsonb_writer_finish(&d.writer);
}
