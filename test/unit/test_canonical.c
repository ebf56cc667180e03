/*
 * test_canonical.c
 *	  The canonicaliser: what it takes beyond the log's own forms, what it
 *	  refuses, and what it makes of it.
 */
#include <stdlib.h>
#include <string.h>

#include "consistent.h"
#include "support.h"
#include "tap.h"
#include "walk.h"

static WireDecoder *decoder;

/* A batch of epoch 5 around one TxClass. */
#define BATCH "92aa45706f636842617463689193 05 91 94 05 00 "
#define END " 00 00"

/* The same with the TxClass told in hex. */
static WireBuffer
batch_of(const char *tx_class)
{
	WireBuffer	buffer = from_hex(BATCH);

	put_hex(&buffer, tx_class);
	put_hex(&buffer, END);
	return buffer;
}

/* It is what it should be: stable, and accepted with the flag set. */
static bool
is_canonical(const WireBuffer *bytes)
{
	WireBuffer	again;
	WireEntry	entry;
	WireError	error;
	WireTxn		txn;
	bool		good;

	new_buffer(&again);
	good = wire_canonicalise(bytes->data, bytes->len, &again, &entry,
							 &error) &&
		same_bytes(&again, bytes->data, bytes->len) &&
		wire_decode(decoder, bytes->data, bytes->len) &&
		same_entry(&entry, &decoder->entry) &&
		entry.length == decoder->entry.length;
	while (good && wire_next_txn(decoder, &txn))
		good = txn.canonical;
	wire_buffer_free(&again);
	return good;
}

static bool
makes(const WireBuffer *input, const WireBuffer *wanted)
{
	uint8_t    *copy = exact_copy(input->data, input->len);
	WireBuffer	out;
	WireEntry	entry;
	WireError	error;
	bool		good;

	new_buffer(&out);
	wire_put_raw(&out, "before", 6);
	good = wire_canonicalise(copy, input->len, &out, &entry, &error);
	if (!good)
		diag("%s at %u in %s, expected %s", wire_status_name(error.status),
			 error.offset, error.field, error.expected);
	good = good && out.len >= 6 && memcmp(out.data, "before", 6) == 0 &&
		entry.length == out.len - 6 && wanted->len == out.len - 6 &&
		memcmp(out.data + 6, wanted->data, wanted->len) == 0 &&
		is_canonical(wanted);
	free(copy);
	wire_buffer_free(&out);
	return good;
}

/* TxClass in, TxClass out; the strict reader takes it or not. */
static void
check(bool strict_too, const char *input, const char *wanted, const char *name)
{
	WireBuffer	in = batch_of(input);
	WireBuffer	out = batch_of(wanted);
	bool		strict = wire_decode(decoder, in.data, in.len);
	bool		good = makes(&in, &out);

	/* What the strict reader takes has the same form by the other way. */
	if (strict)
	{
		WireBuffer	form = from_hex(wanted);
		WireBuffer	got;
		WireError	error;
		WireTxn		txn;

		new_buffer(&got);
		wire_decode(decoder, in.data, in.len);
		wire_next_txn(decoder, &txn);
		good &= wire_canonical_tx_class(txn.tx_class, &got, &error) &&
			same_bytes(&got, form.data, form.len) && error.status == WIRE_OK;
		wire_buffer_free(&got);
		wire_buffer_free(&form);
	}
	ok(good && strict == strict_too, "%s", name);
	wire_buffer_free(&in);
	wire_buffer_free(&out);
}

static void
test_sets(void)
{
	check(true, "95 90 91 92 a8446f63756d656e74 92 a161 95 09cd012c0300cc80"
		  "c400 00 c0",
		  "95 90 91 92 a8446f63756d656e74 92 a161 95 000309cc80cd012c"
		  "c400 00 c0", "surrogates sort by number");
	check(true, "95 90 91 92 a6566563746f72 92 a161 96 090309030909"
		  "c400 00 c0",
		  "95 90 91 92 a6566563746f72 92 a161 92 0309 c400 00 c0",
		  "repeated surrogates");
	check(true, "95 90 91 92 a6566563746f72 92 a161 96 030305090909"
		  "c400 00 c0",
		  "95 90 91 92 a6566563746f72 92 a161 93 030509 c400 00 c0",
		  "sorted already, but repeated");
	check(true, "95 90 91 92 a24b76 92 a161 95 90 90 9101 9101 920101"
		  "c400 00 c0",
		  "95 90 91 92 a24b76 92 a161 93 90 9101 920101 c400 00 c0",
		  "keys likewise");
	check(true, "95 90 91 92 a445646765 92 a161 93 920102 920102 920103"
		  "c400 00 c0",
		  "95 90 91 92 a445646765 92 a161 92 920102 920103 c400 00 c0",
		  "edges likewise");
	check(true, "95 90 91 92 a24b76 92 a161 96 9161 90 926100 91ccff 9160 90"
		  "c400 00 c0",
		  "95 90 91 92 a24b76 92 a161 95 90 9160 9161 926100 91ccff"
		  "c400 00 c0", "keys sort by bytes, a prefix first");
	check(true, "95 90 91 92 a24b76 92 a161 92 91ccff 937f7f7f c400 00 c0",
		  "95 90 91 92 a24b76 92 a161 92 937f7f7f 91ccff c400 00 c0",
		  "bytes compare unsigned");
	check(true, "95 90 91 92 a445646765 92 a161 95 920100 920001 92cc8000"
		  "920001 920000 c400 00 c0",
		  "95 90 91 92 a445646765 92 a161 94 920000 920001 920100 92cc8000"
		  "c400 00 c0", "edges sort by source, then target");
	check(true, "95 90 91 92 a445646765 92 a161 92 9201ceffffffff 920200"
		  "c400 00 c0",
		  "95 90 91 92 a445646765 92 a161 92 9201ceffffffff 920200"
		  "c400 00 c0", "a large target is no larger source");
	check(true, "95 92 92 a24b76 92 a162 90 92 a24b76 92 a161 90"
		  "92 92 a24b76 92 a162 90 92 a24b76 92 a162 90 c400 00 c0",
		  "95 92 92 a24b76 92 a162 90 92 a24b76 92 a161 90"
		  "92 92 a24b76 92 a162 90 92 a24b76 92 a162 90 c400 00 c0",
		  "read_set and write_set keep order and repetitions");
	check(true, "95 90 92 92 a6566563746f72 92 a161 93 030201"
		  "92 a6566563746f72 92 a161 91 05 c400 00 c0",
		  "95 90 92 92 a6566563746f72 92 a161 93 010203"
		  "92 a6566563746f72 92 a161 91 05 c400 00 c0",
		  "one set does not leak into the next");
}

static void
test_dependent_reads(void)
{
	check(true, "95 90 90 c400 00 91 83 cd03ff 90 00 90 07 90",
		  "95 90 90 c400 00 91 83 00 90 07 90 cd03ff 90", "keys ascend");
	check(true, "95 90 90 c400 00 91 83 05 91 91 92 a24b76 92 a170 90"
		  "06 90 05 91 91 92 a24b76 92 a171 90",
		  "95 90 90 c400 00 91 82 05 91 91 92 a24b76 92 a171 90 06 90",
		  "the last of a repeated key wins");
	check(true, "95 90 90 c400 00 91 81 05 91 91 92 a445646765 92 a170"
		  "93 920101 920001 920101",
		  "95 90 90 c400 00 91 81 05 91 91 92 a445646765 92 a170"
		  "92 920001 920101", "sets within");
	check(true, "95 90 90 c400 00 91 80", "95 90 90 c400 00 91 80",
		  "an empty map is not nil");
	check(true, "95 90 90 c400 00 91 df00000001 ce00000005 dc0000",
		  "95 90 90 c400 00 91 81 05 90", "wide headers");
}

static void
test_lenient(void)
{
	check(false, "95 90 90 90 00 c0", "95 90 90 c400 00 c0",
		  "plans as an empty array");
	check(false, "95 90 90 94 00 cc80 ccff 7f 00 c0",
		  "95 90 90 c404 0080ff7f 00 c0", "plans as an array of u8");
	check(false, "95 90 90 dc0002 d005 cd00fe 00 c0",
		  "95 90 90 c402 05fe 00 c0", "in any integer form");
	check(true, "95 90 90 c50002 0102 00 c0", "95 90 90 c402 0102 00 c0",
		  "plans as bin16");
	check(true, "95 90 90 c600000002 0102 00 c0", "95 90 90 c402 0102 00 c0",
		  "plans as bin32");
	check(false, "95 90 91 92 a24b76 92 a161 93 c403 0080ff c400 c50001 00"
		  "c400 00 c0",
		  "95 90 91 92 a24b76 92 a161 93 90 9100 9300cc80ccff c400 00 c0",
		  "keys as bin");
	check(false, "95 90 91 92 a24b76 92 a161 95 c40161 9161 91d061"
		  "c600000001 61 9160 c400 00 c0",
		  "95 90 91 92 a24b76 92 a161 92 9160 9161 c400 00 c0",
		  "keys equal in value are one key");
}

static bool
refuses(const WireBuffer *input, WireStatus status, uint32_t offset)
{
	uint8_t    *copy = exact_copy(input->data, input->len);
	WireBuffer	out;
	WireEntry	entry;
	WireError	error;
	bool		good;

	new_buffer(&out);
	wire_put_raw(&out, "before", 6);
	good = !wire_canonicalise(copy, input->len, &out, &entry, &error) &&
		error.status == status && error.offset == offset &&
		error.field != NULL && error.expected != NULL &&
		out.len == 6 && memcmp(out.data, "before", 6) == 0;
	if (!good)
		diag("%s at %u in %s, expected %s", wire_status_name(error.status),
			 error.offset, error.field ? error.field : "-",
			 error.expected ? error.expected : "-");
	free(copy);
	wire_buffer_free(&out);
	return good;
}

/* The value at fault begins at the '|'. */
static void
check_refused(WireStatus status, const char *hex, const char *name)
{
	WireBuffer	input = from_hex(hex);
	char		before[512];
	WireBuffer	prefix;

	snprintf(before, sizeof(before), "%.*s", (int) strcspn(hex, "|"), hex);
	prefix = from_hex(before);
	ok(refuses(&input, status, (uint32_t) prefix.len), "refused: %s", name);
	wire_buffer_free(&input);
	wire_buffer_free(&prefix);
}

static void
test_refused(void)
{
	check_refused(WIRE_TRAILING, BATCH "95 90 90 c400 00 c0" END "|00",
				  "a byte after a batch");
	check_refused(WIRE_TRAILING,
				  "92ad436f6d706c6574696f6e41636b930703cd03e8|c0",
				  "a byte after an ack");
	check_refused(WIRE_MISMATCH, "92aa45706f636842617463689193 05 91 94 |06 00"
				  "95 90 90 c400 00 c0" END, "another epoch");
	check_refused(WIRE_MISMATCH, "92aa45706f636842617463689193 05 91 94 05 |01"
				  "95 90 90 c400 00 c0" END, "another position");
	check_refused(WIRE_MISMATCH, "92aa45706f636842617463689193 05 92 94 05 00"
				  "95 90 90 c400 00 c0 00 94 05 |00 95 90 90 c400 00 c0" END,
				  "the same position again");
	check_refused(WIRE_WRONG_TYPE, BATCH "95 90 90 |a161 00 c0" END,
				  "plans as str");
	check_refused(WIRE_WRONG_TYPE, BATCH "95 90 91 92 a24b76 92 a161 91 |a161"
				  "c400 00 c0" END, "a key as str");
	check_refused(WIRE_WRONG_TYPE, BATCH "95 90 91 92 a24b76 92 |c40161 90"
				  "c400 00 c0" END, "a collection as bin");
	check_refused(WIRE_WRONG_TYPE, BATCH "95 90 90 |c0 00 c0" END,
				  "plans as nil");
	check_refused(WIRE_OUT_OF_RANGE, BATCH "95 90 90 91 |cd0100 00 c0" END,
				  "256 in plans");
	check_refused(WIRE_OUT_OF_RANGE, BATCH "95 90 90 91 |ff 00 c0" END,
				  "-1 in plans");
	check_refused(WIRE_OUT_OF_RANGE, BATCH "95 90 90 c400 |d0ff c0" END,
				  "tenant -1");
	check_refused(WIRE_OUT_OF_RANGE, BATCH "95 90 90 c400"
				  "|d38000000000000000 c0" END, "tenant -2^63");
	check_refused(WIRE_OUT_OF_RANGE, BATCH "95 90 90 c400"
				  "|cf8000000000000000 c0" END, "tenant 2^63");
	check_refused(WIRE_WRONG_TYPE, BATCH "95 90 90 c400 |cb4014000000000000 c0"
				  END, "tenant 5.0");
	check_refused(WIRE_WRONG_TYPE, BATCH "95 90 90 c400 |c0 c0" END,
				  "no tenant");
	check_refused(WIRE_OUT_OF_RANGE, BATCH "95 90 90 c400 00 c0 00"
				  "|cf8000000000000000", "a time of 2^63 ms");
	check_refused(WIRE_OUT_OF_RANGE, BATCH "95 90 91 92 a6566563746f72 92 a161"
				  "91 |d3ffffffffffffffff c400 00 c0" END, "surrogate -1");
	check_refused(WIRE_OUT_OF_RANGE, BATCH "95 90 91 92 a6566563746f72 92 a161"
				  "91 |cf0000000100000000 c400 00 c0" END, "surrogate 2^32");
	check_refused(WIRE_OUT_OF_RANGE, BATCH "95 90 90 c400 00 91 81 |cd0400 90"
				  END, "vshard 1024");
	check_refused(WIRE_WRONG_TYPE, BATCH "95 90 90 c400 00 91 82 05 91 91 92"
				  "a24b76 92 |05 90 05 90" END,
				  "a value that a later one would replace");
	check_refused(WIRE_OUT_OF_RANGE, "92ad436f6d706c6574696f6e41636b93"
				  "|cf7fffffffffffffff 00 00", "epoch 2^63 - 1");
	check_refused(WIRE_WRONG_TAG,
				  "92 |ad636f6d706c6574696f6e41636b 930703cd03e8",
				  "another variant");
	check_refused(WIRE_WRONG_TYPE,
				  "|82ad436f6d706c6574696f6e41636b930703cd03e8",
				  "a map");
	check_refused(WIRE_TRUNCATED, BATCH "95 90 90 c400 00 c0 00|",
				  "an entry cut off");
}

/* Every value of an entry in every form that holds it: the same result. */
static void
test_every_form(void)
{
	WireBuffer	rich = from_hex(rich_entry);
	WalkValue	values[400];
	size_t		count = walk(rich.data, rich.len, values, 400);
	WireBuffer	changed;
	WireBuffer	all[4];
	bool		good = true;
	uint32_t	forms = 0;

	ok(is_canonical(&rich), "the entry to begin with is canonical");
	new_buffer(&changed);
	for (size_t i = 0; i < count; i++)
	{
		const WalkValue *v = &values[i];
		WalkType	types[] = {v->type, WALK_INT, WALK_UINT};
		bool		number = v->type == WALK_UINT || v->type == WALK_INT;

		for (int t = 0; t < (number ? 3 : 1); t++)
		{
			for (unsigned width = 1; width <= 8; width *= 2)
			{
				uint64_t	least = (uint64_t) -1 << (8 * width - 1);
				int64_t		n = (int64_t) v->number;
				uint8_t		form[9];
				size_t		len;

				/* only the forms that can hold the number */
				if (number && types[t] == WALK_INT &&
					(n < (int64_t) least || n > (int64_t) ~least))
					continue;
				if (types[t] == WALK_UINT && n < 0)
					continue;
				if (types[t] != WALK_INT && width < 8 &&
					v->number >> (8 * width) != 0)
					continue;
				len = wide_form(form, types[t], width, v->number);
				if (len == 0)
					continue;
				changed.len = 0;
				wire_put_raw(&changed, rich.data, v->offset);
				wire_put_raw(&changed, form, len);
				wire_put_raw(&changed, rich.data + v->offset + v->header,
							 rich.len - v->offset - v->header);
				if (!makes(&changed, &rich))
				{
					diag("value %zu at %zu, first byte %02x", i, v->offset,
						 form[0]);
					good = false;
				}
				forms++;
			}
		}
	}
	ok(good && forms > 500, "%u other forms make the same entry", forms);

	/* And all at once, in the widest form of each kind. */
	for (int kind = 0; kind < 4; kind++)
	{
		WireBuffer *b = &all[kind];

		new_buffer(b);
		for (size_t i = 0; i < count; i++)
		{
			const WalkValue *v = &values[i];
			bool		number = v->type == WALK_UINT || v->type == WALK_INT;
			bool		unsigned_form = kind % 2 == 0 &&
				(int64_t) v->number >= 0;
			uint8_t		form[9];
			size_t		len = wide_form(form, !number ? v->type :
										unsigned_form ? WALK_UINT : WALK_INT,
										number ? 8 : kind < 2 ? 4 : 2,
										v->number);

			if (len == 0)
				wire_put_raw(b, rich.data + v->offset, v->header);
			else
				wire_put_raw(b, form, len);
			wire_put_raw(b, rich.data + v->offset + v->header, v->content);
		}
		ok(b->len > 2 * rich.len && makes(b, &rich),
		   "every value in a wide form at once, kind %d", kind);
		wire_buffer_free(b);
	}
	wire_buffer_free(&changed);
	wire_buffer_free(&rich);
}

/* A realloc that counts, and fails when told to. */
typedef struct Meter
{
	size_t		blocks;
	size_t		largest;
	int			left;			/* allocations until it fails; -1: never */
} Meter;

static void *
metered_realloc(void *context, void *pointer, size_t size)
{
	Meter	   *meter = context;

	if (size > 0 && meter->left == 0)
		return NULL;
	if (size > 0 && meter->left > 0)
		meter->left--;
	if (pointer == NULL && size > 0)
		meter->blocks++;
	if (pointer != NULL && size == 0)
		meter->blocks--;
	if (size > meter->largest)
		meter->largest = size;
	return plain_realloc(NULL, pointer, size);
}

static void
test_memory(void)
{
	WireBuffer	rich = from_hex(rich_entry);
	int			failures = 0;
	bool		good = true;

	for (int left = 0; left < 100; left++)
	{
		Meter		meter = {0, 0, left};
		WireBuffer	out;
		WireEntry	entry;
		WireError	error;
		bool		canonicalised;

		wire_buffer_init(&out, metered_realloc, &meter);
		canonicalised = wire_canonicalise(rich.data, rich.len, &out, &entry, &error);
		if (!canonicalised)
		{
			failures++;
			good &= error.status == WIRE_NO_MEMORY && out.len == 0 &&
				error.field != NULL && error.expected != NULL;
		}
		else
			good &= same_bytes(&out, rich.data, rich.len);
		good &= meter.blocks == (out.data != NULL ? 1 : 0);
		wire_buffer_free(&out);
		good &= meter.blocks == 0;
		if (canonicalised)
			break;
	}
	ok(good && failures >= 4, "no memory at any of %d allocations", failures);
	wire_buffer_free(&rich);
}

/* Sets as large as the input, of few distinct elements. */
static void
test_memory_bound(void)
{
	static const struct
	{
		const char *name;
		const char *tag;
		const char *elements[2];
	}			cases[] = {
		{"surrogates", "a6566563746f72", {"02", "01"}},
		{"edges", "a445646765", {"920200", "920101"}},
		{"keys", "a24b76", {"9161", "90"}},
	};

	for (int c = 0; c < 3; c++)
	{
		Meter		meter = {0, 0, -1};
		WireBuffer	in = from_hex(BATCH "95 90 91 92");
		WireBuffer	wanted;
		WireBuffer	out;
		WireEntry	entry;
		WireError	error;
		char		tx_class[256];

		put_hex(&in, cases[c].tag);
		put_hex(&in, "92 a161");
		wire_put_array_header(&in, 1000000);
		for (int i = 0; i < 500000; i++)
		{
			put_hex(&in, cases[c].elements[0]);
			put_hex(&in, cases[c].elements[1]);
		}
		put_hex(&in, "c400 00 c0" END);
		snprintf(tx_class, sizeof(tx_class),
				 "95 90 91 92 %s 92 a161 92 %s %s c400 00 c0", cases[c].tag,
				 cases[c].elements[1], cases[c].elements[0]);
		wanted = batch_of(tx_class);

		wire_buffer_init(&out, metered_realloc, &meter);
		ok(wire_canonicalise(in.data, in.len, &out, &entry, &error) &&
		   same_bytes(&out, wanted.data, wanted.len) && meter.largest <= 2048,
		   "a million %s, two distinct: at most %zu bytes a block",
		   cases[c].name, meter.largest);
		wire_buffer_free(&in);
		wire_buffer_free(&out);
		wire_buffer_free(&wanted);
	}
}

/* Large sets in random order, against a sort by plain means. */
static int
compare_numbers(const void *a, const void *b)
{
	uint32_t	x = *(const uint32_t *) a;
	uint32_t	y = *(const uint32_t *) b;

	return (x > y) - (x < y);
}

static void
test_large_set(void)
{
	enum
	{
		COUNT = 100000
	};
	uint32_t   *numbers = malloc(COUNT * sizeof(uint32_t));
	uint64_t	seed = 31337;
	uint32_t	distinct = 0;
	WireBuffer	in = from_hex(BATCH "95 90 91 92 a6566563746f72 92 a161");
	WireBuffer	wanted = from_hex(BATCH "95 90 91 92 a6566563746f72 92 a161");

	wire_put_array_header(&in, COUNT);
	for (int i = 0; i < COUNT; i++)
	{
		/* of every width, many of them twice */
		numbers[i] = (uint32_t) (next_random(&seed) >> 32) >>
			(next_random(&seed) >> 59);
		wire_put_uint(&in, numbers[i]);
	}
	qsort(numbers, COUNT, sizeof(uint32_t), compare_numbers);
	for (int i = 0; i < COUNT; i++)
	{
		if (i == 0 || numbers[i] != numbers[distinct - 1])
			numbers[distinct++] = numbers[i];
	}
	wire_put_array_header(&wanted, distinct);
	for (uint32_t i = 0; i < distinct; i++)
		wire_put_uint(&wanted, numbers[i]);
	put_hex(&in, "c400 00 c0" END);
	put_hex(&wanted, "c400 00 c0" END);
	ok(distinct < COUNT - 1000 && makes(&in, &wanted),
	   "a hundred thousand surrogates, %u distinct", distinct);
	free(numbers);
	wire_buffer_free(&in);
	wire_buffer_free(&wanted);
}

/* Within the limit as bin, over it as the array of integers it becomes. */
static void
test_too_large(void)
{
	size_t		len = (size_t) WIRE_MAX_ENTRY / 2 + 100;
	WireBuffer	in = from_hex(BATCH "95 90 91 92 a24b76 92 a161 91");
	uint8_t    *key = malloc(len);
	WireBuffer	out;
	WireEntry	entry;
	WireError	error;

	memset(key, 0xff, len);
	wire_put_bin(&in, key, len);
	free(key);
	put_hex(&in, "c400 00 c0" END);
	new_buffer(&out);
	ok(!wire_canonicalise(in.data, in.len, &out, &entry, &error) &&
	   error.status == WIRE_TOO_LARGE && error.offset <= in.len &&
	   error.field != NULL && error.expected != NULL && out.len == 0,
	   "a canonical form over the limit");
	wire_buffer_free(&out);
	wire_buffer_free(&in);

	in.data = calloc(1, (size_t) WIRE_MAX_ENTRY + 1);
	ok(!wire_canonicalise(in.data, (size_t) WIRE_MAX_ENTRY + 1, &out, &entry,
						  &error) && error.status == WIRE_TOO_LARGE,
	   "an input over the limit");
	free(in.data);
}

static void
test_others(void)
{
	WireBuffer	ack = from_hex("92ad436f6d706c6574696f6e41636b930703cd03e8");
	WireBuffer	wide = from_hex("dc0002 da000d436f6d706c6574696f6e41636b"
								"dd00000003 d30000000000000007 d10003"
								"cf00000000000003e8");
	WireBuffer	out;
	WireEntry	entry;
	WireError	error;
	WireSlice	tail;

	ok(makes(&ack, &ack) && makes(&wide, &ack), "a completion ack");

	new_buffer(&out);
	ok(wire_canonicalise(NULL, 0, &out, &entry, &error) &&
	   entry.kind == WIRE_NOOP && out.len == 0 && entry.length == 0 &&
	   error.status == WIRE_OK, "a no-op stays one");

	tail.data = (const uint8_t *) "\x95\x90\x90\xc4\x00\x00\xc0\x00";
	tail.len = 8;
	ok(!wire_canonical_tx_class(tail, &out, &error) &&
	   error.status == WIRE_TRAILING && error.offset == 7 && out.len == 0,
	   "a TxClass with something after it");
	tail.len = 6;
	ok(!wire_canonical_tx_class(tail, &out, &error) &&
	   error.status == WIRE_TRUNCATED && out.len == 0, "a TxClass cut off");
	tail.data = (const uint8_t *) "\x95\x90\x90\x90\x00\xc0";
	ok(!wire_canonical_tx_class(tail, &out, &error) &&
	   error.status == WIRE_WRONG_TYPE && error.offset == 3,
	   "a TxClass in strict form only: plans");
	tail.data = (const uint8_t *) "\x95\x90\x91\x92\xa2Kv\x92\xa0\x91"
		"\xc4\x00\xc4\x00\x00\xc0";
	tail.len = 16;
	ok(!wire_canonical_tx_class(tail, &out, &error) &&
	   error.status == WIRE_WRONG_TYPE && error.offset == 10, "and keys");
	wire_buffer_free(&out);
	wire_buffer_free(&ack);
	wire_buffer_free(&wide);
}

int
main(void)
{
	decoder = new_decoder(ROOM_TXNS, ROOM_VSHARDS);
	test_sets();
	test_dependent_reads();
	test_lenient();
	test_refused();
	test_every_form();
	test_memory();
	test_memory_bound();
	test_large_set();
	test_too_large();
	test_others();
	free_decoder(decoder);
	return done();
}
