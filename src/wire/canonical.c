/*
 * canonical.c
 *	  Writing entries and TxClasses anew in canonical form.
 *
 * Reads through the general readers of reader.h and writes each value as soon
 * as it is known; only sets are collected first.  Memory is bounded by the
 * input: a set holds a few bytes per distinct element, dependent reads one
 * offset per vshard.
 */
#include "wire/bytestring.h"
#include "wire/scan.h"
#include "wire/schema.h"
#include "wire/set.h"

typedef struct Writer
{
	WireReader	in;
	WireBuffer *out;
	size_t		begin; /* of our part of out */
	size_t		plans_end; /* of the plans written last, from begin */
	size_t		yield_at; /* length of out at which to yield next */

	/* kept from one key set to the next */
	WireSet		surrogates; /* uint32_t */
	WireSet		edges;		/* uint64_t: src << 32 | dst */
	WireSet		keys;		/* WireKey */
} Writer;

_Static_assert(sizeof(WireKey) <= WIRE_SET_WIDTH, "fits into a set");

static int
compare_u32(const void *a, const void *b)
{
	uint32_t	x = *(const uint32_t *) a;
	uint32_t	y = *(const uint32_t *) b;

	return (x > y) - (x < y);
}

static int
compare_u64(const void *a, const void *b)
{
	uint64_t	x = *(const uint64_t *) a;
	uint64_t	y = *(const uint64_t *) b;

	return (x > y) - (x < y);
}

static void
writer_init(Writer *w, const uint8_t *data, size_t size, WireMode mode,
			WireBuffer *out)
{
	wire_reader_init(&w->in, data, size, mode);
	w->out = out;
	w->begin = out->len;
	w->plans_end = 0;
	w->yield_at = out->len + WIRE_YIELD_BYTES;
	wire_set_init(&w->surrogates, sizeof(uint32_t), compare_u32,
				  out->realloc, out->scratch);
	wire_set_init(&w->edges, sizeof(uint64_t), compare_u64,
				  out->realloc, out->scratch);
	wire_set_init(&w->keys, sizeof(WireKey), wire_compare_keys,
				  out->realloc, out->scratch);
}

static bool
refuse(Writer *w, WireStatus status, const uint8_t *at, const char *field,
	   const char *expected)
{
	wire_reader_fail(&w->in, status, at, field, expected);
	return false;
}

static bool
refuse_no_memory(Writer *w)
{
	return refuse(w, WIRE_NO_MEMORY, w->in.pos, WIRE_F_ENTRY, "enough memory");
}

/* In each loop over what is read, and over what is written. */
static inline void
yield_reading(Writer *w)
{
	wire_reader_yield(&w->in, w->in.pos);
}

static inline void
yield_writing(Writer *w)
{
	if (w->out->len > w->yield_at)
	{
		w->yield_at = w->out->len + WIRE_YIELD_BYTES;
		wire_yield_now();
	}
}

/* What is written so far is in the buffer and within the limit. */
static bool
check_output(Writer *w)
{
	if (w->out->failed)
		return refuse_no_memory(w);
	if (w->out->len - w->begin > WIRE_MAX_ENTRY)
		return refuse(w, WIRE_TOO_LARGE, w->in.pos, WIRE_F_ENTRY, WIRE_X_SIZE);
	return true;
}

/* Frees what was used and, after an error, takes back what was written. */
static bool
writer_end(Writer *w, bool ok, WireError *error)
{
	wire_set_free(&w->surrogates);
	wire_set_free(&w->edges);
	wire_set_free(&w->keys);
	if (!ok)
		w->out->len = w->begin;
	*error = w->in.error;
	return ok;
}

static bool
put_surrogates(Writer *w, const char *field)
{
	WireSet    *set = &w->surrogates;
	uint32_t	count;

	if (!wire_read_array(&w->in, &count, field))
		return false;
	wire_set_clear(set);
	for (; count > 0; count--)
	{
		uint64_t	value;
		uint32_t	item;

		yield_reading(w);
		if (!wire_read_uint(&w->in, UINT32_MAX, &value, field))
			return false;
		item = (uint32_t) value;
		if (!wire_set_add(set, &item))
			return refuse_no_memory(w);
	}
	if (!wire_set_finish(set))
		return refuse_no_memory(w);

	wire_put_array_header(w->out, (uint32_t) set->count);
	for (size_t i = 0; i < set->count; i++)
	{
		yield_writing(w);
		wire_put_uint(w->out, ((const uint32_t *) set->items)[i]);
	}
	return true;
}

static bool
put_edges(Writer *w, const char *field)
{
	WireSet    *set = &w->edges;
	uint32_t	count;

	if (!wire_read_array(&w->in, &count, field))
		return false;
	wire_set_clear(set);
	for (; count > 0; count--)
	{
		uint64_t	src;
		uint64_t	dst;
		uint64_t	item;

		yield_reading(w);
		if (!wire_read_tuple(&w->in, 2, field) ||
			!wire_read_uint(&w->in, UINT32_MAX, &src, field) ||
			!wire_read_uint(&w->in, UINT32_MAX, &dst, field))
			return false;
		item = src << 32 | dst;
		if (!wire_set_add(set, &item))
			return refuse_no_memory(w);
	}
	if (!wire_set_finish(set))
		return refuse_no_memory(w);

	wire_put_array_header(w->out, (uint32_t) set->count);
	for (size_t i = 0; i < set->count; i++)
	{
		uint64_t	edge = ((const uint64_t *) set->items)[i];

		yield_writing(w);
		wire_put_array_header(w->out, 2);
		wire_put_uint(w->out, edge >> 32);
		wire_put_uint(w->out, edge & UINT32_MAX);
	}
	return true;
}

static bool
put_keys(Writer *w, const char *field)
{
	WireSet    *set = &w->keys;
	uint32_t	count;

	if (!wire_read_array(&w->in, &count, field))
		return false;
	wire_set_clear(set);
	for (; count > 0; count--)
	{
		const uint8_t *at = w->in.pos;
		WireKey		item;

		yield_reading(w);
		if (!wire_read_byte_string(&w->in, field))
			return false;
		item = wire_key(at);
		if (!wire_set_add(set, &item))
			return refuse_no_memory(w);
	}
	if (!wire_set_finish(set))
		return refuse_no_memory(w);

	wire_put_array_header(w->out, (uint32_t) set->count);
	for (size_t i = 0; i < set->count; i++)
	{
		yield_writing(w);
		wire_put_key(w->out, ((const WireKey *) set->items)[i].string);
	}
	return true;
}

/* A variant's tag is compared as bytes: one that is no UTF-8 is just wrong. */
static bool
read_tag(Writer *w, WireSlice *tag, const char *field)
{
	const uint8_t *next = wire_take_str(&w->in, w->in.pos, tag, field);

	if (next == NULL)
		return false;
	w->in.pos = next;
	return true;
}

static bool
put_key_set(Writer *w, const WireSetFields *fields)
{
	const uint8_t *at;
	WireSlice	text;
	WireSetKind kind;

	if (!wire_read_tuple(&w->in, 2, fields->set))
		return false;
	at = w->in.pos;
	if (!read_tag(w, &text, fields->variant))
		return false;
	kind = wire_set_kind(text.data, text.len);
	if (kind == WIRE_SET_UNKNOWN)
		return refuse(w, WIRE_WRONG_TAG, at, fields->variant, WIRE_X_SET_TAG);
	wire_put_array_header(w->out, 2);
	wire_put_str(w->out, text.data, text.len);

	if (!wire_read_tuple(&w->in, 2, fields->payload) ||
		!wire_read_str(&w->in, &text, fields->collection))
		return false;
	wire_put_array_header(w->out, 2);
	wire_put_str(w->out, text.data, text.len);

	switch (kind)
	{
		case WIRE_SET_KV:
			return put_keys(w, fields->keys);
		case WIRE_SET_EDGE:
			return put_edges(w, fields->edges);
		default:
			return put_surrogates(w, fields->surrogates);
	}
}

/* An array of key sets keeps its order and repetitions. */
static bool
put_key_sets(Writer *w, const WireSetFields *fields)
{
	uint32_t	count;

	if (!wire_read_array(&w->in, &count, fields->sets))
		return false;
	wire_put_array_header(w->out, count);
	for (; count > 0; count--)
	{
		yield_reading(w);
		if (!put_key_set(w, fields))
			return false;
	}
	return true;
}

/* The value of one vshard: an array of [EngineKeySet]. */
static bool
put_passive_keys(Writer *w)
{
	uint32_t	count;

	if (!wire_read_array(&w->in, &count, WIRE_F_DEPENDENT_KEYS))
		return false;
	wire_put_array_header(w->out, count);
	for (; count > 0; count--)
	{
		yield_reading(w);
		if (!wire_read_tuple(&w->in, 1, WIRE_F_DEPENDENT_KEYS))
			return false;
		wire_put_array_header(w->out, 1);
		if (!put_key_set(w, &wire_dependent_fields))
			return false;
	}
	return true;
}

static bool
put_dependent_reads(Writer *w)
{
	const uint8_t *values[WIRE_VSHARDS];	/* the last one of each key */
	const uint8_t *end;
	uint32_t	pairs;
	uint32_t	distinct = 0;
	size_t		mark;

	if (wire_skip_nil(&w->in))
	{
		wire_put_nil(w->out);
		return true;
	}
	if (!wire_read_tuple(&w->in, 1, WIRE_F_DEPENDENT) ||
		!wire_read_map(&w->in, &pairs, WIRE_F_DEPENDENT))
		return false;
	wire_put_array_header(w->out, 1);

	/* Every value must decode, so each is written once for its errors. */
	memset(values, 0, sizeof(values));
	mark = w->out->len;
	for (; pairs > 0; pairs--)
	{
		uint64_t	vshard;

		yield_reading(w);
		if (!wire_read_uint(&w->in, WIRE_VSHARDS - 1, &vshard,
							WIRE_F_DEPENDENT_VSHARD))
			return false;
		distinct += values[vshard] == NULL;
		values[vshard] = w->in.pos;
		if (!put_passive_keys(w))
			return false;
		w->out->len = mark;
		w->yield_at = mark + WIRE_YIELD_BYTES;
	}
	end = w->in.pos;

	wire_put_map_header(w->out, distinct);
	for (uint32_t vshard = 0; vshard < WIRE_VSHARDS; vshard++)
	{
		if (values[vshard] == NULL)
			continue;
		wire_put_uint(w->out, vshard);
		w->in.pos = values[vshard];
		wire_reader_yield_behind(&w->in, w->in.pos);
		if (!put_passive_keys(w))
			return false;
	}
	w->in.pos = end;
	return true;
}

static bool
put_plans(Writer *w)
{
	const uint8_t *at = w->in.pos;
	WireSlice	plans;

	if (w->in.mode == WIRE_STRICT)
	{
		if (!wire_read_bin(&w->in, &plans, WIRE_F_PLANS))
			return false;
		wire_put_bin(w->out, plans.data, plans.len);
		return true;
	}
	if (!wire_read_byte_string(&w->in, WIRE_F_PLANS))
		return false;
	wire_put_plans(w->out, at);
	return true;
}

static bool
put_tx_class(Writer *w)
{
	uint64_t	tenant_id;

	if (!wire_read_tuple(&w->in, 5, WIRE_F_TX_CLASS))
		return false;
	wire_put_array_header(w->out, 5);
	if (!put_key_sets(w, &wire_read_set_fields) ||
		!put_key_sets(w, &wire_write_set_fields) ||
		!put_plans(w) ||
		!wire_read_uint(&w->in, WIRE_MAX_TENANT, &tenant_id, WIRE_F_TENANT))
		return false;
	w->plans_end = w->out->len - w->begin;
	wire_put_uint(w->out, tenant_id);
	return put_dependent_reads(w) && check_output(w);
}

static bool
put_txn(Writer *w, uint64_t batch_epoch, uint32_t index)
{
	const uint8_t *at;
	uint64_t	epoch;
	uint64_t	position;
	int64_t		epoch_system_ms;

	if (!wire_read_tuple(&w->in, 4, WIRE_F_TXN))
		return false;
	at = w->in.pos;
	if (!wire_read_uint(&w->in, WIRE_MAX_EPOCH, &epoch, WIRE_F_TXN_EPOCH))
		return false;
	if (epoch != batch_epoch)
		return refuse(w, WIRE_MISMATCH, at, WIRE_F_TXN_EPOCH,
					  "the epoch of its batch");
	at = w->in.pos;
	if (!wire_read_uint(&w->in, UINT32_MAX, &position, WIRE_F_TXN_POSITION))
		return false;
	if (position != index)
		return refuse(w, WIRE_MISMATCH, at, WIRE_F_TXN_POSITION,
					  "the index of the transaction in its batch");

	wire_put_array_header(w->out, 4);
	wire_put_uint(w->out, epoch);
	wire_put_uint(w->out, position);
	if (!put_tx_class(w) ||
		!wire_read_int(&w->in, &epoch_system_ms, WIRE_F_TXN_MS))
		return false;
	wire_put_int(w->out, epoch_system_ms);
	return true;
}

static bool
put_batch(Writer *w, WireEntry *entry)
{
	entry->kind = WIRE_EPOCH_BATCH;
	if (!wire_read_tuple(&w->in, 1, WIRE_F_PAYLOAD) ||
		!wire_read_tuple(&w->in, 3, WIRE_F_BATCH) ||
		!wire_read_uint(&w->in, WIRE_MAX_EPOCH, &entry->epoch, WIRE_F_EPOCH) ||
		!wire_read_array(&w->in, &entry->txn_count, WIRE_F_TXNS))
		return false;

	wire_put_array_header(w->out, 1);
	wire_put_array_header(w->out, 3);
	wire_put_uint(w->out, entry->epoch);
	wire_put_array_header(w->out, entry->txn_count);
	for (uint32_t i = 0; i < entry->txn_count; i++)
	{
		yield_reading(w);
		if (!put_txn(w, entry->epoch, i))
			return false;
	}
	if (!wire_read_int(&w->in, &entry->epoch_system_ms, WIRE_F_BATCH_MS))
		return false;
	wire_put_int(w->out, entry->epoch_system_ms);
	return true;
}

static void
put_ack_fields(WireBuffer *out, uint64_t epoch, uint32_t position,
			   uint32_t vshard_id)
{
	wire_put_array_header(out, 3);
	wire_put_uint(out, epoch);
	wire_put_uint(out, position);
	wire_put_uint(out, vshard_id);
}

void
wire_put_ack(WireBuffer *buffer, uint64_t epoch, uint32_t position,
			 uint32_t vshard_id)
{
	wire_put_array_header(buffer, 2);
	wire_put_str(buffer, WIRE_TAG_ACK, strlen(WIRE_TAG_ACK));
	put_ack_fields(buffer, epoch, position, vshard_id);
}

static bool
put_ack(Writer *w, WireEntry *entry)
{
	uint64_t	position;
	uint64_t	vshard_id;

	entry->kind = WIRE_COMPLETION_ACK;
	if (!wire_read_tuple(&w->in, 3, WIRE_F_PAYLOAD) ||
		!wire_read_uint(&w->in, WIRE_MAX_EPOCH, &entry->epoch, WIRE_F_EPOCH) ||
		!wire_read_uint(&w->in, UINT32_MAX, &position, WIRE_F_POSITION) ||
		!wire_read_uint(&w->in, UINT32_MAX, &vshard_id, WIRE_F_VSHARD_ID))
		return false;

	entry->position = (uint32_t) position;
	entry->vshard_id = (uint32_t) vshard_id;
	put_ack_fields(w->out, entry->epoch, entry->position, entry->vshard_id);
	return true;
}

static bool
put_entry(Writer *w, WireEntry *entry)
{
	const uint8_t *at;
	WireSlice	tag;
	bool		is_batch;

	if (!wire_read_tuple(&w->in, 2, WIRE_F_ENTRY))
		return false;
	at = w->in.pos;
	if (!read_tag(w, &tag, WIRE_F_VARIANT))
		return false;
	is_batch = wire_tag_is(tag.data, tag.len, WIRE_TAG_BATCH);
	if (!is_batch && !wire_tag_is(tag.data, tag.len, WIRE_TAG_ACK))
		return refuse(w, WIRE_WRONG_TAG, at, WIRE_F_VARIANT, WIRE_X_ENTRY_TAG);

	wire_put_array_header(w->out, 2);
	wire_put_str(w->out, tag.data, tag.len);
	if (!(is_batch ? put_batch(w, entry) : put_ack(w, entry)))
		return false;
	if (w->in.pos != w->in.end)
		return refuse(w, WIRE_TRAILING, w->in.pos, WIRE_F_ENTRY, WIRE_X_END);
	return check_output(w);
}

bool
wire_canonical_tx_class(WireSlice tx_class, WireBuffer *out, WireError *error)
{
	uint32_t	plans_end;

	return wire_deliverable_tx_class(tx_class, out, &plans_end, error);
}

bool
wire_deliverable_tx_class(WireSlice tx_class, WireBuffer *out,
						  uint32_t *plans_end, WireError *error)
{
	Writer		w;
	bool		ok;

	writer_init(&w, tx_class.data, tx_class.len, WIRE_STRICT, out);
	ok = put_tx_class(&w);
	if (ok && w.in.pos != w.in.end)
		ok = refuse(&w, WIRE_TRAILING, w.in.pos, WIRE_F_TX_CLASS, WIRE_X_END);
	*plans_end = (uint32_t) w.plans_end;
	return writer_end(&w, ok, error);
}

bool
wire_canonicalise_tx_class(const uint8_t *data, size_t size, WireBuffer *out,
						   WireError *error)
{
	Writer		w;
	bool		ok;

	writer_init(&w, data, size, WIRE_LENIENT, out);
	if (size > WIRE_MAX_ENTRY)
		ok = refuse(&w, WIRE_TOO_LARGE, data + WIRE_MAX_ENTRY, WIRE_F_TX_CLASS,
					WIRE_X_SIZE);
	else
	{
		ok = put_tx_class(&w);
		if (ok && w.in.pos != w.in.end)
			ok = refuse(&w, WIRE_TRAILING, w.in.pos, WIRE_F_TX_CLASS, WIRE_X_END);
	}
	return writer_end(&w, ok, error);
}

bool
wire_canonicalise(const uint8_t *data, size_t size, WireBuffer *out,
				  WireEntry *entry, WireError *error)
{
	Writer		w;
	bool		ok;

	memset(entry, 0, sizeof(*entry));
	writer_init(&w, data, size, WIRE_LENIENT, out);
	if (size == 0)
	{
		entry->kind = WIRE_NOOP;
		return writer_end(&w, true, error);
	}
	if (size > WIRE_MAX_ENTRY)
		ok = refuse(&w, WIRE_TOO_LARGE, data + WIRE_MAX_ENTRY, WIRE_F_ENTRY,
					WIRE_X_SIZE);
	else
		ok = put_entry(&w, entry);
	entry->length = ok ? (uint32_t) (out->len - w.begin) : 0;
	return writer_end(&w, ok, error);
}
