/*
 * test_robust.c
 *	  Entries that are cut off, corrupted or lying.  Every one is read from
 *	  memory of exactly its size, so that the sanitizers see a read too far.
 */
#include <stdlib.h>
#include <string.h>

#include "consistent.h"
#include "tap.h"
#include "walk.h"

static WireDecoder *decoder;

/* Whether all is well with these bytes. */
static bool
handled(const void *data, size_t len, bool *accepted)
{
	uint8_t    *copy = exact_copy(data, len);
	const char *wrong = consistent(copy, len, accepted);

	if (wrong != NULL)
		diag("%s", wrong);
	free(copy);
	return wrong == NULL;
}

static void
test_truncation(void)
{
	WireBuffer	rich = from_hex(rich_entry);
	uint32_t	refused = 0;
	bool		good = true;

	for (size_t len = 1; len < rich.len; len++)
	{
		bool		accepted;

		good &= handled(rich.data, len, &accepted);
		wire_decode(decoder, rich.data, len);
		if (!accepted && decoder->error.status == WIRE_TRUNCATED)
			refused++;
		else
			diag("%zu bytes: %s", len,
				 wire_status_name(decoder->error.status));
	}
	ok(good, "every truncation is a proper error");
	is_u64(refused, rich.len - 1, "and is called one");
	wire_buffer_free(&rich);
}

static void
test_corruption(void)
{
	WireBuffer	rich = from_hex(rich_entry);
	uint32_t	accepted_count = 0;
	uint32_t	refused_count = 0;
	uint64_t	seed = 99;
	bool		good = true;

	for (size_t at = 0; at < rich.len; at++)
	{
		uint8_t		was = rich.data[at];

		for (int byte = 0; byte < 256; byte++)
		{
			bool		accepted;

			rich.data[at] = (uint8_t) byte;
			good &= handled(rich.data, rich.len, &accepted);
			if (accepted)
				accepted_count++;
			else
				refused_count++;
		}
		rich.data[at] = was;
	}
	ok(good, "every corruption of one byte is handled");
	ok(accepted_count > 5000 && refused_count > 20000,
	   "some are accepted (%u), most are refused (%u)", accepted_count,
	   refused_count);

	good = true;
	for (int round = 0; rich.len > 0 && round < 60000; round++)
	{
		WireBuffer	mutant;
		int			changes = 1 + (int) (next_random(&seed) >> 62);
		bool		accepted;

		new_buffer(&mutant);
		wire_put_raw(&mutant, rich.data, rich.len);
		while (changes-- > 0)
		{
			size_t		at = (size_t) (next_random(&seed) >> 16) % mutant.len;
			size_t		from = (size_t) (next_random(&seed) >> 16) % rich.len;
			size_t		n = 1 + (size_t) (next_random(&seed) >> 60);

			/* overwrite, cut out, or repeat a piece */
			switch (next_random(&seed) >> 62)
			{
				case 0:
					mutant.data[at] = (uint8_t) (next_random(&seed) >> 56);
					break;
				case 1:
					if (at + n < mutant.len)
					{
						memmove(mutant.data + at, mutant.data + at + n,
								mutant.len - at - n);
						mutant.len -= n;
					}
					break;
				default:
					if (at + n < mutant.len && from + n < rich.len)
						memcpy(mutant.data + at, rich.data + from, n);
					break;
			}
		}
		good &= handled(mutant.data, mutant.len, &accepted);
		wire_buffer_free(&mutant);
	}
	ok(good, "random corruption is handled");
	wire_buffer_free(&rich);
}

/* The rich entry with one header in another form. */
static void
put_changed(WireBuffer *buffer, const WireBuffer *rich, const WalkValue *value,
			const uint8_t *form, size_t len)
{
	buffer->len = 0;
	wire_put_raw(buffer, rich->data, value->offset);
	wire_put_raw(buffer, form, len);
	wire_put_raw(buffer, rich->data + value->offset + value->header,
				 rich->len - value->offset - value->header);
}

static void
test_lies(void)
{
	WireBuffer	rich = from_hex(rich_entry);
	WalkValue	values[400];
	size_t		count = walk(rich.data, rich.len, values, 400);
	WireBuffer	lie;
	bool		good = true;
	bool		refused = true;
	uint32_t	lies = 0;

	new_buffer(&lie);
	for (size_t i = 0; i < count; i++)
	{
		static const uint64_t lengths[] = {
			UINT32_MAX, UINT32_MAX - 1, 0x80000000, 0x7fffffff, 1 << 28, 400
		};

		for (size_t l = 0; l < sizeof(lengths) / sizeof(lengths[0]); l++)
		{
			uint8_t		form[9];
			bool		accepted;

			if (values[i].type == WALK_UINT || values[i].type == WALK_INT ||
				values[i].type == WALK_NIL)
				continue;
			put_changed(&lie, &rich, &values[i], form,
						wide_form(form, values[i].type, 4, lengths[l]));
			good &= handled(lie.data, lie.len, &accepted);
			refused &= !accepted &&
				(wire_decode(decoder, lie.data, lie.len),
				 decoder->error.status == WIRE_TRUNCATED ||
				 decoder->error.status == WIRE_WRONG_LENGTH);
			lies++;
		}
	}
	ok(good && refused && lies > 400, "%u lies about lengths are refused",
	   lies);

	/* One too many or too few, which only the values after it give away. */
	good = true;
	refused = true;
	for (size_t i = 0; i < count; i++)
	{
		for (int change = -1; change <= 1; change += 2)
		{
			uint8_t		form[9];
			bool		accepted;

			if (values[i].type != WALK_ARRAY && values[i].type != WALK_MAP)
				continue;
			if (change < 0 && values[i].number == 0)
				continue;
			put_changed(&lie, &rich, &values[i], form,
						wide_form(form, values[i].type, 4,
								  values[i].number + (uint64_t) change));
			good &= handled(lie.data, lie.len, &accepted);
			refused &= !accepted;
		}
	}
	ok(good, "counts that are off by one are handled");
	ok(refused, "and refused");
	wire_buffer_free(&lie);
	wire_buffer_free(&rich);
}

static void
test_nesting(void)
{
	static const uint8_t bytes[] = {0x91, 0x92, 0x81, 0x93, 0x95, 0xdd, 0xdf,
	0xc1, 0xff, 0x00, 0xdb, 0xc6};
	enum
	{
		DEPTH = 1000000
	};
	WireBuffer	rich = from_hex(rich_entry);
	WalkValue	values[400];
	size_t		count = walk(rich.data, rich.len, values, 400);
	uint8_t    *deep = malloc(DEPTH);
	bool		good = true;
	bool		refused = true;

	for (size_t b = 0; b < sizeof(bytes); b++)
	{
		bool		accepted;

		memset(deep, bytes[b], DEPTH);
		good &= handled(deep, DEPTH, &accepted);
		refused &= !accepted;
	}
	ok(good && refused, "a million openings");

	good = true;
	for (size_t i = 0; i < count; i++)
	{
		bool		accepted;

		memset(deep, 0x91, DEPTH);
		memcpy(deep, rich.data, values[i].offset);
		good &= handled(deep, DEPTH, &accepted) && !accepted;
	}
	ok(good, "in the place of every value");
	free(deep);
	wire_buffer_free(&rich);
}

static void
test_size_limit(void)
{
	WireBuffer	ack = from_hex("92ad436f6d706c6574696f6e41636b930703cd03e8");
	WireBuffer	batch = from_hex("92aa45706f63684261746368919305 91 94 05 00"
								 "95 90 90 c6");
	uint8_t    *big = calloc(1, (size_t) WIRE_MAX_ENTRY + 1);
	uint32_t	plans = WIRE_MAX_ENTRY - (uint32_t) batch.len - 4 - 4;
	WireTxn		txn;

	if (big == NULL)
	{
		ok(true, "entries at the limit # SKIP no memory");
		wire_buffer_free(&ack);
		wire_buffer_free(&batch);
		return;
	}
	memcpy(big, ack.data, ack.len);
	ok(wire_decode(decoder, big, WIRE_MAX_ENTRY) &&
	   decoder->entry.length == ack.len, "an entry at the limit");
	ok(!wire_decode(decoder, big, (size_t) WIRE_MAX_ENTRY + 1) &&
	   decoder->error.status == WIRE_TOO_LARGE &&
	   decoder->error.offset == WIRE_MAX_ENTRY &&
	   decoder->error.field != NULL && decoder->error.expected != NULL,
	   "and one over it");

	memcpy(big, batch.data, batch.len);
	for (int i = 0; i < 4; i++)
		big[batch.len + (size_t) i] = (uint8_t) (plans >> (24 - 8 * i));
	big[WIRE_MAX_ENTRY - 3] = 0xc0;
	ok(wire_decode(decoder, big, WIRE_MAX_ENTRY) &&
	   decoder->entry.length == WIRE_MAX_ENTRY &&
	   wire_next_txn(decoder, &txn) && txn.plans.len == plans &&
	   txn.canonical, "plans that fill an entry");
	ok(!wire_decode(decoder, big, WIRE_MAX_ENTRY - 1) &&
	   decoder->error.status == WIRE_TRUNCATED &&
	   decoder->error.offset == WIRE_MAX_ENTRY - 1, "but for its last byte");
	free(big);
	wire_buffer_free(&ack);
	wire_buffer_free(&batch);
}

int
main(void)
{
	decoder = new_decoder(ROOM_TXNS, ROOM_VSHARDS);
	test_truncation();
	test_corruption();
	test_lies();
	test_nesting();
	test_size_limit();
	free_decoder(decoder);
	return done();
}
