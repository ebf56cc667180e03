/*
 * test_encode.c
 *	  Single values at every boundary, and msgpack-c's opinion of entries.
 */
#include <inttypes.h>
#include <msgpack/object.h>
#include <msgpack/unpack.h>
#include <stdlib.h>
#include <string.h>

#include "support.h"
#include "tap.h"
#include "walk.h"
#include "wire/reader.h"

static WireDecoder *decoder;

/* First byte and length of a value's minimal form. */
typedef struct Form
{
	uint8_t		first;
	size_t		len;
} Form;

static void
test_uint(void)
{
	static const struct
	{
		uint64_t	value;
		Form		form;
	}			cases[] = {
		{0, {0x00, 1}}, {1, {0x01, 1}}, {0x7f, {0x7f, 1}},
		{0x80, {0xcc, 2}}, {0xff, {0xcc, 2}},
		{0x100, {0xcd, 3}}, {0xffff, {0xcd, 3}},
		{0x10000, {0xce, 5}}, {UINT32_MAX, {0xce, 5}},
		{UINT64_C(0x100000000), {0xcf, 9}}, {INT64_MAX, {0xcf, 9}},
		{UINT64_MAX, {0xcf, 9}},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		WireBuffer	buffer;
		WireReader	reader;
		uint64_t	back = 0;

		new_buffer(&buffer);
		wire_put_uint(&buffer, cases[i].value);
		wire_reader_init(&reader, buffer.data, buffer.len, WIRE_STRICT);
		ok(buffer.len == cases[i].form.len &&
		   buffer.data[0] == cases[i].form.first &&
		   wire_read_uint(&reader, UINT64_MAX, &back, "x") &&
		   back == cases[i].value && reader.minimal &&
		   reader.pos == reader.end, "unsigned %" PRIu64, cases[i].value);
		wire_buffer_free(&buffer);
	}
}

static void
test_int(void)
{
	static const struct
	{
		int64_t		value;
		Form		form;
	}			cases[] = {
		{0, {0x00, 1}}, {0x7f, {0x7f, 1}}, {-1, {0xff, 1}}, {-32, {0xe0, 1}},
		{-33, {0xd0, 2}}, {-128, {0xd0, 2}}, {0x80, {0xd1, 3}},
		{0xff, {0xd1, 3}}, {-129, {0xd1, 3}}, {INT16_MAX, {0xd1, 3}},
		{INT16_MIN, {0xd1, 3}}, {INT16_MAX + 1, {0xd2, 5}},
		{INT16_MIN - 1, {0xd2, 5}}, {UINT16_MAX, {0xd2, 5}},
		{INT32_MAX, {0xd2, 5}}, {INT32_MIN, {0xd2, 5}},
		{(int64_t) INT32_MAX + 1, {0xd3, 9}},
		{(int64_t) INT32_MIN - 1, {0xd3, 9}}, {UINT32_MAX, {0xd3, 9}},
		{INT64_MAX, {0xd3, 9}}, {INT64_MIN, {0xd3, 9}},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		WireBuffer	buffer;
		WireReader	reader;
		int64_t		back = 0;

		new_buffer(&buffer);
		wire_put_int(&buffer, cases[i].value);
		wire_reader_init(&reader, buffer.data, buffer.len, WIRE_STRICT);
		ok(buffer.len == cases[i].form.len &&
		   buffer.data[0] == cases[i].form.first &&
		   wire_read_int(&reader, &back, "x") && back == cases[i].value &&
		   reader.minimal && reader.pos == reader.end,
		   "signed %" PRId64, cases[i].value);
		wire_buffer_free(&buffer);
	}
}

static void
test_headers(void)
{
	static const struct
	{
		uint32_t	len;
		Form		str;
		Form		bin;
		Form		array;
		Form		map;
	}			cases[] = {
		{0, {0xa0, 1}, {0xc4, 2}, {0x90, 1}, {0x80, 1}},
		{15, {0xaf, 1}, {0xc4, 2}, {0x9f, 1}, {0x8f, 1}},
		{16, {0xb0, 1}, {0xc4, 2}, {0xdc, 3}, {0xde, 3}},
		{31, {0xbf, 1}, {0xc4, 2}, {0xdc, 3}, {0xde, 3}},
		{32, {0xd9, 2}, {0xc4, 2}, {0xdc, 3}, {0xde, 3}},
		{255, {0xd9, 2}, {0xc4, 2}, {0xdc, 3}, {0xde, 3}},
		{256, {0xda, 3}, {0xc5, 3}, {0xdc, 3}, {0xde, 3}},
		{65535, {0xda, 3}, {0xc5, 3}, {0xdc, 3}, {0xde, 3}},
		{65536, {0xdb, 5}, {0xc6, 5}, {0xdd, 5}, {0xdf, 5}},
		{200000, {0xdb, 5}, {0xc6, 5}, {0xdd, 5}, {0xdf, 5}},
	};
	char	   *content = malloc(200000);

	memset(content, 'q', 200000);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		uint32_t	len = cases[i].len;
		WireBuffer	b;
		WireReader	reader;
		WireSlice	back;
		uint32_t	count;
		bool		good;

		new_buffer(&b);
		wire_put_str(&b, content, len);
		wire_reader_init(&reader, b.data, b.len, WIRE_STRICT);
		good = b.data[0] == cases[i].str.first &&
			b.len == cases[i].str.len + len &&
			wire_read_str(&reader, &back, "x") && back.len == len &&
			memcmp(back.data, content, len) == 0 && reader.pos == reader.end;
		ok(good && reader.minimal, "str of %u", len);

		b.len = 0;
		wire_put_bin(&b, content, len);
		wire_reader_init(&reader, b.data, b.len, WIRE_STRICT);
		good = b.data[0] == cases[i].bin.first &&
			b.len == cases[i].bin.len + len &&
			wire_read_bin(&reader, &back, "x") && back.len == len &&
			memcmp(back.data, content, len) == 0 && reader.pos == reader.end;
		ok(good && reader.minimal, "bin of %u", len);

		b.len = 0;
		wire_put_array_header(&b, len);
		good = b.data[0] == cases[i].array.first &&
			b.len == cases[i].array.len;
		wire_put_raw(&b, content, len);
		wire_reader_init(&reader, b.data, b.len, WIRE_STRICT);
		good &= wire_read_array(&reader, &count, "x") && count == len;
		if (len > 0)
		{
			wire_reader_init(&reader, b.data, b.len - 1, WIRE_STRICT);
			good &= !wire_read_array(&reader, &count, "x") &&
				reader.error.status == WIRE_TRUNCATED &&
				reader.pos == reader.start;
		}
		ok(good && reader.minimal, "array of %u", len);

		b.len = 0;
		wire_put_map_header(&b, len);
		good = b.data[0] == cases[i].map.first && b.len == cases[i].map.len;
		wire_put_raw(&b, content, len);
		wire_put_raw(&b, content, len);
		wire_reader_init(&reader, b.data, b.len, WIRE_STRICT);
		good &= wire_read_map(&reader, &count, "x") && count == len;
		if (len > 0)
		{
			wire_reader_init(&reader, b.data, b.len - 1, WIRE_STRICT);
			good &= !wire_read_map(&reader, &count, "x") &&
				reader.error.status == WIRE_TRUNCATED;
		}
		ok(good && reader.minimal, "map of %u", len);
		wire_buffer_free(&b);
	}
	free(content);
}

/* Every width at every boundary: "minimal" is said of what we write only. */
static void
test_minimal(void)
{
	static const uint32_t numbers[] = {
		0, 15, 16, 31, 32, 127, 128, 255, 256, 32767, 32768, 65535, 65536
	};
	static const char *const names[] = {
		[WALK_UINT] = "unsigned", [WALK_INT] = "signed", [WALK_STR] = "str",
		[WALK_BIN] = "bin", [WALK_ARRAY] = "array", [WALK_MAP] = "map"
	};
	char	   *content = calloc(2, 65536);

	for (WalkType type = WALK_UINT; type <= WALK_MAP; type++)
	{
		bool		good = true;
		int			minimal = 0;
		int			others = 0;

		for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		{
			for (unsigned width = 1; width <= 8; width *= 2)
			{
				uint32_t	number = numbers[i];
				uint8_t		form[9];
				size_t		len = wide_form(form, type, width, number);
				WireBuffer	b;
				WireBuffer	ours;
				WireReader	reader;
				WireSlice	slice;
				uint64_t	value;
				int64_t		signed_value;
				uint32_t	count;
				bool		read = false;
				bool		is_ours;

				/* only the widths that can hold it */
				if (len == 0 || (width < 4 && number >> (8 * width) != 0) ||
					(type == WALK_INT && width < 4 &&
					 number >> (8 * width - 1) != 0))
					continue;

				new_buffer(&b);
				new_buffer(&ours);
				wire_put_raw(&b, form, len);
				wire_put_raw(&b, content, 131072);
				wire_reader_init(&reader, b.data, b.len, WIRE_STRICT);
				switch (type)
				{
					case WALK_UINT:
						wire_put_uint(&ours, number);
						read = wire_read_uint(&reader, UINT64_MAX, &value,
											  "x");
						break;
					case WALK_INT:
						wire_put_int(&ours, number);
						read = wire_read_int(&reader, &signed_value, "x");
						break;
					case WALK_STR:
						wire_put_str(&ours, content, number);
						read = wire_read_str(&reader, &slice, "x");
						break;
					case WALK_BIN:
						wire_put_bin(&ours, content, number);
						read = wire_read_bin(&reader, &slice, "x");
						break;
					case WALK_ARRAY:
						wire_put_array_header(&ours, number);
						read = wire_read_array(&reader, &count, "x");
						break;
					default:
						wire_put_map_header(&ours, number);
						read = wire_read_map(&reader, &count, "x");
						break;
				}
				is_ours = ours.len >= len &&
					memcmp(ours.data, form, len) == 0;
				minimal += is_ours;
				others += !is_ours;
				good &= read && reader.minimal == is_ours;
				wire_buffer_free(&b);
				wire_buffer_free(&ours);
			}
		}
		ok(good && minimal > 2 && others > 5, "%s: %d minimal forms, %d not",
		   names[type], minimal, others);
	}
	free(content);
}

/* The first error stays, and a reader does not move on one. */
static void
test_reader(void)
{
	WireBuffer	b = from_hex("c0 05 a161 91");
	WireReader	reader;
	WireSlice	text;
	uint64_t	value;
	int64_t		number;
	uint32_t	count;

	wire_reader_init(&reader, b.data, b.len, WIRE_STRICT);
	ok(!wire_read_uint(&reader, 255, &value, "first") &&
	   reader.pos == reader.start && wire_skip_nil(&reader) &&
	   !wire_skip_nil(&reader) && wire_read_uint(&reader, 255, &value, "x") &&
	   value == 5 && !wire_read_bin(&reader, &text, "second") &&
	   wire_read_str(&reader, &text, "x") && text.len == 1 &&
	   !wire_read_array(&reader, &count, "third") &&
	   strcmp(reader.error.field, "first") == 0 && reader.error.offset == 0 &&
	   reader.error.status == WIRE_WRONG_TYPE, "the first error wins");
	wire_reader_init(&reader, b.data, 0, WIRE_STRICT);
	ok(!wire_skip_nil(&reader) && reader.error.status == WIRE_OK &&
	   !wire_read_int(&reader, &(int64_t) {0}, "x") &&
	   reader.error.status == WIRE_TRUNCATED && reader.error.offset == 0,
	   "an empty reader");
	wire_buffer_free(&b);

	b = from_hex("d0ff d005 cc05 d103e8");
	wire_reader_init(&reader, b.data, b.len, WIRE_LENIENT);
	ok(!wire_read_uint(&reader, UINT64_MAX, &value, "x") &&
	   reader.error.status == WIRE_OUT_OF_RANGE, "no unsigned field holds -1");
	wire_reader_init(&reader, b.data + 2, b.len - 2, WIRE_LENIENT);
	ok(wire_read_uint(&reader, 255, &value, "x") && value == 5 &&
	   !reader.minimal, "a signed form is never an unsigned field's minimal");
	reader.minimal = true;
	ok(wire_read_int(&reader, &number, "x") && number == 5 &&
	   !reader.minimal, "nor the other way round");
	reader.minimal = true;
	ok(wire_read_uint(&reader, 1000, &value, "x") && value == 1000 &&
	   !reader.minimal, "even if it is as short as it gets");
	wire_buffer_free(&b);
}

/* ---- msgpack-c's view of an entry ---- */

static bool
is_array(const msgpack_object *o, uint32_t size)
{
	return o->type == MSGPACK_OBJECT_ARRAY && o->via.array.size == size;
}

static bool
is_number(const msgpack_object *o, uint64_t value)
{
	return o->type == MSGPACK_OBJECT_POSITIVE_INTEGER && o->via.u64 == value;
}

static bool
is_signed(const msgpack_object *o, int64_t value)
{
	return (o->type == MSGPACK_OBJECT_POSITIVE_INTEGER ||
			o->type == MSGPACK_OBJECT_NEGATIVE_INTEGER) &&
		o->via.i64 == value;
}

/* Participants as the format states them, from msgpack-c's tree. */
static bool
same_participants(const msgpack_object *tx_class, const WireTxn *txn)
{
	const msgpack_object *fields = tx_class->via.array.ptr;
	bool		wanted[WIRE_VSHARDS] = {false};
	int			n = 0;

	for (uint32_t i = 0; i < fields[1].via.array.size; i++)
	{
		const msgpack_object *set = &fields[1].via.array.ptr[i];
		const msgpack_object *name = &set->via.array.ptr[1].via.array.ptr[0];
		uint32_t	hash = 0;

		if (name->type != MSGPACK_OBJECT_STR)
			return false;
		for (uint32_t j = 0; j < name->via.str.size; j++)
			hash = hash * 31 + (uint8_t) name->via.str.ptr[j];
		wanted[hash % WIRE_VSHARDS] = true;
	}
	if (fields[4].type != MSGPACK_OBJECT_NIL)
	{
		const msgpack_object *map = &fields[4].via.array.ptr[0];

		for (uint32_t i = 0; i < map->via.map.size; i++)
			wanted[map->via.map.ptr[i].key.via.u64] = true;
	}
	for (int v = 0; v < WIRE_VSHARDS; v++)
	{
		if (wanted[v] && (n >= txn->vshard_count || txn->vshards[n++] != v))
			return false;
	}
	return n == txn->vshard_count;
}

static bool
same_txn(const msgpack_object *o, const WireTxn *txn)
{
	const msgpack_object *tx_class;
	const msgpack_object *fields;

	if (!is_array(o, 4))
		return false;
	tx_class = &o->via.array.ptr[2];
	if (!is_array(tx_class, 5))
		return false;
	fields = tx_class->via.array.ptr;
	return fields[2].type == MSGPACK_OBJECT_BIN &&
		fields[2].via.bin.size == txn->plans.len &&
		(const uint8_t *) fields[2].via.bin.ptr != NULL &&
		memcmp(fields[2].via.bin.ptr, txn->plans.data, txn->plans.len) == 0 &&
		is_number(&fields[3], txn->tenant_id) &&
		same_participants(tx_class, txn);
}

/* Well-formed MessagePack to its last byte, with the same values in it. */
static bool
msgpack_agrees(const uint8_t *data, size_t len)
{
	msgpack_unpacked unpacked;
	const msgpack_object *root;
	const msgpack_object *body;
	const WireEntry *entry = &decoder->entry;
	size_t		offset = 0;
	bool		good;
	WireTxn		txn;

	msgpack_unpacked_init(&unpacked);
	good = msgpack_unpack_next(&unpacked, (const char *) data, len,
							   &offset) == MSGPACK_UNPACK_SUCCESS &&
		offset == entry->length && is_array(&unpacked.data, 2);
	root = unpacked.data.via.array.ptr;
	if (!good)
		goto end;

	if (entry->kind == WIRE_COMPLETION_ACK)
	{
		body = root[1].via.array.ptr;
		good = is_array(&root[1], 3) && is_number(&body[0], entry->epoch) &&
			is_number(&body[1], entry->position) &&
			is_number(&body[2], entry->vshard_id);
		goto end;
	}

	good = is_array(&root[1], 1) && is_array(&root[1].via.array.ptr[0], 3);
	if (!good)
		goto end;
	body = root[1].via.array.ptr[0].via.array.ptr;
	good = is_number(&body[0], entry->epoch) &&
		is_array(&body[1], entry->txn_count) &&
		is_signed(&body[2], entry->epoch_system_ms);
	wire_rewind(decoder);
	while (good && wire_next_txn(decoder, &txn))
		good = same_txn(&body[1].via.array.ptr[txn.position], &txn);

end:
	msgpack_unpacked_destroy(&unpacked);
	return good;
}

static void
test_msgpack_c(const char *name)
{
	FILE	   *file = open_vectors(name);
	char	   *line = NULL;
	size_t		size = 0;
	uint32_t	accepted = 0;
	uint32_t	agreed = 0;
	uint32_t	canonical_agreed = 0;

	while (getline(&line, &size, file) > 0)
	{
		WireBuffer	bytes = from_hex(json_value(line, "hex") + 1);
		WireBuffer	canonical;

		new_buffer(&canonical);
		if (bytes.len > 0 && wire_decode(decoder, bytes.data, bytes.len))
		{
			accepted++;
			agreed += msgpack_agrees(bytes.data, bytes.len);
			reencode(decoder, &canonical);
			wire_decode(decoder, canonical.data, canonical.len);
			canonical_agreed += msgpack_agrees(canonical.data, canonical.len);
		}
		wire_buffer_free(&canonical);
		wire_buffer_free(&bytes);
	}
	pclose(file);
	free(line);
	ok(accepted >= 90 && agreed == accepted,
	   "%s: msgpack-c sees the same in %u of %u", name, agreed, accepted);
	ok(canonical_agreed == accepted, "and in their canonical forms");
}

/* A buffer that cannot grow says so and holds what it held. */
static void *
failing_realloc(void *context, void *pointer, size_t size)
{
	int		   *left = context;

	if (size > 0 && (*left)-- <= 0)
		return NULL;
	return plain_realloc(NULL, pointer, size);
}

static void
test_buffer(void)
{
	WireBuffer	buffer;
	char		block[1000];
	int			left = 1;

	memset(block, 'b', sizeof(block));
	wire_buffer_init(&buffer, failing_realloc, &left);
	wire_put_raw(&buffer, block, 0);
	ok(buffer.data == NULL && !buffer.failed, "nothing needs no memory");
	wire_put_raw(&buffer, block, 100);
	wire_put_raw(&buffer, block, 1000);
	wire_put_uint(&buffer, 1);
	ok(buffer.failed && buffer.len == 100, "no memory: nothing more is put");
	wire_buffer_reset(&buffer);
	wire_put_uint(&buffer, 1);
	ok(!buffer.failed && buffer.len == 1 && left <= 0,
	   "after a reset its memory is used again");
	wire_buffer_free(&buffer);
	ok(buffer.data == NULL && buffer.size == 0, "and freed");
}

int
main(void)
{
	decoder = new_decoder(ROOM_TXNS, ROOM_VSHARDS);
	test_uint();
	test_int();
	test_headers();
	test_minimal();
	test_reader();
	test_buffer();
	test_msgpack_c("accept.jsonl");
	test_msgpack_c("basic.jsonl");
	test_msgpack_c("rough.jsonl");
	free_decoder(decoder);
	return done();
}
