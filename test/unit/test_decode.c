/*
 * test_decode.c
 *	  The strict reader: what it hands out, where it says an error is, and
 *	  that staging does not show.
 */
#include <stdlib.h>
#include <string.h>

#include "support.h"
#include "tap.h"

/* The hash as the format states it. */
static uint16_t
plain_vshard(const uint8_t *name, size_t len)
{
	uint32_t	hash = 0;

	for (size_t i = 0; i < len; i++)
		hash = hash * 31 + name[i];
	return hash % 1024;
}

static void
test_vshard(void)
{
	uint64_t	seed = 12345;
	bool		same = true;

	for (size_t len = 0; len < 70; len++)
	{
		for (int round = 0; round < 200; round++)
		{
			uint8_t    *name = malloc(len + 1);
			uint8_t    *copy;

			for (size_t i = 0; i < len; i++)
				name[i] = (uint8_t) (next_random(&seed) >> 32);
			copy = exact_copy(name, len);
			same &= wire_vshard(copy, len) == plain_vshard(name, len);
			free(copy);
			free(name);
		}
	}
	ok(same, "wire_vshard is the stated hash for every length");
	ok(wire_vshard((const uint8_t *) "a", 1) == 97 &&
	   wire_vshard((const uint8_t *) "orders", 6) == 741 &&
	   wire_vshard((const uint8_t *) "", 0) == 0, "vshards of some names");
}

/* UTF-8 by its definition: decode, then look at the number. */
static bool
plain_utf8(const uint8_t *p, size_t len)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};

	while (len > 0)
	{
		size_t		n = *p < 0x80 ? 1 : (*p & 0xe0) == 0xc0 ? 2 :
			(*p & 0xf0) == 0xe0 ? 3 : (*p & 0xf8) == 0xf0 ? 4 : 0;
		uint32_t	c;

		if (n == 0 || n > len)
			return false;
		c = n == 1 ? *p : *p & (0x7fu >> n);
		for (size_t i = 1; i < n; i++)
		{
			if ((p[i] & 0xc0) != 0x80)
				return false;
			c = c << 6 | (p[i] & 0x3f);
		}
		if (c < least[n] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
			return false;
		p += n;
		len -= n;
	}
	return true;
}

static void
test_utf8(void)
{
	bool		same = true;
	uint8_t		text[48];	/* 19 + 4 + 19 */

	for (uint32_t x = 0; x < 1u << 24; x++)
	{
		text[0] = (uint8_t) (x >> 16);
		text[1] = (uint8_t) (x >> 8);
		text[2] = (uint8_t) x;
		same &= wire_utf8_valid(text, 3) == plain_utf8(text, 3);
	}
	ok(same, "UTF-8: every string of 3 bytes");

	same = true;
	for (uint32_t x = 0; x < 1u << 16; x++)
	{
		static const uint8_t tails[] = {0x00, 0x7f, 0x80, 0xbf, 0xc0, 0xff};

		for (uint32_t lead = 0xee; lead < 0x100; lead++)
		{
			for (int t = 0; t < 6; t++)
			{
				text[0] = (uint8_t) lead;
				text[1] = (uint8_t) (x >> 8);
				text[2] = (uint8_t) x;
				text[3] = tails[t];
				same &= wire_utf8_valid(text, 4) == plain_utf8(text, 4);
			}
		}
	}
	ok(same, "UTF-8: strings of 4 bytes");

	same = true;
	for (size_t before = 0; before < 20; before++)
	{
		for (size_t after = 0; after < 20; after++)
		{
			static const char *const middles[] = {
				"", "\xc3\xa9", "\xff", "\xe2\x82\xac", "\xe2\x82",
				"\xf0\x9f\x98\x80", "\xf0\x9f\x98", "\x80", "\xc3"
			};

			for (int m = 0; m < 9; m++)
			{
				size_t		middle = strlen(middles[m]);
				uint8_t    *copy;

				memset(text, 'x', sizeof(text));
				memcpy(text + before, middles[m], middle);
				copy = exact_copy(text, before + middle + after);
				same &= wire_utf8_valid(copy, before + middle + after) ==
					plain_utf8(text, before + middle + after);
				free(copy);
			}
		}
	}
	ok(same, "UTF-8: among ASCII, at the end, cut off");
}

static void
test_examples(void)
{
	WireDecoder *decoder = new_decoder(ROOM_TXNS, ROOM_VSHARDS);
	WireBuffer	bytes;
	WireTxn		txn;
	const WireEntry *entry = &decoder->entry;

	ok(wire_decode(decoder, NULL, 0) && entry->kind == WIRE_NOOP &&
	   entry->length == 0 && !wire_next_txn(decoder, &txn),
	   "no bytes are a no-op");

	bytes = from_hex("92ad436f6d706c6574696f6e41636b930703cd03e8");
	ok(wire_decode(decoder, bytes.data, bytes.len) &&
	   entry->kind == WIRE_COMPLETION_ACK && entry->epoch == 7 &&
	   entry->position == 3 && entry->vshard_id == 1000 &&
	   entry->length == 21 && !wire_next_txn(decoder, &txn),
	   "CompletionAck(7, 3, 1000)");
	wire_buffer_free(&bytes);

	bytes = from_hex("92aa45706f6368426174636891930090ff");
	ok(wire_decode(decoder, bytes.data, bytes.len) &&
	   entry->kind == WIRE_EPOCH_BATCH && entry->epoch == 0 &&
	   entry->epoch_system_ms == -1 && entry->txn_count == 0 &&
	   entry->length == 17 && !wire_next_txn(decoder, &txn),
	   "an empty batch");
	wire_buffer_free(&bytes);

	bytes = from_hex("92aa45706f636842617463689193019194010095909292a8446f"
					 "63756d656e7492a161910192a8446f63756d656e7492a1629102"
					 "c401ab01c000d30000018bcfe56800");
	ok(wire_decode(decoder, bytes.data, bytes.len) &&
	   entry->kind == WIRE_EPOCH_BATCH && entry->epoch == 1 &&
	   entry->epoch_system_ms == INT64_C(1700000000000) &&
	   entry->txn_count == 1 && entry->length == bytes.len,
	   "a batch of one transaction");
	ok(wire_next_txn(decoder, &txn) && txn.position == 0 &&
	   txn.tenant_id == 1 && txn.plans.len == 1 && txn.plans.data[0] == 0xab &&
	   txn.vshard_count == 2 && txn.vshards[0] == 97 && txn.vshards[1] == 98 &&
	   txn.canonical && txn.tx_class.data == bytes.data + 19 &&
	   txn.tx_class.data[txn.tx_class.len - 1] == 0xc0 &&
	   txn.tx_class.len == bytes.len - 19 - 10, "its transaction");
	ok(!wire_next_txn(decoder, &txn), "is the only one");
	wire_rewind(decoder);
	ok(wire_next_txn(decoder, &txn) && txn.position == 0, "and comes again");
	wire_buffer_free(&bytes);

	bytes = from_hex(rich_entry);
	ok(wire_decode(decoder, bytes.data, bytes.len) && entry->epoch == 300 &&
	   entry->epoch_system_ms == -32769 && entry->txn_count == 2 &&
	   wire_next_txn(decoder, &txn) && txn.canonical &&
	   txn.tenant_id == UINT64_C(1) << 32 && txn.plans.len == 40 &&
	   txn.vshard_count >= 5 && txn.vshards[0] == 0 &&
	   txn.vshards[txn.vshard_count - 1] == 1023 &&
	   wire_next_txn(decoder, &txn) && txn.canonical && txn.position == 1 &&
	   txn.vshard_count == 0 && txn.plans.len == 0 &&
	   !wire_next_txn(decoder, &txn), "an entry with everything");
	wire_buffer_free(&bytes);
	free_decoder(decoder);
}

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

static void
check_canonical(WireDecoder *decoder, const char *tx_class, bool canonical,
				const char *name)
{
	WireBuffer	bytes = batch_of(tx_class);
	WireTxn		txn;

	ok(wire_decode(decoder, bytes.data, bytes.len) &&
	   wire_next_txn(decoder, &txn) && txn.canonical == canonical,
	   "%scanonical: %s", canonical ? "" : "not ", name);
	wire_buffer_free(&bytes);
}

static void
test_canonical_flag(void)
{
	WireDecoder *d = new_decoder(ROOM_TXNS, ROOM_VSHARDS);

	check_canonical(d, "95 90 90 c400 00 c0", true, "the empty TxClass");
	check_canonical(d, "dc0005 90 90 c400 00 c0", false, "array16 around it");
	check_canonical(d, "95 dc0000 90 c400 00 c0", false, "array16 read_set");
	check_canonical(d, "95 90 dd00000000 c400 00 c0", false, "array32 sets");
	check_canonical(d, "95 90 90 c50000 00 c0", false, "bin16 plans");
	check_canonical(d, "95 90 90 c400 cc00 c0", false, "uint8 tenant 0");
	check_canonical(d, "95 90 90 c400 cc7f c0", false, "uint8 tenant 127");
	check_canonical(d, "95 90 90 c400 cc80 c0", true, "uint8 tenant 128");
	check_canonical(d, "95 90 90 c400 cd00ff c0", false, "uint16 tenant 255");
	check_canonical(d, "95 90 90 c400 cd0100 c0", true, "uint16 tenant 256");
	check_canonical(d, "95 90 90 c400 ce0000ffff c0", false,
					"uint32 tenant 65535");
	check_canonical(d, "95 90 90 c400 ce00010000 c0", true,
					"uint32 tenant 65536");
	check_canonical(d, "95 90 90 c400 cf00000000ffffffff c0", false,
					"uint64 tenant 2^32 - 1");
	check_canonical(d, "95 90 90 c400 cf0000000100000000 c0", true,
					"uint64 tenant 2^32");
	free_decoder(d);
}

/* Sets that are, and are not, strictly ascending. */
static void
test_order_flag(void)
{
	static const struct
	{
		bool		canonical;
		const char *set;
	}			cases[] = {
		{true, "a8446f63756d656e74 92a161 920102"},
		{false, "a8446f63756d656e74 92a161 920201"},
		{false, "a8446f63756d656e74 92a161 920101"},
		{true, "a8446f63756d656e74 92a161 9200cc80"},
		{false, "a8446f63756d656e74 92a161 9200cc7f"},
		{false, "a8446f63756d656e74 92a161 91cd0080"},
		{false, "a8446f63756d656e74 92a161 91ce00008000"},
		{false, "a8446f63756d656e74 92a161 92cd012c05"},
		{false, "a8446f63756d656e74 92a161 dc00020102"},
		{false, "a8446f63756d656e74 dc0002a161 920102"},
		{false, "a8446f63756d656e74 92d90161 920102"},
		{false, "d908446f63756d656e74 92a161 920102"},
		{true, "a6566563746f72 92a161 9200ceffffffff"},
		{false, "a6566563746f72 92a161 92ceffffffff00"},
		{true, "a24b76 92a161 92909100"},
		{false, "a24b76 92a161 92910090"},
		{false, "a24b76 92a161 929090"},
		{true, "a24b76 92a161 92917f91cc80"},
		{false, "a24b76 92a161 9291cc80917f"},
		{true, "a24b76 92a161 9291cc8092cc8000"},
		{false, "a24b76 92a161 9292cc800091cc80"},
		{false, "a24b76 92a161 9191cc7f"},
		{false, "a24b76 92a161 91dc000101"},
		{true, "a24b76 92a161 92920102920103"},
		{false, "a24b76 92a161 92920103920102"},
		{true, "a445646765 92a161 92920102920103"},
		{true, "a445646765 92a161 929201cd1000920200"},
		{false, "a445646765 92a161 929202009201cd1000"},
		{false, "a445646765 92a161 92920102920102"},
		{true, "a445646765 92a161 92920000920001"},
		{false, "a445646765 92a161 92920000920000"},
		{false, "a445646765 92a161 91dc00020000"},
		{false, "a445646765 92a161 9192cc0000"},
	};
	WireDecoder *decoder = new_decoder(ROOM_TXNS, ROOM_VSHARDS);

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		/* in the write_set, in the read_set, and in dependent reads */
		static const char *const around[][2] = {
			{"95 90 91 92", "c400 00 c0"},
			{"95 91 92", "90 c400 00 c0"},
			{"95 90 90 c400 00 91 81 05 91 91 92", ""}
		};

		for (int place = 0; place < 3; place++)
		{
			char		tx_class[256];

			snprintf(tx_class, sizeof(tx_class), "%s %s %s", around[place][0],
					 cases[i].set, around[place][1]);
			check_canonical(decoder, tx_class, cases[i].canonical, tx_class);
		}
	}

	check_canonical(decoder, "95 90 90 c400 00 91 82 05 90 06 90", true,
					"map keys ascend");
	check_canonical(decoder, "95 90 90 c400 00 91 82 06 90 05 90", false,
					"map keys descend");
	check_canonical(decoder, "95 90 90 c400 00 91 82 05 90 05 90", false,
					"map keys repeat");
	check_canonical(decoder, "95 90 90 c400 00 91 81 cc05 90", false,
					"map key wide");
	check_canonical(decoder, "95 90 90 c400 00 91 de0001 05 90", false,
					"map16");
	check_canonical(decoder, "95 90 90 c400 00 91 80", true, "empty map");
	free_decoder(decoder);
}

static void
test_errors(void)
{
	static const struct
	{
		const char *hex;		/* the value at fault between '|' */
		WireStatus	status;
		const char *field;
	}			cases[] = {
		{"|c0", WIRE_WRONG_TYPE, "entry"},
		{"|91aa", WIRE_WRONG_LENGTH, "entry"},
		{"92|c403", WIRE_WRONG_TYPE, "entry.variant"},
		{"92|aa45706f63684261746369 91", WIRE_WRONG_TAG, "entry.variant"},
		{"92aa45706f6368426174|", WIRE_TRUNCATED, "entry.variant"},
		{"92ad436f6d706c6574696f6e41636b|9207", WIRE_WRONG_LENGTH,
		"entry.payload"},
		{"92ad436f6d706c6574696f6e41636b93|cfffffffffffffffff 00 00",
		WIRE_OUT_OF_RANGE, "epoch"},
		{"92ad436f6d706c6574696f6e41636b9307|cf0000000000000003 00",
		WIRE_WRONG_TYPE, "position"},
		{"92ad436f6d706c6574696f6e41636b9307|cf0000000100000000 00",
		WIRE_OUT_OF_RANGE, "position"},
		{"92ad436f6d706c6574696f6e41636b930703|", WIRE_TRUNCATED, "vshard_id"},
		{"92ad436f6d706c6574696f6e41636b930703cd03|", WIRE_TRUNCATED,
		"vshard_id"},
		{"92aa45706f63684261746368 91 93 05 |ddffffffff", WIRE_TRUNCATED,
		"txns"},
		{"92aa45706f63684261746368 91 93 05 90 |cc05", WIRE_WRONG_TYPE,
		"epoch_system_ms"},
		{"92aa45706f63684261746368 91 93 05 91 |93 05 00 9590909090000000",
		WIRE_WRONG_LENGTH, "txns.txn"},
		{"92aa45706f63684261746368 91 93 05 91 94 05 00 95 90 91 92 a24b76 92"
		 "|a1ff 90 c400 00 c0 00 00", WIRE_BAD_UTF8,
		"txns.tx_class.write_set.collection"},
		{"92aa45706f63684261746368 91 93 05 91 94 05 00 95 91 92 a24b76 92"
		 "a161 91 92 05 |ff 90 c400 00 c0 00 00", WIRE_WRONG_TYPE,
		"txns.tx_class.read_set.keys"},
		{"92aa45706f63684261746368 91 93 05 91 94 05 00 95 90 91 92 |a24b77 92"
		 "a161 90 c400 00 c0 00 00", WIRE_WRONG_TAG,
		"txns.tx_class.write_set.variant"},
		{"92aa45706f63684261746368 91 93 05 91 94 05 00 95 90 91 92"
		 "a445646765 92 a161 91 92 00 |d000 c400 00 c0 00 00", WIRE_WRONG_TYPE,
		"txns.tx_class.write_set.edges"},
		{"92aa45706f63684261746368 91 93 05 91 94 05 00 95 90 90 |90 00 c0 00"
		 "00 00", WIRE_WRONG_TYPE, "txns.tx_class.plans"},
		{"92aa45706f63684261746368 91 93 05 91 94 05 00 95 90 90 c400 00 91 81"
		 "|cd0400 90 00 00", WIRE_OUT_OF_RANGE,
		"txns.tx_class.dependent_reads.vshard"},
		{"92aa45706f63684261746368 91 93 05 91 94 05 00 95 90 90 c400"
		 "|cf8000000000000000 c0 00 00", WIRE_OUT_OF_RANGE,
		"txns.tx_class.tenant_id"},
		{"92aa45706f63684261746368 91 93 |cf7fffffffffffffff 90 00",
		WIRE_OUT_OF_RANGE, "epoch"},
	};
	WireDecoder *decoder = new_decoder(ROOM_TXNS, ROOM_VSHARDS);

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		WireBuffer	bytes = from_hex(cases[i].hex);
		char		before[256];
		WireBuffer	prefix;
		WireTxn		txn;
		bool		refused;

		snprintf(before, sizeof(before), "%.*s",
				 (int) strcspn(cases[i].hex, "|"), cases[i].hex);
		prefix = from_hex(before);
		refused = !wire_decode(decoder, bytes.data, bytes.len);
		if (!ok(refused && decoder->error.status == cases[i].status &&
				decoder->error.offset == prefix.len &&
				strcmp(decoder->error.field, cases[i].field) == 0 &&
				decoder->error.expected[0] != '\0' &&
				!wire_next_txn(decoder, &txn),
				"%s in %s", wire_status_name(cases[i].status), cases[i].field))
			diag("%s at %u in %s, expected %s; not at %zu",
				 wire_status_name(decoder->error.status),
				 decoder->error.offset, decoder->error.field,
				 decoder->error.expected, prefix.len);
		wire_buffer_free(&bytes);
		wire_buffer_free(&prefix);
	}

	/* The largest values that are taken. */
	{
		WireBuffer	bytes = from_hex(
			"92aa45706f63684261746368 91 93 cf7ffffffffffffffe 91 94 05 00"
			"95 90 90 c400 cf7fffffffffffffff 91 81 cd03ff 90 00 00");
		WireTxn		txn;

		ok(wire_decode(decoder, bytes.data, bytes.len) &&
		   decoder->entry.epoch == WIRE_MAX_EPOCH &&
		   wire_next_txn(decoder, &txn) && txn.tenant_id == WIRE_MAX_TENANT &&
		   txn.vshard_count == 1 && txn.vshards[0] == 1023,
		   "the largest epoch, tenant and vshard are accepted");
		wire_buffer_free(&bytes);
	}
	free_decoder(decoder);
}

/* A random batch; participants of its transactions as a naive set says. */
static void
put_random_batch(WireBuffer *buffer, uint32_t txns, uint64_t *seed,
				 bool (*wanted)[1024])
{
	memset(wanted, 0, txns * sizeof(*wanted));
	put_hex(buffer, "92aa45706f63684261746368 91 93 07");
	wire_put_array_header(buffer, txns);
	for (uint32_t t = 0; t < txns; t++)
	{
		/* mostly few, sometimes around the bitmap's threshold, or many */
		uint32_t	kind = (uint32_t) (next_random(seed) >> 60);
		uint32_t	sets = kind < 10 ? kind % 5 : kind < 15 ? 20 + kind : 3000;
		uint32_t	reads = (uint32_t) (next_random(seed) >> 61);
		uint32_t	pairs = kind % 3 == 0 ? (kind == 12 ? 1500 : kind) : 0;

		wire_put_array_header(buffer, 4);
		wire_put_uint(buffer, 7);
		wire_put_uint(buffer, t);
		wire_put_array_header(buffer, 5);
		wire_put_array_header(buffer, reads);
		while (reads-- > 0)
			put_hex(buffer, "92 a24b76 92 a3726561 90");
		wire_put_array_header(buffer, sets);
		while (sets-- > 0)
		{
			char		name[32];
			int			len = snprintf(name, sizeof(name), "c%u",
									   (unsigned) (next_random(seed) >> 44));
			uint16_t	vshard;

			put_hex(buffer, "92 a445646765 92");
			wire_put_str(buffer, name, (size_t) len);
			put_hex(buffer, "90");
			vshard = plain_vshard((const uint8_t *) name, (size_t) len);
			wanted[t][vshard] = true;
		}
		put_hex(buffer, "c403 010203");
		wire_put_uint(buffer, t * 1000);
		if (pairs == 0)
			wire_put_nil(buffer);
		else
		{
			wire_put_array_header(buffer, 1);
			wire_put_map_header(buffer, pairs);
			while (pairs-- > 0)
			{
				uint32_t	vshard = (uint32_t) (next_random(seed) >> 54);

				wire_put_uint(buffer, vshard);
				put_hex(buffer, "90");
				wanted[t][vshard] = true;
			}
		}
		wire_put_int(buffer, 0);
	}
	wire_put_int(buffer, 99);
}

static bool
same_participants(const WireTxn *txn, const bool wanted[1024])
{
	int			n = 0;

	for (int v = 0; v < 1024; v++)
	{
		if (!wanted[v])
			continue;
		if (n >= txn->vshard_count || txn->vshards[n] != v)
			return false;
		n++;
	}
	return n == txn->vshard_count;
}

static void
test_staging(void)
{
	enum
	{
		TXNS = 200
	};
	static const uint32_t rooms[][2] = {
		{ROOM_TXNS, ROOM_VSHARDS}, {1, 2048}, {TXNS, 2048}, {1, ROOM_VSHARDS},
		{TXNS - 1, ROOM_VSHARDS}, {TXNS, ROOM_VSHARDS}, {50, 2049}, {50, 3000}
	};
	bool		(*wanted)[1024] = malloc(TXNS * sizeof(*wanted));
	uint64_t	seed = 4711;
	WireBuffer	bytes;
	uint8_t    *copy;
	size_t		first_offset[TXNS] = {0};

	new_buffer(&bytes);
	put_random_batch(&bytes, TXNS, &seed, wanted);
	copy = exact_copy(bytes.data, bytes.len);

	for (size_t r = 0; r < sizeof(rooms) / sizeof(rooms[0]); r++)
	{
		WireDecoder *decoder = new_decoder(rooms[r][0], rooms[r][1]);
		bool		good = wire_decode(decoder, copy, bytes.len) &&
			decoder->entry.txn_count == TXNS &&
			decoder->entry.epoch_system_ms == 99;

		/* once, again, and after stopping half way */
		for (int pass = 0; pass < 3; pass++)
		{
			uint32_t	n = 0;
			WireTxn		txn;

			while (!(pass == 1 && n == TXNS / 2) &&
				   wire_next_txn(decoder, &txn))
			{
				size_t		offset = (size_t) (txn.tx_class.data - copy);

				if (r == 0 && pass == 0)
					first_offset[n] = offset;
				good &= txn.position == n && txn.tenant_id == n * 1000 &&
					offset == first_offset[n] && txn.plans.len == 3 &&
					memcmp(txn.plans.data, "\1\2\3", 3) == 0 &&
					same_participants(&txn, wanted[n]);
				n++;
			}
			good &= n == (pass == 1 ? TXNS / 2 : TXNS);
			wire_rewind(decoder);
		}
		ok(good && decoder->staged <= rooms[r][0],
		   "room for %u transactions and %u vshards: the same transactions",
		   rooms[r][0], rooms[r][1]);
		free_decoder(decoder);
	}
	free(copy);
	wire_buffer_free(&bytes);
	free(wanted);
}

/* One decoder after another entry, and after an error. */
static void
test_reuse(void)
{
	WireDecoder *decoder = new_decoder(1, 2048);
	WireBuffer	rich = from_hex(rich_entry);
	WireBuffer	ack = from_hex("92ad436f6d706c6574696f6e41636b930703cd03e8");
	WireTxn		txn;
	bool		good;

	good = wire_decode(decoder, rich.data, rich.len) &&
		wire_next_txn(decoder, &txn) && wire_next_txn(decoder, &txn);
	good &= wire_decode(decoder, ack.data, ack.len) &&
		decoder->entry.txn_count == 0 && !wire_next_txn(decoder, &txn);
	good &= !wire_decode(decoder, rich.data, rich.len - 1) &&
		!wire_next_txn(decoder, &txn);
	good &= wire_decode(decoder, rich.data, rich.len) &&
		decoder->error.status == WIRE_OK && wire_next_txn(decoder, &txn) &&
		txn.position == 0 && wire_next_txn(decoder, &txn) &&
		txn.position == 1 && !wire_next_txn(decoder, &txn);
	ok(good, "a decoder is used again, after an error too");
	wire_buffer_free(&rich);
	wire_buffer_free(&ack);
	free_decoder(decoder);
}

int
main(void)
{
	test_vshard();
	test_utf8();
	test_examples();
	test_canonical_flag();
	test_order_flag();
	test_errors();
	test_staging();
	test_reuse();
	return done();
}
