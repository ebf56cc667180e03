/*
 * model.c
 *	  The grammar of docs/wire-format.md over msgpack-c's objects.
 *
 * Objects do not tell in which form a value stood, and the verdict on an
 * integer depends on that.  So walk.c lists the headers of the same bytes, and
 * the two are gone through in step: what stands where is msgpack-c's word, in
 * which form it stands the walker's.
 *
 * The canonical form is written on the way.  The elements of a set are kept as
 * byte strings that compare as the elements do: integers big-endian.
 */
#include "model.h"

#include <msgpack.h>
#include <stdlib.h>
#include <string.h>

#include "walk.h"

typedef struct Reader
{
	Model	   *model;
	const uint8_t *data;
	const WalkValue *value;		/* of the object that is read next */
	bool		lenient;
} Reader;

typedef struct Element
{
	const uint8_t *data;
	size_t		len;
} Element;

typedef enum SetKind
{
	SET_SURROGATES,
	SET_KEYS,
	SET_EDGES
} SetKind;

static void *
need(void *memory)
{
	if (memory == NULL)
		abort();
	return memory;
}

static void
put(ModelBytes *out, const void *data, size_t len)
{
	if (out->len + len > out->size)
	{
		out->size = 2 * (out->len + len);
		out->data = need(realloc(out->data, out->size));
	}
	if (len > 0)
		memcpy(out->data + out->len, data, len);
	out->len += len;
}

/* A first byte, and "width" bytes of number after it. */
static void
put_form(ModelBytes *out, unsigned first, unsigned width, uint64_t number)
{
	uint8_t		form[9];

	form[0] = (uint8_t) first;
	for (unsigned i = 0; i < width; i++)
		form[1 + i] = (uint8_t) (number >> 8 * (width - 1 - i));
	put(out, form, 1 + width);
}

static void
put_uint(ModelBytes *out, uint64_t n)
{
	if (n < 128)
		put_form(out, (unsigned) n, 0, 0);
	else if (n < 256)
		put_form(out, 0xcc, 1, n);
	else if (n < 65536)
		put_form(out, 0xcd, 2, n);
	else if (n >> 32 == 0)
		put_form(out, 0xce, 4, n);
	else
		put_form(out, 0xcf, 8, n);
}

static void
put_int(ModelBytes *out, int64_t n)
{
	if (n >= -32 && n < 128)
		put_form(out, (unsigned) n & 0xff, 0, 0);
	else if (n == (int8_t) n)
		put_form(out, 0xd0, 1, (uint64_t) n);
	else if (n == (int16_t) n)
		put_form(out, 0xd1, 2, (uint64_t) n);
	else if (n == (int32_t) n)
		put_form(out, 0xd2, 4, (uint64_t) n);
	else
		put_form(out, 0xd3, 8, (uint64_t) n);
}

static void
put_count(ModelBytes *out, unsigned fix, unsigned wide, uint64_t n)
{
	if (n < 16)
		put_form(out, fix | (unsigned) n, 0, 0);
	else if (n < 65536)
		put_form(out, wide, 2, n);
	else
		put_form(out, wide + 1, 4, n);
}

static void
put_array(ModelBytes *out, uint64_t n)
{
	put_count(out, 0x90, 0xdc, n);
}

static void
put_str(ModelBytes *out, const char *text, size_t len)
{
	if (len < 32)
		put_form(out, 0xa0 | (unsigned) len, 0, 0);
	else if (len < 256)
		put_form(out, 0xd9, 1, len);
	else if (len < 65536)
		put_form(out, 0xda, 2, len);
	else
		put_form(out, 0xdb, 4, len);
	put(out, text, len);
}

static void
put_bin(ModelBytes *out, const uint8_t *data, size_t len)
{
	if (len < 256)
		put_form(out, 0xc4, 1, len);
	else if (len < 65536)
		put_form(out, 0xc5, 2, len);
	else
		put_form(out, 0xc6, 4, len);
	put(out, data, len);
}

/* What the walker saw of an object, which must be the same thing. */
static const WalkValue *
step(Reader *r, const msgpack_object *o)
{
	const WalkValue *v = r->value++;
	bool		same;

	switch (o->type)
	{
		case MSGPACK_OBJECT_NIL:
			same = v->type == WALK_NIL;
			break;
		case MSGPACK_OBJECT_POSITIVE_INTEGER:
			same = (v->type == WALK_UINT || v->type == WALK_INT) &&
				v->number == o->via.u64;
			break;
		case MSGPACK_OBJECT_NEGATIVE_INTEGER:
			same = v->type == WALK_INT && (int64_t) v->number == o->via.i64 &&
				o->via.i64 < 0;
			break;
		case MSGPACK_OBJECT_STR:
			same = v->type == WALK_STR && v->number == o->via.str.size &&
				(v->number == 0 ||
				 (const uint8_t *) o->via.str.ptr ==
				 r->data + v->offset + v->header);
			break;
		case MSGPACK_OBJECT_BIN:
			same = v->type == WALK_BIN && v->number == o->via.bin.size &&
				(v->number == 0 ||
				 (const uint8_t *) o->via.bin.ptr ==
				 r->data + v->offset + v->header);
			break;
		case MSGPACK_OBJECT_ARRAY:
			same = v->type == WALK_ARRAY && v->number == o->via.array.size;
			break;
		case MSGPACK_OBJECT_MAP:
			same = v->type == WALK_MAP && v->number == o->via.map.size;
			break;
		default:
			same = v->type == WALK_OTHER;
			break;
	}
	if (!same)
		r->model->broken = "msgpack-c and the walker see different values";
	return v;
}

/* An integer of "widest" bytes at most, and of at most "max". */
static bool
read_unsigned(Reader *r, const msgpack_object *o, unsigned widest,
			  uint64_t max, uint64_t *n)
{
	const WalkValue *v = step(r, o);

	if (o->type != MSGPACK_OBJECT_POSITIVE_INTEGER || o->via.u64 > max)
		return false;
	*n = o->via.u64;
	return r->lenient || (v->type == WALK_UINT && v->header - 1 <= widest);
}

static bool
read_u8(Reader *r, const msgpack_object *o, uint64_t *n)
{
	return read_unsigned(r, o, 1, 255, n);
}

static bool
read_u32(Reader *r, const msgpack_object *o, uint64_t *n)
{
	return read_unsigned(r, o, 4, 4294967295u, n);
}

static bool
read_epoch(Reader *r, const msgpack_object *o, uint64_t *n)
{
	return read_unsigned(r, o, 8, (uint64_t) INT64_MAX - 1, n);
}

static bool
read_i64(Reader *r, const msgpack_object *o, int64_t *n)
{
	const WalkValue *v = step(r, o);

	if (o->type == MSGPACK_OBJECT_NEGATIVE_INTEGER)
		*n = o->via.i64;
	else if (o->type == MSGPACK_OBJECT_POSITIVE_INTEGER &&
			 o->via.u64 <= INT64_MAX)
		*n = (int64_t) o->via.u64;
	else
		return false;
	return r->lenient || v->type == WALK_INT || v->header == 1;
}

/* An array; of exactly "count" elements unless that is negative. */
static bool
read_array(Reader *r, const msgpack_object *o, int count,
		   msgpack_object_array *array)
{
	step(r, o);
	if (o->type != MSGPACK_OBJECT_ARRAY)
		return false;
	*array = o->via.array;
	return count < 0 || array->size == (uint32_t) count;
}

static bool
is_str(const msgpack_object *o, const char *text)
{
	return o->type == MSGPACK_OBJECT_STR &&
		o->via.str.size == strlen(text) &&
		memcmp(o->via.str.ptr, text, strlen(text)) == 0;
}

/* Valid if every character, written anew, has the bytes it had. */
bool
model_is_utf8(const uint8_t *s, size_t len)
{
	size_t		i = 0;

	while (i < len)
	{
		uint32_t	c = s[i];
		size_t		bytes = c < 0x80 ? 1 : c >> 5 == 6 ? 2 : c >> 4 == 14 ? 3 :
			c >> 3 == 30 ? 4 : 0;

		if (bytes == 0 || bytes > len - i)
			return false;
		if (bytes > 1)
			c &= 0x7fu >> bytes;
		for (size_t j = 1; j < bytes; j++)
		{
			if (s[i + j] >> 6 != 2)
				return false;
			c = c << 6 | (s[i + j] & 63);
		}
		if (bytes != (c < 0x80 ? 1u : c < 0x800 ? 2u : c < 0x10000 ? 3u : 4u))
			return false;
		if (c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
			return false;
		i += bytes;
	}
	return true;
}

uint32_t
model_vshard(const uint8_t *name, size_t len)
{
	uint32_t	h = 0;

	for (size_t i = 0; i < len; i++)
		h = h * 31 + name[i];
	return h % MODEL_VSHARDS;
}

/* The bytes of a byte string, added to "bytes". */
static bool
read_byte_string(Reader *r, const msgpack_object *o, bool bin_form,
				 bool array_form, ModelBytes *bytes)
{
	if (o->type == MSGPACK_OBJECT_BIN && bin_form)
	{
		step(r, o);
		put(bytes, o->via.bin.ptr, o->via.bin.size);
		return true;
	}
	step(r, o);
	if (o->type != MSGPACK_OBJECT_ARRAY || !array_form)
		return false;
	for (uint32_t i = 0; i < o->via.array.size; i++)
	{
		uint64_t	n;
		uint8_t		byte;

		if (!read_u8(r, &o->via.array.ptr[i], &n))
			return false;
		byte = (uint8_t) n;
		put(bytes, &byte, 1);
	}
	return true;
}

static void
put_big_endian(ModelBytes *bytes, uint64_t n)
{
	for (int shift = 24; shift >= 0; shift -= 8)
	{
		uint8_t		byte = (uint8_t) (n >> shift);

		put(bytes, &byte, 1);
	}
}

static bool
read_element(Reader *r, const msgpack_object *o, SetKind kind,
			 ModelBytes *bytes)
{
	msgpack_object_array pair;
	uint64_t	n;

	switch (kind)
	{
		case SET_KEYS:
			return read_byte_string(r, o, r->lenient, true, bytes);
		case SET_SURROGATES:
			if (!read_u32(r, o, &n))
				return false;
			put_big_endian(bytes, n);
			return true;
		case SET_EDGES:
			if (!read_array(r, o, 2, &pair))
				return false;
			for (int i = 0; i < 2; i++)
			{
				if (!read_u32(r, &pair.ptr[i], &n))
					return false;
				put_big_endian(bytes, n);
			}
			return true;
	}
	return false;
}

static int
compare_elements(const void *a, const void *b)
{
	const Element *x = a;
	const Element *y = b;
	size_t		both = x->len < y->len ? x->len : y->len;
	int			order = both > 0 ? memcmp(x->data, y->data, both) : 0;

	if (order != 0)
		return order;
	return (x->len > y->len) - (x->len < y->len);
}

static uint64_t
big_endian(const uint8_t *data)
{
	return (uint64_t) data[0] << 24 | (uint64_t) data[1] << 16 |
		(uint64_t) data[2] << 8 | data[3];
}

static void
put_element(ModelBytes *out, SetKind kind, const Element *element)
{
	switch (kind)
	{
		case SET_KEYS:
			put_array(out, element->len);
			for (size_t i = 0; i < element->len; i++)
				put_uint(out, element->data[i]);
			break;
		case SET_SURROGATES:
			put_uint(out, big_endian(element->data));
			break;
		case SET_EDGES:
			put_array(out, 2);
			put_uint(out, big_endian(element->data));
			put_uint(out, big_endian(element->data + 4));
			break;
	}
}

static bool
read_set(Reader *r, const msgpack_object *o, SetKind kind)
{
	ModelBytes *out = &r->model->canonical;
	ModelBytes	bytes = {0};
	msgpack_object_array array;
	Element    *elements;
	size_t		at = 0;
	bool		good = true;

	if (!read_array(r, o, -1, &array))
		return false;
	elements = need(calloc((size_t) array.size + 1, sizeof(Element)));
	for (uint32_t i = 0; good && i < array.size; i++)
	{
		good = read_element(r, &array.ptr[i], kind, &bytes);
		elements[i].len = bytes.len - at;
		at = bytes.len;
	}
	if (good)
	{
		uint32_t	distinct = 0;

		at = 0;
		for (uint32_t i = 0; i < array.size; i++)
		{
			elements[i].data = bytes.data != NULL ? bytes.data + at : r->data;
			at += elements[i].len;
		}
		qsort(elements, array.size, sizeof(Element), compare_elements);
		for (uint32_t i = 0; i < array.size; i++)
		{
			if (i == 0 || compare_elements(&elements[i - 1], &elements[i]) != 0)
				distinct++;
		}
		put_array(out, distinct);
		for (uint32_t i = 0; i < array.size; i++)
		{
			if (i == 0 || compare_elements(&elements[i - 1], &elements[i]) != 0)
				put_element(out, kind, &elements[i]);
		}
	}
	free(elements);
	free(bytes.data);
	return good;
}

/* An EngineKeySet; "vshards" takes its participant if there is one. */
static bool
read_key_set(Reader *r, const msgpack_object *o, bool *vshards)
{
	static const struct
	{
		const char *tag;
		SetKind		kind;
	}			variants[] = {
		{"Document", SET_SURROGATES}, {"Vector", SET_SURROGATES},
		{"Kv", SET_KEYS}, {"Edge", SET_EDGES},
	};
	ModelBytes *out = &r->model->canonical;
	msgpack_object_array set;
	msgpack_object_array payload;
	const msgpack_object *name;

	if (!read_array(r, o, 2, &set))
		return false;
	step(r, &set.ptr[0]);
	for (size_t i = 0; i < sizeof(variants) / sizeof(variants[0]); i++)
	{
		if (!is_str(&set.ptr[0], variants[i].tag))
			continue;
		put_array(out, 2);
		put_str(out, variants[i].tag, strlen(variants[i].tag));
		if (!read_array(r, &set.ptr[1], 2, &payload))
			return false;
		name = &payload.ptr[0];
		step(r, name);
		if (name->type != MSGPACK_OBJECT_STR ||
			!model_is_utf8((const uint8_t *) name->via.str.ptr,
						   name->via.str.size))
			return false;
		if (vshards != NULL)
			vshards[model_vshard((const uint8_t *) name->via.str.ptr,
								 name->via.str.size)] = true;
		if (name->via.str.size > 0 &&
			memchr(name->via.str.ptr, 0, name->via.str.size) != NULL)
			r->model->has_nul = true;
		put_array(out, 2);
		put_str(out, name->via.str.ptr, name->via.str.size);
		return read_set(r, &payload.ptr[1], variants[i].kind);
	}
	return false;
}

static bool
read_key_sets(Reader *r, const msgpack_object *o, bool *vshards)
{
	msgpack_object_array sets;

	if (!read_array(r, o, -1, &sets))
		return false;
	put_array(&r->model->canonical, sets.size);
	for (uint32_t i = 0; i < sets.size; i++)
	{
		if (!read_key_set(r, &sets.ptr[i], vshards))
			return false;
	}
	return true;
}

/* The value of one vshard in the map. */
static bool
read_passive_keys(Reader *r, const msgpack_object *o)
{
	ModelBytes *out = &r->model->canonical;
	msgpack_object_array specs;
	msgpack_object_array one;

	if (!read_array(r, o, -1, &specs))
		return false;
	put_array(out, specs.size);
	for (uint32_t i = 0; i < specs.size; i++)
	{
		if (!read_array(r, &specs.ptr[i], 1, &one))
			return false;
		put_array(out, 1);
		if (!read_key_set(r, &one.ptr[0], NULL))
			return false;
	}
	return true;
}

static bool
read_map(Reader *r, const msgpack_object *map, ModelTxn *txn)
{
	ModelBytes *out = &r->model->canonical;
	ModelBytes	values[MODEL_VSHARDS] = {{0}};
	bool		seen[MODEL_VSHARDS] = {false};
	uint64_t	distinct = 0;
	bool		good = true;

	step(r, map);
	if (map->type != MSGPACK_OBJECT_MAP)
		return false;

	for (uint32_t i = 0; good && i < map->via.map.size; i++)
	{
		size_t		before = out->len;
		uint64_t	vshard;

		good = read_unsigned(r, &map->via.map.ptr[i].key, 4, MODEL_VSHARDS - 1,
							 &vshard) &&
			read_passive_keys(r, &map->via.map.ptr[i].val);
		if (good)
		{
			txn->vshards[vshard] = true;
			distinct += !seen[vshard];
			seen[vshard] = true;
			values[vshard].len = 0;
			put(&values[vshard], out->data + before, out->len - before);
		}
		out->len = before;
	}
	put_count(out, 0x80, 0xde, distinct);
	for (uint32_t i = 0; i < MODEL_VSHARDS; i++)
	{
		if (seen[i])
		{
			put_uint(out, i);
			put(out, values[i].data, values[i].len);
			txn->dependents++;
			txn->dependent_bytes += values[i].len;
		}
		free(values[i].data);
	}
	return good;
}

static bool
read_dependent_reads(Reader *r, const msgpack_object *o, ModelTxn *txn)
{
	ModelBytes *out = &r->model->canonical;
	msgpack_object_array spec;

	if (o->type == MSGPACK_OBJECT_NIL)
	{
		step(r, o);
		put_form(out, 0xc0, 0, 0);
		return true;
	}
	if (!read_array(r, o, 1, &spec))
		return false;
	put_array(out, 1);
	return read_map(r, &spec.ptr[0], txn);
}

static bool
read_plans(Reader *r, const msgpack_object *o, ModelTxn *txn)
{
	ModelBytes	plans = {0};
	const WalkValue *v = r->value;
	bool		good = read_byte_string(r, o, true, r->lenient, &plans);

	txn->plans = v->offset + v->header;
	txn->plans_len = v->content;
	if (good)
		put_bin(&r->model->canonical, plans.data, plans.len);
	free(plans.data);
	return good;
}

static bool
read_tx_class(Reader *r, const msgpack_object *o, ModelTxn *txn)
{
	ModelBytes *out = &r->model->canonical;
	msgpack_object_array fields;

	txn->tx_class = r->value->offset;
	txn->canonical = out->len;
	if (!read_array(r, o, 5, &fields))
		return false;
	put_array(out, 5);
	if (!read_key_sets(r, &fields.ptr[0], NULL) ||
		!read_key_sets(r, &fields.ptr[1], txn->vshards) ||
		!read_plans(r, &fields.ptr[2], txn) ||
		!read_unsigned(r, &fields.ptr[3], 8, INT64_MAX, &txn->tenant_id))
		return false;
	put_uint(out, txn->tenant_id);
	if (!read_dependent_reads(r, &fields.ptr[4], txn))
		return false;
	/* the value before the next one is the last of this */
	txn->tx_class_len = walk_end(r->value - 1) - txn->tx_class;
	txn->canonical_len = out->len - txn->canonical;
	return true;
}

static bool
read_txn(Reader *r, const msgpack_object *o, uint32_t index)
{
	Model	   *model = r->model;
	ModelBytes *out = &model->canonical;
	msgpack_object_array fields;
	uint64_t	epoch;
	uint64_t	position;
	int64_t		ms;

	if (!read_array(r, o, 4, &fields) ||
		!read_epoch(r, &fields.ptr[0], &epoch) ||
		!read_u32(r, &fields.ptr[1], &position))
		return false;
	if (epoch != model->epoch || position != index)
		model->own_numbers = false;
	put_array(out, 4);
	put_uint(out, epoch);
	put_uint(out, position);
	if (!read_tx_class(r, &fields.ptr[2], &model->txns[index]) ||
		!read_i64(r, &fields.ptr[3], &ms))
		return false;
	put_int(out, ms);
	return true;
}

static bool
read_batch(Reader *r, const msgpack_object *o)
{
	Model	   *model = r->model;
	ModelBytes *out = &model->canonical;
	msgpack_object_array payload;
	msgpack_object_array batch;
	msgpack_object_array txns;

	if (!read_array(r, o, 1, &payload) ||
		!read_array(r, &payload.ptr[0], 3, &batch) ||
		!read_epoch(r, &batch.ptr[0], &model->epoch) ||
		!read_array(r, &batch.ptr[1], -1, &txns))
		return false;
	put_array(out, 1);
	put_array(out, 3);
	put_uint(out, model->epoch);
	put_array(out, txns.size);
	model->txn_count = txns.size;
	for (uint32_t i = 0; i < txns.size; i++)
	{
		/* grown as they come: most announced in a wrong entry are none */
		if ((i & (i - 1)) == 0)
			model->txns = need(realloc(model->txns,
									   (2 * (size_t) i + 1) * sizeof(ModelTxn)));
		memset(&model->txns[i], 0, sizeof(ModelTxn));
		if (!read_txn(r, &txns.ptr[i], i))
			return false;
	}
	if (!read_i64(r, &batch.ptr[2], &model->epoch_system_ms))
		return false;
	put_int(out, model->epoch_system_ms);
	return true;
}

static bool
read_ack(Reader *r, const msgpack_object *o)
{
	Model	   *model = r->model;
	ModelBytes *out = &model->canonical;
	msgpack_object_array fields;
	uint64_t	position;
	uint64_t	vshard_id;

	if (!read_array(r, o, 3, &fields) ||
		!read_epoch(r, &fields.ptr[0], &model->epoch) ||
		!read_u32(r, &fields.ptr[1], &position) ||
		!read_u32(r, &fields.ptr[2], &vshard_id))
		return false;
	model->position = (uint32_t) position;
	model->vshard_id = (uint32_t) vshard_id;
	put_array(out, 3);
	put_uint(out, model->epoch);
	put_uint(out, position);
	put_uint(out, vshard_id);
	return true;
}

static bool
read_entry(Reader *r, const msgpack_object *o, ModelKind *kind)
{
	ModelBytes *out = &r->model->canonical;
	msgpack_object_array entry;
	const char *tag;
	bool		good;

	if (!read_array(r, o, 2, &entry))
		return false;
	step(r, &entry.ptr[0]);
	if (is_str(&entry.ptr[0], "EpochBatch"))
		*kind = MODEL_BATCH;
	else if (is_str(&entry.ptr[0], "CompletionAck"))
		*kind = MODEL_ACK;
	else
		return false;
	tag = *kind == MODEL_BATCH ? "EpochBatch" : "CompletionAck";
	put_array(out, 2);
	put_str(out, tag, strlen(tag));
	good = *kind == MODEL_BATCH ? read_batch(r, &entry.ptr[1]) :
		read_ack(r, &entry.ptr[1]);
	return good;
}

void
model_read(Model *model, const uint8_t *data, size_t len, ModelMode mode)
{
	WalkValue  *values;
	size_t		count;
	size_t		end;
	size_t		off = 0;
	msgpack_unpacked unpacked;
	msgpack_unpack_return status;

	memset(model, 0, sizeof(*model));
	model->own_numbers = true;
	if (len == 0)
	{
		model->kind = MODEL_NOOP;
		return;
	}

	/*
	 * Only what the walker finds complete is given to msgpack-c: it allocates
	 * by what a header announces.
	 */
	values = need(malloc((len + 1) * sizeof(WalkValue)));
	count = walk(data, len, values, len);
	if (count == 0)
	{
		free(values);
		return;
	}
	end = walk_end(&values[count - 1]);

	msgpack_unpacked_init(&unpacked);
	status = msgpack_unpack_next(&unpacked, (const char *) data, len, &off);
	if (status == MSGPACK_UNPACK_SUCCESS ||
		status == MSGPACK_UNPACK_EXTRA_BYTES)
	{
		Reader		reader = {model, data, values, mode == MODEL_LENIENT};
		ModelKind	kind = MODEL_REFUSED;

		if (off != end)
			model->broken = "msgpack-c and the walker see different ends";
		else if (read_entry(&reader, &unpacked.data, &kind))
		{
			model->kind = kind;
			model->length = end;
			if (reader.value != values + count)
				model->broken = "the model passed over a value";
		}
	}
	else if (status == MSGPACK_UNPACK_CONTINUE)
		model->broken = "msgpack-c wants more than the walker";
	/* else nested deeper than its stack of 32, and so no entry */

	msgpack_unpacked_destroy(&unpacked);
	free(values);
}

void
model_free(Model *model)
{
	free(model->txns);
	free(model->canonical.data);
	memset(model, 0, sizeof(*model));
}
