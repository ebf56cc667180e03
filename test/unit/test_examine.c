/*
 * test_examine.c
 *	  Seeing at once that an entry is canonical, against making its canonical
 *	  form: on all vectors, on what mutations make of them, and on entries that
 *	  break one rule alone.
 */
#include <stdlib.h>
#include <string.h>

#include "consistent.h"
#include "fuzz.h"
#include "support.h"
#include "tap.h"

/* Room for a mutation to grow. */
#define MOST(len) (2 * (len) + 64)

typedef struct Counts
{
	uint32_t	canonical;
	uint32_t	accepted;
	uint32_t	refused;
} Counts;

/* consistent() compares the two ways; here we count what was compared. */
static bool
agree(const uint8_t *data, size_t len, Counts *counts)
{
	uint8_t    *copy = exact_copy(data, len);
	bool		accepted;
	bool		canonical;
	WireEntry	entry;
	const char *wrong = consistent(copy, len, &accepted);

	if (wrong != NULL)
		diag("%s", wrong);
	(void) wire_examine(copy, len, &entry, &canonical);
	if (canonical)
		counts->canonical++;
	else if (accepted)
		counts->accepted++;
	else
		counts->refused++;
	free(copy);
	return wrong == NULL;
}

static bool
mutants_agree(const WireBuffer *entry, int rounds, uint64_t *seed, Counts *counts)
{
	uint8_t    *mutant = malloc(MOST(entry->len));
	bool		good = true;

	for (int i = 0; i < rounds; i++)
	{
		size_t		len = entry->len;

		memcpy(mutant, entry->data, len);
		/* one change alone most of the time */
		do
			len = entry_mutate(mutant, len, MOST(entry->len), next_random(seed));
		while (len > 0 && next_random(seed) >> 62 == 0);
		good &= agree(mutant, len, counts);
	}
	free(mutant);
	return good;
}

static void
test_vector_file(const char *name, size_t longest, int rounds)
{
	FILE	   *file = open_vectors(name);
	char	   *line = NULL;
	size_t		size = 0;
	uint64_t	seed = 7;
	Counts		as_given = {0, 0, 0};
	Counts		mutated = {0, 0, 0};
	bool		good = true;
	bool		mutants_good = true;

	while (getline(&line, &size, file) > 0)
	{
		WireBuffer	entry = from_hex(json_value(line, "hex") + 1);

		good &= agree(entry.data, entry.len, &as_given);
		if (entry.len > 0 && entry.len <= longest)
			mutants_good &= mutants_agree(&entry, rounds, &seed, &mutated);
		wire_buffer_free(&entry);
	}
	ok(good && as_given.canonical > 10, "%s: %u canonical, %u not, %u refused",
	   name, as_given.canonical, as_given.accepted, as_given.refused);
	ok(mutants_good && mutated.canonical > 1000 && mutated.accepted > 1000 &&
	   mutated.refused > 1000, "%s, mutated: %u canonical, %u not, %u refused",
	   name, mutated.canonical, mutated.accepted, mutated.refused);
	ok(pclose(file) == 0, "%s could be read", name);
	free(line);
}

static void
check(bool accepted, bool canonical, const char *hex, const char *name)
{
	WireBuffer	bytes = from_hex(hex);
	uint8_t    *copy = exact_copy(bytes.data, bytes.len);
	WireEntry	entry;
	bool		is_canonical;
	bool		verdict = wire_examine(copy, bytes.len, &entry, &is_canonical);
	Counts		counts = {0, 0, 0};

	ok(verdict == accepted && is_canonical == canonical &&
	   agree(copy, bytes.len, &counts), "%s", name);
	free(copy);
	wire_buffer_free(&bytes);
}

#define BATCH "92aa45706f636842617463689193 05 91 94 05 00 "
#define END " 00 00"
#define EMPTY "95 90 90 c400 00 c0"

static void
test_one_rule(void)
{
	static const char *const noncanonical[][2] = {
		{"dc0002 aa45706f636842617463689193 05 90 00", "entry as array16"},
		{"92 d90a45706f63684261746368 91 93 05 90 00", "variant as str8"},
		{"92 aa45706f63684261746368 dc0001 93 05 90 00", "payload as array16"},
		{"92 aa45706f63684261746368 91 dd00000003 05 90 00", "batch as array32"},
		{"92aa45706f636842617463689193 cc05 90 00", "epoch as uint8"},
		{"92aa45706f636842617463689193 05 dc0000 00", "txns as array16"},
		{"92aa45706f636842617463689193 05 90 d000", "batch's ms as int8"},
		{"92aa45706f636842617463689193 05 90 00 c0", "a byte after the batch"},
		{"92aa45706f636842617463689193 05 91 dc0004 05 00" EMPTY END, "txn as array16"},
		{"92aa45706f636842617463689193 05 91 94 cd0005 00" EMPTY END, "txn's epoch as uint16"},
		{"92aa45706f636842617463689193 05 91 94 05 ce00000000" EMPTY END, "position as uint32"},
		{"92aa45706f636842617463689193 05 91 94 06 00" EMPTY END, "another epoch"},
		{"92aa45706f636842617463689193 05 91 94 05 01" EMPTY END, "another position"},
		{"92aa45706f636842617463689193 05 92 94 05 00" EMPTY "00 94 05 00" EMPTY END,
		"a position again"},
		{BATCH EMPTY "d000 00", "txn's ms as int8"},
		{BATCH "dc0005 90 90 c400 00 c0" END, "TxClass as array16"},
		{BATCH "95 dc0000 90 c400 00 c0" END, "read_set as array16"},
		{BATCH "95 90 dd00000000 c400 00 c0" END, "write_set as array32"},
		{BATCH "95 90 90 c50000 00 c0" END, "plans as bin16"},
		{BATCH "95 90 90 c400 cc7f c0" END, "tenant as uint8"},
		{BATCH "95 90 91 dc0002 a24b76 92 a161 90 c400 00 c0" END, "key set as array16"},
		{BATCH "95 90 91 92 d9024b76 92 a161 90 c400 00 c0" END, "Kv as str8"},
		{BATCH "95 90 91 92 d908446f63756d656e74 92 a161 90 c400 00 c0" END, "Document as str8"},
		{BATCH "95 90 91 92 da0006566563746f72 92 a161 90 c400 00 c0" END, "Vector as str16"},
		{BATCH "95 90 91 92 d90445646765 92 a161 90 c400 00 c0" END, "Edge as str8"},
		{BATCH "95 90 91 92 a24b76 dc0002 a161 90 c400 00 c0" END, "a Kv's payload as array16"},
		{BATCH "95 90 91 92 a8446f63756d656e74 dc0002 a161 90 c400 00 c0" END,
		"a Document's payload as array16"},
		{BATCH "95 90 91 92 a6566563746f72 dd00000002 a161 90 c400 00 c0" END,
		"a Vector's payload as array32"},
		{BATCH "95 90 91 92 a445646765 dc0002 a161 90 c400 00 c0" END,
		"an Edge's payload as array16"},
		{BATCH "95 90 91 92 a24b76 92 d90161 90 c400 00 c0" END, "collection as str8"},
		{BATCH "95 90 91 92 a6566563746f72 92 a161 dc0001 05 c400 00 c0" END,
		"surrogates as array16"},
		{BATCH "95 90 91 92 a6566563746f72 92 a161 91 cc05 c400 00 c0" END, "surrogate as uint8"},
		{BATCH "95 90 91 92 a6566563746f72 92 a161 92 0201 c400 00 c0" END, "surrogates descend"},
		{BATCH "95 90 91 92 a6566563746f72 92 a161 92 0101 c400 00 c0" END, "a surrogate again"},
		{BATCH "95 91 92 a6566563746f72 92 a161 92 0201 90 c400 00 c0" END, "read_set's descend"},
		{BATCH "95 90 91 92 a24b76 92 a161 dc0001 9161 c400 00 c0" END, "keys as array16"},
		{BATCH "95 90 91 92 a24b76 92 a161 91 dc000161 c400 00 c0" END, "key as array16"},
		{BATCH "95 90 91 92 a24b76 92 a161 91 91cc61 c400 00 c0" END, "key's byte as uint8"},
		{BATCH "95 90 91 92 a24b76 92 a161 92 9162 9161 c400 00 c0" END, "keys descend"},
		{BATCH "95 90 91 92 a24b76 92 a161 92 9161 9161 c400 00 c0" END, "a key again"},
		{BATCH "95 90 91 92 a24b76 92 a161 92 926161 9161 c400 00 c0" END, "a key before its prefix"},
		{BATCH "95 90 91 92 a445646765 92 a161 dc0001 920000 c400 00 c0" END, "edges as array16"},
		{BATCH "95 90 91 92 a445646765 92 a161 91 dc00020000 c400 00 c0" END, "edge as array16"},
		{BATCH "95 90 91 92 a445646765 92 a161 91 9200cc00 c400 00 c0" END, "edge's end as uint8"},
		{BATCH "95 90 91 92 a445646765 92 a161 92 920001 920000 c400 00 c0" END, "edges descend"},
		{BATCH "95 90 91 92 a445646765 92 a161 92 920001 920001 c400 00 c0" END, "an edge again"},
		{BATCH "95 90 90 c400 00 dc0001 80" END, "dependent reads as array16"},
		{BATCH "95 90 90 c400 00 91 de0000" END, "map16"},
		{BATCH "95 90 90 c400 00 91 81 cc05 90" END, "vshard as uint8"},
		{BATCH "95 90 90 c400 00 91 82 06 90 05 90" END, "vshards descend"},
		{BATCH "95 90 90 c400 00 91 82 05 90 05 90" END, "a vshard again"},
		{BATCH "95 90 90 c400 00 91 81 05 dc0000" END, "keys of a vshard as array16"},
		{BATCH "95 90 90 c400 00 91 81 05 91 dc0001 92 a24b76 92 a161 90" END,
		"a passive key as array16"},
		{BATCH "95 90 90 c400 00 91 81 05 91 91 92 a24b76 92 a161 92 9162 9161" END,
		"a vshard's keys descend"},
		{"dc0002 ad436f6d706c6574696f6e41636b 93 07 03 cd03e8", "ack as array16"},
		{"92 d90d436f6d706c6574696f6e41636b 93 07 03 cd03e8", "ack's variant as str8"},
		{"92ad436f6d706c6574696f6e41636b dc0003 07 03 cd03e8", "ack's payload as array16"},
		{"92ad436f6d706c6574696f6e41636b 93 cc07 03 cd03e8", "ack's epoch as uint8"},
		{"92ad436f6d706c6574696f6e41636b 93 07 cd0003 cd03e8", "ack's position as uint16"},
		{"92ad436f6d706c6574696f6e41636b 93 07 03 ce000003e8", "ack's vshard as uint32"},
		{"92ad436f6d706c6574696f6e41636b 93 07 03 cd03e8 00", "a byte after the ack"},
	};
	static const char *const lenient[][2] = {
		{"92aa45706f636842617463689193 d005 90 00", "epoch as int8"},
		{"92aa45706f636842617463689193 05 90 cc80", "ms as uint8"},
		{BATCH "95 90 90 90 00 c0" END, "plans as array"},
		{BATCH "95 90 91 92 a24b76 92 a161 91 c40161 c400 00 c0" END, "key as bin"},
		{BATCH "95 90 91 92 a6566563746f72 92 a161 91 cf0000000000000005 c400 00 c0" END,
		"surrogate as uint64"},
		{"92aa45706f636842617463689193 cf7fffffffffffffff 90 00", "epoch 2^63 - 1"},
		{BATCH "95 90 90 c400 cf8000000000000000 c0" END, "tenant 2^63"},
		{BATCH "95 90 90 c400 00 91 81 cd0400 90" END, "vshard 1024"},
		{BATCH "95 90 91 92 a24b76 92 a1ff 90 c400 00 c0" END, "a collection that is no UTF-8"},
	};
	static const char *const canonical[][2] = {
		{"", "no bytes"},
		{"92aa45706f636842617463689193 00 90 ff", "an empty batch"},
		{"92aa45706f636842617463689193 cf7ffffffffffffffe 90 d38000000000000000",
		"the highest epoch, the lowest ms"},
		{BATCH EMPTY END, "an empty transaction"},
		{BATCH "95 90 90 c400 cf7fffffffffffffff c0" END, "the highest tenant"},
		{BATCH "95 90 90 c400 00 91 82 00 90 cd03ff 90" END, "the highest vshard"},
		{BATCH "95 90 92 92 a24b76 92 a162 90 92 a24b76 92 a161 90 c400 00 c0" END,
		"collections that descend"},
		{"92ad436f6d706c6574696f6e41636b 93 07 03 ceffffffff", "an ack"},
	};

	for (size_t i = 0; i < sizeof(noncanonical) / sizeof(noncanonical[0]); i++)
		check(true, false, noncanonical[i][0], noncanonical[i][1]);
	for (size_t i = 0; i < sizeof(lenient) / sizeof(lenient[0]); i++)
		check(false, false, lenient[i][0], lenient[i][1]);
	for (size_t i = 0; i < sizeof(canonical) / sizeof(canonical[0]); i++)
		check(true, true, canonical[i][0], canonical[i][1]);
}

static void
test_too_large(void)
{
	size_t		len = (size_t) WIRE_MAX_ENTRY + 1;
	uint8_t    *big = calloc(1, len);
	WireBuffer	ack = from_hex("92ad436f6d706c6574696f6e41636b930703cd03e8");
	WireEntry	entry;
	bool		canonical;

	if (big == NULL)
		ok(true, "an entry over the limit # SKIP no memory");
	else
	{
		memcpy(big, ack.data, ack.len);
		ok(!wire_examine(big, len, &entry, &canonical) && !canonical,
		   "an entry over the limit");
	}
	free(big);
	wire_buffer_free(&ack);
}

int
main(void)
{
	WireBuffer	rich = from_hex(rich_entry);
	uint64_t	seed = 2024;
	Counts		counts = {0, 0, 0};
	bool		good;

	test_one_rule();
	test_too_large();
	ok(agree(rich.data, rich.len, &counts) && counts.canonical == 1,
	   "an entry with everything in it");
	counts.canonical = 0;
	good = mutants_agree(&rich, 20000, &seed, &counts);
	ok(good && counts.canonical > 1000 &&
	   counts.accepted > 1000 && counts.refused > 1000,
	   "mutated: %u canonical, %u not, %u refused", counts.canonical,
	   counts.accepted, counts.refused);
	test_vector_file("accept.jsonl", 4096, 100);
	test_vector_file("basic.jsonl", 4096, 100);
	test_vector_file("rough.jsonl", 4096, 100);
	wire_buffer_free(&rich);
	return done();
}
