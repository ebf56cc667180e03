/*
 * test_yield.c
 *	  Interrupting the loops over large entries.
 */
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "support.h"
#include "tap.h"
#include "wire/yield.h"

#define BATCH "92 aa45706f63684261746368 91 93 05 91 94 05 00"
#define END "00 00"

/* Work that the processor does between two yields, in ms. */
#define MOST_MS 100

/* And bytes that it goes through. */
#define MOST_BYTES ((size_t) 8 * 1024 * 1024)

static int	yields;
static int	leave_at; /* yields after which not to return, 0: never */
static double last_ms;
static double longest_ms;
static jmp_buf left;

static double
cpu_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return now.tv_sec * 1000.0 + now.tv_nsec / 1000000.0;
}

static void
note_gap(void)
{
	double		now = cpu_ms();

	if (now - last_ms > longest_ms)
		longest_ms = now - last_ms;
	last_ms = now;
}

static void
yield(void)
{
	note_gap();
	if (++yields == leave_at)
		longjmp(left, 1);
}

static void
begin(int leave)
{
	yields = 0;
	leave_at = leave;
	longest_ms = 0;
	last_ms = cpu_ms();
}

/* In time, and often enough for so many bytes, however fast the processor is. */
static void
was_served(const char *what, size_t bytes)
{
	size_t		least = bytes / MOST_BYTES;

	note_gap();
	if (!ok(yields > 0 && (size_t) yields >= least && longest_ms < MOST_MS,
			"%s: interrupted in time", what))
		diag("%d yields, the longest time between two is %.1f ms", yields, longest_ms);
}

/* What is allocated, so that what a call leaves behind can be let go. */
typedef struct Arena
{
	void	   *blocks[64];
} Arena;

static void *
arena_realloc(void *context, void *pointer, size_t size)
{
	Arena	   *arena = context;
	int			i = 0;

	while (arena->blocks[i] != pointer)
		i++;
	arena->blocks[i] = plain_realloc(NULL, pointer, size);
	return arena->blocks[i];
}

static int
arena_blocks(const Arena *arena)
{
	int			n = 0;

	for (int i = 0; i < 64; i++)
		n += arena->blocks[i] != NULL;
	return n;
}

static void
arena_reset(Arena *arena)
{
	for (int i = 0; i < 64; i++)
		free(arena->blocks[i]);
	memset(arena, 0, sizeof(*arena));
}

/* Entries of one transaction, with what "set" puts where a read set would be. */
static WireBuffer
entry_of(const char *kind, void (*put)(WireBuffer *, uint64_t *), uint32_t count)
{
	WireBuffer	in = from_hex(BATCH "95 91 92");
	uint64_t	seed = 4711;

	wire_put_str(&in, kind, strlen(kind));
	put_hex(&in, "92 a161");
	wire_put_array_header(&in, count);
	for (uint32_t i = 0; i < count; i++)
		put(&in, &seed);
	put_hex(&in, "90 c400 00 c0" END);
	return in;
}

static void
put_surrogate(WireBuffer *in, uint64_t *seed)
{
	wire_put_uint(in, next_random(seed) >> 32);
}

static void
put_edge(WireBuffer *in, uint64_t *seed)
{
	wire_put_array_header(in, 2);
	put_surrogate(in, seed);
	put_surrogate(in, seed);
}

static void
put_some_key(WireBuffer *in, uint64_t *seed, uint32_t same, uint32_t differing)
{
	wire_put_array_header(in, same + differing);
	for (uint32_t i = 0; i < same; i++)
		wire_put_uint(in, 200);
	for (uint32_t i = 0; i < differing; i++)
		wire_put_uint(in, next_random(seed) >> 56);
}

static void
put_key(WireBuffer *in, uint64_t *seed)
{
	put_some_key(in, seed, 0, 8);
}

static void
put_like_key(WireBuffer *in, uint64_t *seed)
{
	put_some_key(in, seed, 2000, 3);
}

static void
put_huge_key(WireBuffer *in, uint64_t *seed)
{
	put_some_key(in, seed, 3000000, 1);
}

static void
test_entry(const char *kind, const char *what,
		   void (*put)(WireBuffer *, uint64_t *), uint32_t count)
{
	WireBuffer	in = entry_of(kind, put, count);
	WireDecoder *decoder = new_decoder(ROOM_TXNS, ROOM_VSHARDS);
	Arena		arena = {{NULL}};
	Arena		scratch = {{NULL}};
	WireBuffer	out;
	WireBuffer	wanted;
	WireEntry	entry;
	WireError	error;
	WireTxn		txn;
	bool		canonical;
	char		name[100];
	int			all;

	wire_yield = yield;
	begin(0);
	ok(wire_decode(decoder, in.data, in.len), "%s decodes", what);
	snprintf(name, sizeof(name), "%s, decoding", what);
	was_served(name, in.len);
	begin(0);
	(void) wire_examine(in.data, in.len, &entry, &canonical);
	snprintf(name, sizeof(name), "%s, examining", what);
	was_served(name, in.len);

	new_buffer(&wanted);
	wire_yield = NULL;
	ok(wire_canonicalise(in.data, in.len, &wanted, &entry, &error),
	   "%s canonicalises", what);
	wire_yield = yield;
	wire_buffer_init(&out, arena_realloc, &arena);
	out.scratch = &scratch;
	begin(0);
	ok(wire_canonicalise(in.data, in.len, &out, &entry, &error) &&
	   same_bytes(&out, wanted.data, wanted.len), "%s: the same with interruptions", what);
	snprintf(name, sizeof(name), "%s, canonicalising", what);
	was_served(name, in.len);
	all = yields;

	/* left early, in the middle, at the end; then all is as new */
	for (int round = 1; round <= 3; round++)
	{
		wire_buffer_reset(&out);
		begin(1 + (all - 1) * (round - 1) / 2);
		if (setjmp(left) == 0)
			(void) wire_canonicalise(in.data, in.len, &out, &entry, &error);
		ok(yields == leave_at && arena_blocks(&arena) <= 1,
		   "%s: left at %d of %d yields, nothing but the buffer stays", what,
		   yields, all);
		arena_reset(&scratch);
		begin(0);
		wire_buffer_reset(&out);
		ok(wire_canonicalise(in.data, in.len, &out, &entry, &error) &&
		   same_bytes(&out, wanted.data, wanted.len) &&
		   arena_blocks(&scratch) == 0, "%s: and again from the start", what);
	}

	begin(1);
	if (setjmp(left) == 0)
		(void) wire_decode(decoder, in.data, in.len);
	begin(0);
	ok(wire_decode(decoder, in.data, in.len) && wire_next_txn(decoder, &txn) &&
	   txn.position == 0 && !wire_next_txn(decoder, &txn),
	   "%s: a decoder that was left decodes again", what);

	wire_yield = NULL;
	arena_reset(&arena);
	free_decoder(decoder);
	wire_buffer_free(&wanted);
	wire_buffer_free(&in);
}

/* More transactions than are staged: the rest is decoded one by one. */
static void
test_many_txns(void)
{
	enum
	{
		COUNT = 1000000
	};
	WireBuffer	in = from_hex("92 aa45706f63684261746368 91 93 05");
	WireDecoder *decoder = new_decoder(16, 2 * WIRE_VSHARDS);
	WireTxn		txn;
	int			n = 0;

	wire_put_array_header(&in, COUNT);
	for (uint32_t i = 0; i < COUNT; i++)
	{
		put_hex(&in, "94 05");
		wire_put_uint(&in, i);
		put_hex(&in, "95 90 90 c400 00 c0 00");
	}
	put_hex(&in, "00");
	wire_yield = yield;
	begin(0);
	ok(wire_decode(decoder, in.data, in.len), "a million transactions decode");
	was_served("a million transactions, decoding", in.len);
	begin(0);
	while (wire_next_txn(decoder, &txn))
		n++;
	is_u64(n, COUNT, "all of them are there");
	was_served("a million transactions, one by one", in.len);
	wire_yield = NULL;
	free_decoder(decoder);
	wire_buffer_free(&in);
}

static void
test_text(void)
{
	size_t		len = 64 * 1024 * 1024;
	uint8_t    *text = malloc(len);

	for (size_t i = 0; i + 1 < len; i += 2)
		memcpy(text + i, "\xc3\xa4", 2);
	wire_yield = yield;
	begin(0);
	ok(wire_utf8_valid(text, len), "64 MB of UTF-8");
	was_served("64 MB of UTF-8", len);
	text[len - 2] = 'x';
	ok(!wire_utf8_valid(text, len), "not valid at its end");
	begin(0);
	(void) wire_vshard(text, len);
	was_served("the vshard of 64 MB", len);
	wire_yield = NULL;
	free(text);
}

/* What is copied, and names, as large as they can be: nothing in them to stop at. */
static void
test_large_values(void)
{
	size_t		len = 64 * 1024 * 1024;
	WireBuffer	in = from_hex(BATCH "95 91 92 a24b76 92");
	WireBuffer	out;
	WireEntry	entry;
	WireError	error;
	bool		canonical;
	uint8_t    *content = calloc(1, len);

	wire_put_str(&in, (const char *) content, len);
	put_hex(&in, "90 90");
	wire_put_bin(&in, content, len);
	put_hex(&in, "00 c0" END);
	new_buffer(&out);
	wire_yield = yield;
	begin(0);
	ok(wire_examine(in.data, in.len, &entry, &canonical) && canonical, "large values are examined");
	was_served("large values, examining", len);
	begin(0);
	ok(wire_canonicalise(in.data, in.len, &out, &entry, &error) &&
	   same_bytes(&out, in.data, in.len), "large values are the same in canonical form");
	was_served("large values, canonicalising", in.len);
	wire_yield = NULL;
	wire_buffer_free(&out);
	wire_buffer_free(&in);
	free(content);
}

int
main(void)
{
	test_entry("Vector", "surrogates", put_surrogate, 2000000);
	test_entry("Edge", "edges", put_edge, 1000000);
	test_entry("Kv", "keys", put_key, 1000000);
	test_entry("Kv", "keys that begin alike", put_like_key, 5000);
	test_entry("Kv", "huge keys", put_huge_key, 6);
	test_many_txns();
	test_text();
	test_large_values();
	return done();
}
