/*
 * consistent.c
 *	  The reader, with much staging and with little, and the canonicaliser on
 *	  the same bytes.
 */
#include "consistent.h"

#include <stdlib.h>
#include <string.h>

#define REQUIRE(condition, what) \
	do { \
		if (!(condition)) \
		{ \
			wrong = what; \
			goto end; \
		} \
	} while (0)

/* What the canonicaliser holds, and the most it held. */
typedef struct Meter
{
	size_t		held;
	size_t		most;
	int			left;			/* allocations until one fails; negative: none */
} Meter;

/* Before each block, so that it stays aligned. */
typedef union MeterHead
{
	size_t		size;
	max_align_t align;			/* cppcheck-suppress unusedStructMember */
} MeterHead;

static void *
metered_realloc(void *context, void *pointer, size_t size)
{
	Meter	   *meter = context;
	MeterHead  *old = pointer != NULL ? (MeterHead *) pointer - 1 : NULL;
	MeterHead  *block;

	if (size == 0)
	{
		if (old != NULL)
			meter->held -= old->size;
		free(old);
		return NULL;
	}
	if (meter->left == 0)
		return NULL;
	if (meter->left > 0)
		meter->left--;
	if (old != NULL)
		meter->held -= old->size;
	block = realloc(old, sizeof(MeterHead) + size);
	if (block == NULL)
		abort();
	block->size = size;
	meter->held += size;
	if (meter->held > meter->most)
		meter->most = meter->held;
	return block + 1;
}

/* A refusal says all that it must. */
static bool
proper_error(const WireError *error, size_t len)
{
	return error->status != WIRE_OK && error->offset <= len &&
		error->field != NULL && error->expected != NULL &&
		strcmp(wire_status_name(error->status), "unknown") != 0;
}

static bool
same_error(const WireError *a, const WireError *b)
{
	return a->status == b->status && a->offset == b->offset &&
		a->field == b->field && a->expected == b->expected;
}

bool
same_entry(const WireEntry *a, const WireEntry *b)
{
	return a->kind == b->kind && a->epoch == b->epoch &&
		a->epoch_system_ms == b->epoch_system_ms &&
		a->txn_count == b->txn_count && a->position == b->position &&
		a->vshard_id == b->vshard_id;
}

static bool
same_txn(const WireTxn *a, const WireTxn *b)
{
	return a->plans.len == b->plans.len && a->tenant_id == b->tenant_id &&
		a->position == b->position && a->vshard_count == b->vshard_count &&
		memcmp(a->vshards, b->vshards,
			   a->vshard_count * sizeof(uint16_t)) == 0 &&
		(a->plans.len == 0 ||
		 memcmp(a->plans.data, b->plans.data, a->plans.len) == 0);
}

/* "inner" is a part of "outer". */
static bool
lies_inside(WireSlice inner, const uint8_t *data, size_t len)
{
	return inner.data >= data && inner.len <= len &&
		(size_t) (inner.data - data) <= len - inner.len;
}

/*
 * Both hold the same entry: with equal values, and where it is of the same
 * bytes in the same places.
 */
static const char *
compare_txns(WireDecoder *a, WireDecoder *b)
{
	const char *wrong = NULL;
	WireTxn		x;
	WireTxn		y;
	uint32_t	count = 0;
	const uint8_t *last = a->data;

	wire_rewind(a);
	wire_rewind(b);
	while (wire_next_txn(a, &x))
	{
		REQUIRE(wire_next_txn(b, &y), "a transaction is missing");
		REQUIRE(same_txn(&x, &y), "transactions differ");
		REQUIRE(x.position == count, "positions do not count up");
		REQUIRE(lies_inside(x.tx_class, a->data, a->entry.length) &&
				x.tx_class.data >= last,
				"a TxClass lies outside the input, or before the last one");
		REQUIRE(lies_inside(x.plans, x.tx_class.data, x.tx_class.len),
				"plans lie outside their TxClass");
		for (int i = 0; i < x.vshard_count; i++)
			REQUIRE(x.vshards[i] < WIRE_VSHARDS &&
					(i == 0 || x.vshards[i - 1] < x.vshards[i]),
					"participants do not ascend");
		if (a->data == b->data)
			REQUIRE(x.tx_class.data == y.tx_class.data &&
					x.tx_class.len == y.tx_class.len &&
					x.plans.data == y.plans.data &&
					x.canonical == y.canonical,
					"transactions are not the same ones");
		else
			REQUIRE(y.canonical, "the canonical form is not canonical");
		last = x.tx_class.data + x.tx_class.len;
		count++;
	}
	REQUIRE(count == a->entry.txn_count && !wire_next_txn(b, &y),
			"not as many transactions as announced");
end:
	return wrong;
}

/* Staging that is never full, full at once, and full in between. */
static WireDecoder *
decoder_of(int which)
{
	static WireDecoder *decoders[4];
	static const uint32_t sizes[4][2] = {
		{ROOM_TXNS, ROOM_VSHARDS},
		{1, 2 * WIRE_VSHARDS},
		{3, 2 * WIRE_VSHARDS + 5},
		{ROOM_TXNS, ROOM_VSHARDS},	/* for canonical forms */
	};

	if (decoders[which] == NULL)
		decoders[which] = new_decoder(sizes[which][0], sizes[which][1]);
	return decoders[which];
}

/*
 * The canonicaliser when the n-th allocation fails: it says so and leaves
 * nothing behind.  It must come to the same if it never gets so far.
 */
static const char *
check_no_memory(const uint8_t *data, size_t len, int allocations,
				const WireError *wanted)
{
	const char *wrong = NULL;
	Meter		meter = {0, 0, allocations};
	WireBuffer	out;
	WireEntry	entry;
	WireError	error;

	wire_buffer_init(&out, metered_realloc, &meter);
	if (wire_canonicalise(data, len, &out, &entry, &error))
		REQUIRE(wanted->status == WIRE_OK, "less memory, another verdict");
	else
	{
		REQUIRE(out.len == 0, "output after a failure");
		REQUIRE(error.status == WIRE_NO_MEMORY || same_error(&error, wanted),
				"less memory, another error");
	}
end:
	wire_buffer_free(&out);
	if (wrong == NULL && meter.held != 0)
		wrong = "memory left after a failure";
	return wrong;
}

/*
 * The verdict alone, and whether the entry is canonical as it stands, from
 * those who find out by doing all that there is to do.
 */
static const char *
check_examined(const uint8_t *data, size_t len, const WireDecoder *decoder,
			   bool decoded)
{
	const char *wrong = NULL;
	WireDecoder checking;
	WireBuffer	out;
	WireEntry	entry;
	WireEntry	examined;
	WireError	error;
	WireTxn		txn;
	bool		canonical;
	bool		wanted;

	new_buffer(&out);
	wire_decoder_init(&checking, NULL, 0, NULL, 0);
	REQUIRE(wire_decode(&checking, data, len) == decoded &&
			same_error(&checking.error, &decoder->error) &&
			(!decoded || same_entry(&checking.entry, &decoder->entry)) &&
			!wire_next_txn(&checking, &txn),
			"no staging, another verdict");
	wanted = wire_canonicalise(data, len, &out, &entry, &error) &&
		same_bytes(&out, data, len);
	REQUIRE(wire_examine(data, len, &examined, &canonical) == decoded,
			"examined, another verdict");
	REQUIRE(canonical == wanted, wanted ? "canonical, but not by its examination" :
			"not canonical, but by its examination");
	if (decoded)
		REQUIRE(same_entry(&examined, &decoder->entry) &&
				examined.length == decoder->entry.length,
				"examined, another entry");
	if (canonical)
		REQUIRE(same_entry(&examined, &entry) &&
				examined.length == entry.length && entry.length == len,
				"canonical, but another entry");
end:
	wire_buffer_free(&out);
	return wrong;
}

const char *
consistent(const uint8_t *data, size_t len, bool *accepted)
{
	const char *wrong = NULL;
	WireDecoder *decoder = decoder_of(0);
	WireDecoder *other;
	bool		decoded = wire_decode(decoder, data, len);
	uint32_t	used = decoder->entry.length;
	uint8_t    *canonical = NULL;
	Meter		meter = {0, 0, -1};
	WireBuffer	once;
	WireBuffer	again;
	WireBuffer	lenient;
	WireEntry	entry;
	WireError	error;

	*accepted = decoded;
	new_buffer(&once);
	new_buffer(&again);
	wire_buffer_init(&lenient, metered_realloc, &meter);

	for (int i = 1; i < 3; i++)
	{
		other = decoder_of(i);
		REQUIRE(wire_decode(other, data, len) == decoded &&
				same_error(&decoder->error, &other->error),
				"less staging, another verdict");
		if (!decoded)
			continue;
		REQUIRE(same_entry(&decoder->entry, &other->entry) &&
				other->entry.length == used, "less staging, another entry");
		wrong = compare_txns(decoder, other);
		if (wrong != NULL)
			goto end;
	}

	if (!decoded)
	{
		WireTxn		txn;

		REQUIRE(proper_error(&decoder->error, len), "an error that says less");
		REQUIRE(!wire_next_txn(decoder, &txn), "transactions after a refusal");
	}
	else if (len > 0)
	{
		REQUIRE(used > 0 && used <= len, "more used than there is");
		REQUIRE(reencode(decoder, &once) && once.len <= used,
				"no canonical form, or a longer one");
		canonical = exact_copy(once.data, once.len);
		other = decoder_of(3);
		REQUIRE(wire_decode(other, canonical, once.len) &&
				other->entry.length == once.len,
				"the canonical form is refused");
		REQUIRE(same_entry(&decoder->entry, &other->entry),
				"the canonical form is another entry");
		wrong = compare_txns(decoder, other);
		if (wrong != NULL)
			goto end;
		REQUIRE(reencode(other, &again) &&
				same_bytes(&again, once.data, once.len),
				"the canonical form is no fixed point");
	}

	wrong = check_examined(data, len, decoder, decoded);
	if (wrong != NULL)
		goto end;

	/* What the reader takes, the canonicaliser takes up to its own rules. */
	if (wire_canonicalise(data, len, &lenient, &entry, &error))
	{
		if (decoded)
			REQUIRE(used == len && same_bytes(&lenient, once.data, once.len) &&
					same_entry(&entry, &decoder->entry),
					"reader and canonicaliser see different entries");
		REQUIRE(entry.length == lenient.len, "a wrong length");
	}
	else
	{
		REQUIRE(proper_error(&error, len), "an error that says less");
		REQUIRE(lenient.len == 0, "output after a failure");
		if (decoded)
			REQUIRE(error.status == WIRE_MISMATCH ||
					(error.status == WIRE_TRAILING && used < len),
					"the canonicaliser refuses what the reader takes");
	}
	REQUIRE(meter.most <= 8192 + 64 * len,
			"more memory than the input can account for");

	if (len > 0)
		wrong = check_no_memory(data, len, data[len - 1] % 6, &error);

end:
	wire_buffer_free(&once);
	wire_buffer_free(&again);
	wire_buffer_free(&lenient);
	free(canonical);
	if (wrong == NULL && meter.held != 0)
		wrong = "memory left";
	return wrong;
}
