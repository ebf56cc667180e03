/*
 * decode.c
 *	  The strict reader: one pass over an entry, checking every byte of it.
 *
 * The functions below follow the grammar of docs/wire-format.md one by one.
 * Each takes the position of its value and returns the position after it, or
 * NULL once the reader holds an error.  Whether a TxClass is canonical falls
 * out on the way: the reader notes values that are not minimal, the loops
 * over sets and the map note what is not strictly ascending.  So does whether
 * the entry as a whole is, for wire_examine().
 *
 * Who wants no participants passes no room for them: all that is done for
 * them is then left out by the compiler.
 */
#include "wire/participants.h"
#include "wire/scan.h"
#include "wire/schema.h"
#include "wire/text.h"

/* The fewest bytes of a SequencedTxn: eleven values, all of one byte but the
 * header of "plans". */
#define LEAST_TXN 11

/* Array of u32, strictly ascending if it is canonical. */
WIRE_INLINE const uint8_t *
decode_surrogates(WireReader *reader, const uint8_t *p, const uint8_t *end,
				  const char *field)
{
	uint32_t	count;
	int64_t		last = -1;
	bool		ascending = true;

	p = wire_scan_array(reader, p, end, &count, field);
	for (; p != NULL && count > 0; count--)
	{
		uint32_t	value;

		wire_reader_yield(reader, p);
		p = wire_scan_u32(reader, p, end, &value, field);
		ascending &= last < (int64_t) value;
		last = value;
	}
	if (!ascending)
		reader->minimal = false;
	return p;
}

/* Array of [u32, u32], strictly ascending by (src, dst) if canonical. */
static WIRE_NOINLINE const uint8_t *
decode_edges(WireReader *reader, const uint8_t *p, const uint8_t *end,
			 const char *field)
{
	uint32_t	count;
	uint64_t	last = 0;
	bool		first = true;
	bool		ascending = true;

	p = wire_scan_array(reader, p, end, &count, field);
	for (; p != NULL && count > 0; count--)
	{
		uint32_t	src;
		uint32_t	dst;
		uint64_t	edge;

		wire_reader_yield(reader, p);
		p = wire_scan_tuple(reader, p, end, 2, field);
		if (p == NULL)
			break;
		p = wire_scan_u32(reader, p, end, &src, field);
		if (p == NULL)
			break;
		p = wire_scan_u32(reader, p, end, &dst, field);
		edge = (uint64_t) src << 32 | dst;
		ascending &= first | (last < edge);
		last = edge;
		first = false;
	}
	if (!ascending)
		reader->minimal = false;
	return p;
}

/* Some elements of a byte string: "count" u8 integers. */
static const uint8_t *
decode_some_u8s(WireReader *reader, const uint8_t *p, const uint8_t *end,
		   uint32_t count, const char *field)
{
	/*
	 * Bytes are as good as random, so branches on them would be mispredicted
	 * half the time: step over fixints and uint8 alike, look for trouble at
	 * the end.
	 */
	if ((size_t) (end - p) >= (size_t) count * 2)
	{
		const uint8_t *q = p;
		uint32_t	trouble = 0;

		for (uint32_t i = 0; i < count; i++)
		{
			uint32_t	wide = *q >> 7;

			trouble |= wide & ((*q != 0xcc) | (q[1] < 0x80));
			q += 1 + wide;
		}
		if (WIRE_LIKELY(trouble == 0))
			return q;
	}

	for (uint32_t i = 0; i < count && p != NULL; i++)
	{
		uint64_t	byte;

		p = wire_take_uint(reader, p, UINT8_MAX, &byte, field);
	}
	return p;
}

static const uint8_t *
decode_u8s(WireReader *reader, const uint8_t *p, const uint8_t *end,
		   uint32_t count, const char *field)
{
	while (WIRE_UNLIKELY(count > WIRE_YIELD_BYTES))
	{
		p = decode_some_u8s(reader, p, end, WIRE_YIELD_BYTES, field);
		if (p == NULL)
			return NULL;
		count -= WIRE_YIELD_BYTES;
		wire_yield_now();
	}
	return decode_some_u8s(reader, p, end, count, field);
}

/*
 * Array of byte strings, strictly ascending if canonical.
 *
 * Minimal u8 forms sort as their values do (0xcc comes after every fixint),
 * so byte strings compare as their encodings.  With forms that are not
 * minimal the comparison may be wrong, but then the result is known.
 */
static WIRE_NOINLINE const uint8_t *
decode_keys(WireReader *reader, const uint8_t *p, const uint8_t *end,
			const char *field)
{
	uint32_t	count;
	const uint8_t *last = NULL;
	size_t		last_len = 0;

	p = wire_scan_array(reader, p, end, &count, field);
	for (; p != NULL && count > 0; count--)
	{
		const uint8_t *key;
		size_t		len;
		uint32_t	bytes;

		wire_reader_yield(reader, p);
		key = wire_scan_array(reader, p, end, &bytes, field);
		if (key == NULL)
			return NULL;
		p = decode_u8s(reader, key, end, bytes, field);
		if (p == NULL)
			return NULL;

		len = (size_t) (p - key);
		if (last != NULL && reader->minimal)
		{
			size_t		both = len < last_len ? len : last_len;
			int			order = memcmp(last, key, both);

			if (order > 0 || (order == 0 && last_len >= len))
				reader->minimal = false;
		}
		last = key;
		last_len = len;
	}
	return p;
}

/* What an EngineKeySet begins with: up to the collection, any form. */
static WIRE_NOINLINE const uint8_t *
take_set_kind(WireReader *reader, const uint8_t *p, const WireSetFields *fields,
			  WireSetKind *kind)
{
	const uint8_t *at;
	WireSlice	text;

	p = wire_take_tuple(reader, p, 2, fields->set);
	if (p == NULL)
		return NULL;

	at = p;
	p = wire_take_str(reader, p, &text, fields->variant);
	if (p == NULL)
		return NULL;
	*kind = wire_set_kind(text.data, text.len);
	if (*kind == WIRE_SET_UNKNOWN)
		return wire_refuse(reader, WIRE_WRONG_TAG, at, fields->variant,
						   WIRE_X_SET_TAG);

	return wire_take_tuple(reader, p, 2, fields->payload);
}

/* The same, its minimal form seen at a glance: it is a constant for each kind. */
WIRE_INLINE const uint8_t *
scan_set_kind(WireReader *reader, const uint8_t *p, const uint8_t *end,
			  const WireSetFields *fields, WireSetKind *kind)
{
	WireSetKind taken;

	if (WIRE_LIKELY(end - p >= 11))
	{
		uint64_t	head = wire_load_be64(p);

		if (head == UINT64_C(0x92a8446f63756d65) && p[8] == 'n' &&
			p[9] == 't' && p[10] == 0x92)
		{
			*kind = WIRE_SET_DOCUMENT;
			return p + 11;
		}
		if (head >> 24 == UINT64_C(0x92a24b7692))
		{
			*kind = WIRE_SET_KV;
			return p + 5;
		}
		if (head >> 8 == UINT64_C(0x92a44564676592))
		{
			*kind = WIRE_SET_EDGE;
			return p + 7;
		}
		if (head == UINT64_C(0x92a6566563746f72) && p[8] == 0x92)
		{
			*kind = WIRE_SET_VECTOR;
			return p + 9;
		}
	}
	p = take_set_kind(reader, p, fields, &taken);
	*kind = p ? taken : WIRE_SET_UNKNOWN;
	return p;
}

/* An EngineKeySet.  *hash is that of the collection's name, if wanted. */
WIRE_INLINE const uint8_t *
decode_key_set(WireReader *reader, const uint8_t *p, const uint8_t *end,
			   const WireSetFields *fields, uint32_t *hash)
{
	const uint8_t *at;
	WireSlice	text;
	WireSetKind kind;
	uint64_t	not_ascii;

	p = scan_set_kind(reader, p, end, fields, &kind);
	if (p == NULL)
		return NULL;

	at = p;
	p = wire_scan_str(reader, p, end, &text, fields->collection);
	if (p == NULL)
		return NULL;
	*hash = wire_fold_text(text.data, text.len, end, &not_ascii);
	if (WIRE_UNLIKELY(not_ascii != 0) &&
		!wire_utf8_valid(text.data, text.len))
		return wire_refuse(reader, WIRE_BAD_UTF8, at, fields->collection,
						   WIRE_X_UTF8);

	if (kind == WIRE_SET_KV)
		return decode_keys(reader, p, end, fields->keys);
	if (kind == WIRE_SET_EDGE)
		return decode_edges(reader, p, end, fields->edges);
	return decode_surrogates(reader, p, end, fields->surrogates);
}

/* The elements of a read_set, or of a dependent read's: no participants. */
static WIRE_NOINLINE const uint8_t *
decode_read_key_set(WireReader *reader, const uint8_t *p, const uint8_t *end,
					const WireSetFields *fields)
{
	uint32_t	hash;

	return decode_key_set(reader, p, end, fields, &hash);
}

/* The map of a DependentReadSpec; its keys are participants.  "figures" may be NULL. */
static WIRE_NOINLINE const uint8_t *
decode_dependent_reads(WireReader *reader, const uint8_t *p,
					   const uint8_t *end, WireParticipants *participants,
					   WireTxClassFigures *figures)
{
	uint32_t	pairs;
	int64_t		last = -1;

	p = wire_scan_tuple(reader, p, end, 1, WIRE_F_DEPENDENT);
	if (p == NULL)
		return NULL;
	p = wire_take_map(reader, p, &pairs, WIRE_F_DEPENDENT);
	for (; p != NULL && pairs > 0; pairs--)
	{
		const uint8_t *value;
		uint64_t	vshard;
		uint32_t	keys;

		wire_reader_yield(reader, p);
		p = wire_take_uint(reader, p, WIRE_VSHARDS - 1, &vshard,
						   WIRE_F_DEPENDENT_VSHARD);
		if (p == NULL)
			return NULL;
		if (participants->list != NULL)
			wire_participants_add(participants, (uint32_t) vshard);
		if ((int64_t) vshard <= last)
			reader->minimal = false;
		last = (int64_t) vshard;

		value = p;
		p = wire_scan_array(reader, p, end, &keys, WIRE_F_DEPENDENT_KEYS);
		for (; p != NULL && keys > 0; keys--)
		{
			wire_reader_yield(reader, p);
			p = wire_scan_tuple(reader, p, end, 1, WIRE_F_DEPENDENT_KEYS);
			if (p == NULL)
				return NULL;
			p = decode_read_key_set(reader, p, end, &wire_dependent_fields);
		}
		if (figures != NULL && p != NULL)
		{
			figures->dependent_read_passives++;
			figures->dependent_read_bytes += (uint64_t) (p - value);
		}
	}
	return p;
}

/*
 * A TxClass, into *txn but for position.  vshards[] may be NULL, and so may
 * "figures", which gets what is only known on the way.
 */
WIRE_INLINE const uint8_t *
decode_tx_class(WireReader *reader, const uint8_t *p, const uint8_t *end,
				WireTxn *txn, uint16_t *vshards, WireTxClassFigures *figures)
{
	const uint8_t *begin = p;
	bool		minimal = reader->minimal;
	WireParticipants participants;
	uint32_t	count;

	reader->minimal = true;
	wire_participants_begin(&participants, vshards);

	p = wire_scan_tuple(reader, p, end, 5, WIRE_F_TX_CLASS);
	if (p == NULL)
		return NULL;

	p = wire_scan_array(reader, p, end, &count, wire_read_set_fields.sets);
	for (; p != NULL && count > 0; count--)
	{
		wire_reader_yield(reader, p);
		p = decode_read_key_set(reader, p, end, &wire_read_set_fields);
	}
	if (p == NULL)
		return NULL;

	p = wire_scan_array(reader, p, end, &count, wire_write_set_fields.sets);
	for (; p != NULL && count > 0; count--)
	{
		uint32_t	hash = 0;

		wire_reader_yield(reader, p);
		p = decode_key_set(reader, p, end, &wire_write_set_fields, &hash);
		if (p == NULL)
			return NULL;
		if (vshards != NULL)
			wire_participants_add(&participants, hash % WIRE_VSHARDS);
	}
	if (p == NULL)
		return NULL;

	p = wire_scan_bin(reader, p, end, &txn->plans, WIRE_F_PLANS);
	if (p == NULL)
		return NULL;
	p = wire_scan_u64(reader, p, end, WIRE_MAX_TENANT, &txn->tenant_id,
					  WIRE_F_TENANT);
	if (p == NULL)
		return NULL;

	if (WIRE_LIKELY(p < end && *p == 0xc0))
		p++;
	else
	{
		p = decode_dependent_reads(reader, p, end, &participants, figures);
		if (p == NULL)
			return NULL;
	}

	txn->tx_class.data = begin;
	txn->tx_class.len = (uint32_t) (p - begin);
	txn->canonical = reader->minimal;
	reader->minimal &= minimal;
	txn->vshards = vshards;
	txn->vshard_count = (uint16_t) wire_participants_end(&participants);
	return p;
}

/* A SequencedTxn, into *txn but for position; its own numbers apart. */
WIRE_INLINE const uint8_t *
decode_sequenced_txn(WireReader *reader, const uint8_t *p, WireTxn *txn,
					 uint16_t *vshards, uint64_t *epoch, uint32_t *position)
{
	const uint8_t *end = reader->end;
	int64_t		epoch_system_ms;

	p = wire_scan_tuple(reader, p, end, 4, WIRE_F_TXN);
	if (p == NULL)
		return NULL;
	p = wire_scan_u64(reader, p, end, WIRE_MAX_EPOCH, epoch,
					  WIRE_F_TXN_EPOCH);
	if (p == NULL)
		return NULL;
	p = wire_scan_u32(reader, p, end, position, WIRE_F_TXN_POSITION);
	if (p == NULL)
		return NULL;
	p = decode_tx_class(reader, p, end, txn, vshards, NULL);
	if (p == NULL)
		return NULL;
	return wire_scan_int(reader, p, end, &epoch_system_ms, WIRE_F_TXN_MS);
}

static const uint8_t *
decode_txn(WireReader *reader, const uint8_t *p, WireTxn *txn,
		   uint16_t *vshards)
{
	uint64_t	epoch;
	uint32_t	position;

	return decode_sequenced_txn(reader, p, txn, vshards, &epoch, &position);
}

/* All transactions of a batch, of which nothing is kept. */
static const uint8_t *
examine_txns(const WireEntry *entry, WireReader *reader, const uint8_t *p)
{
	for (uint32_t i = 0; i < entry->txn_count; i++)
	{
		WireTxn		txn;
		uint64_t	epoch;
		uint32_t	position;

		wire_reader_yield(reader, p);
		p = decode_sequenced_txn(reader, p, &txn, NULL, &epoch, &position);
		if (p == NULL)
			return NULL;
		if (epoch != entry->epoch || position != i)
			reader->minimal = false;
	}
	return p;
}

/*
 * All transactions of a batch.  Those that fit are staged, together with
 * their participants; the last WIRE_VSHARDS places of vshards[] always stay
 * free for the ones that are not.
 */
static const uint8_t *
decode_txns(WireDecoder *decoder, WireReader *reader, const uint8_t *p)
{
	const uint32_t most = decoder->vshards_size - 2 * WIRE_VSHARDS;
	uint32_t	staged = 0;
	uint32_t	used = 0;
	bool		staging = true;

	for (uint32_t i = 0; i < decoder->entry.txn_count; i++)
	{
		uint16_t   *vshards = decoder->vshards + used;
		WireTxn		unstaged;

		wire_reader_yield(reader, p);
		if (staging && (staged == decoder->txns_size || used > most))
		{
			staging = false;
			decoder->rest = (uint32_t) (p - decoder->data);
		}
		if (staging)
		{
			WireTxn    *txn = &decoder->txns[staged];

			p = decode_txn(reader, p, txn, vshards);
			if (p == NULL)
				return NULL;
			txn->position = i;
			used += txn->vshard_count;
			staged++;
		}
		else
		{
			p = decode_txn(reader, p, &unstaged, vshards);
			if (p == NULL)
				return NULL;
		}
	}
	decoder->staged = staged;
	decoder->rest_vshards = used;
	return p;
}

static const uint8_t *
decode_batch(WireDecoder *decoder, WireReader *reader, const uint8_t *p)
{
	WireEntry  *entry = &decoder->entry;

	entry->kind = WIRE_EPOCH_BATCH;
	p = wire_take_tuple(reader, p, 1, WIRE_F_PAYLOAD);
	if (p == NULL)
		return NULL;
	p = wire_take_tuple(reader, p, 3, WIRE_F_BATCH);
	if (p == NULL)
		return NULL;
	p = wire_take_uint(reader, p, WIRE_MAX_EPOCH, &entry->epoch, WIRE_F_EPOCH);
	if (p == NULL)
		return NULL;
	p = wire_take_array(reader, p, LEAST_TXN, &entry->txn_count, WIRE_F_TXNS);
	if (p == NULL)
		return NULL;
	p = decoder->vshards != NULL ? decode_txns(decoder, reader, p) :
		examine_txns(entry, reader, p);
	if (p == NULL)
		return NULL;
	return wire_take_int(reader, p, &entry->epoch_system_ms, WIRE_F_BATCH_MS);
}

static const uint8_t *
decode_ack(WireDecoder *decoder, WireReader *reader, const uint8_t *p)
{
	WireEntry  *entry = &decoder->entry;
	uint64_t	position;
	uint64_t	vshard_id;

	entry->kind = WIRE_COMPLETION_ACK;
	p = wire_take_tuple(reader, p, 3, WIRE_F_PAYLOAD);
	if (p == NULL)
		return NULL;
	p = wire_take_uint(reader, p, WIRE_MAX_EPOCH, &entry->epoch, WIRE_F_EPOCH);
	if (p == NULL)
		return NULL;
	p = wire_take_uint(reader, p, UINT32_MAX, &position, WIRE_F_POSITION);
	if (p == NULL)
		return NULL;
	p = wire_take_uint(reader, p, UINT32_MAX, &vshard_id, WIRE_F_VSHARD_ID);
	if (p == NULL)
		return NULL;
	entry->position = (uint32_t) position;
	entry->vshard_id = (uint32_t) vshard_id;
	return p;
}

static const uint8_t *
decode_entry(WireDecoder *decoder, WireReader *reader)
{
	const uint8_t *p = reader->pos;
	const uint8_t *at;
	WireSlice	tag;

	p = wire_take_tuple(reader, p, 2, WIRE_F_ENTRY);
	if (p == NULL)
		return NULL;
	at = p;
	p = wire_take_str(reader, p, &tag, WIRE_F_VARIANT);
	if (p == NULL)
		return NULL;
	if (wire_tag_is(tag.data, tag.len, WIRE_TAG_BATCH))
		return decode_batch(decoder, reader, p);
	if (wire_tag_is(tag.data, tag.len, WIRE_TAG_ACK))
		return decode_ack(decoder, reader, p);
	return wire_refuse(reader, WIRE_WRONG_TAG, at, WIRE_F_VARIANT,
					   WIRE_X_ENTRY_TAG);
}

void
wire_decoder_init(WireDecoder *decoder, WireTxn *txns, uint32_t txns_size,
				  uint16_t *vshards, uint32_t vshards_size)
{
	memset(decoder, 0, sizeof(*decoder));
	decoder->txns = txns;
	decoder->txns_size = txns_size;
	decoder->vshards = vshards;
	decoder->vshards_size = vshards_size;
}

/* *canonical: every value was minimal, every set sorted, all numbers agree. */
WIRE_INLINE bool
decode(WireDecoder *decoder, const uint8_t *data, size_t size, bool *canonical)
{
	WireReader	reader;
	const uint8_t *p;

	*canonical = true;
	wire_reader_init(&reader, data, size, WIRE_STRICT);
	decoder->data = data;
	decoder->size = 0;
	memset(&decoder->entry, 0, sizeof(decoder->entry));
	decoder->error = reader.error;
	decoder->staged = 0;
	decoder->rest = 0;
	decoder->rest_vshards = 0;
	wire_rewind(decoder);

	if (size == 0)
	{
		decoder->entry.kind = WIRE_NOOP;
		return true;
	}
	if (size > WIRE_MAX_ENTRY)
	{
		wire_reader_fail(&reader, WIRE_TOO_LARGE, data + WIRE_MAX_ENTRY,
						 WIRE_F_ENTRY, WIRE_X_SIZE);
		decoder->error = reader.error;
		return false;
	}
	decoder->size = (uint32_t) size;

	p = decode_entry(decoder, &reader);
	if (p == NULL)
	{
		decoder->error = reader.error;
		decoder->entry.txn_count = 0;	/* wire_next_txn yields nothing */
		return false;
	}
	decoder->entry.length = (uint32_t) (p - data);
	*canonical = reader.minimal && p == reader.end;
	wire_rewind(decoder);
	return true;
}

bool
wire_decode(WireDecoder *decoder, const uint8_t *data, size_t size)
{
	bool		canonical;

	return decode(decoder, data, size, &canonical);
}

bool
wire_examine(const uint8_t *data, size_t size, WireEntry *entry,
			 bool *canonical)
{
	WireDecoder decoder;
	bool		accepted;

	wire_decoder_init(&decoder, NULL, 0, NULL, 0);
	accepted = decode(&decoder, data, size, canonical);
	*canonical &= accepted;
	*entry = decoder.entry;
	return accepted;
}

/* "figures" may be NULL. */
static bool
decode_lone_tx_class(const uint8_t *data, size_t size, WireTxn *txn,
					 uint16_t *vshards, WireTxClassFigures *figures,
					 WireError *error)
{
	WireReader	reader;
	const uint8_t *p = NULL;

	wire_reader_init(&reader, data, size, WIRE_STRICT);
	if (size > WIRE_MAX_ENTRY)
		wire_reader_fail(&reader, WIRE_TOO_LARGE, data + WIRE_MAX_ENTRY,
						 WIRE_F_TX_CLASS, WIRE_X_SIZE);
	else
		p = decode_tx_class(&reader, data, reader.end, txn, vshards, figures);
	if (p != NULL && p != reader.end)
	{
		wire_reader_fail(&reader, WIRE_TRAILING, p, WIRE_F_TX_CLASS, WIRE_X_END);
		p = NULL;
	}
	if (p == NULL)
		*error = reader.error;
	return p != NULL;
}

bool
wire_examine_tx_class(const uint8_t *data, size_t size,
					  WireTxClassFigures *figures, bool *canonical,
					  WireError *error)
{
	uint16_t	vshards[WIRE_VSHARDS];
	WireTxn		txn;

	memset(figures, 0, sizeof(*figures));
	*canonical = false;
	if (!decode_lone_tx_class(data, size, &txn, vshards, figures, error))
		return false;
	figures->participants = txn.vshard_count;
	figures->plans_bytes = txn.plans.len;
	figures->tenant_id = txn.tenant_id;
	*canonical = txn.canonical;
	return true;
}

bool
wire_decode_tx_class(const uint8_t *data, size_t size, WireTxn *txn,
					 uint16_t *vshards, WireError *error)
{
	memset(txn, 0, sizeof(*txn));
	return decode_lone_tx_class(data, size, txn, vshards, NULL, error);
}

bool
wire_next_txn(WireDecoder *decoder, WireTxn *txn)
{
	WireReader	reader;
	const uint8_t *p;

	if (decoder->next >= decoder->entry.txn_count || decoder->vshards == NULL)
		return false;
	if (decoder->next < decoder->staged)
	{
		*txn = decoder->txns[decoder->next++];
		return true;
	}

	wire_yield_at(decoder->next);
	wire_reader_init(&reader, decoder->data, decoder->size, WIRE_STRICT);
	p = decoder->data + decoder->next_rest;
	wire_reader_yield_behind(&reader, p);
	p = decode_txn(&reader, p, txn,
				   decoder->vshards + decoder->rest_vshards);
	if (p == NULL)
		return false;			/* only if the bytes changed since */
	txn->position = decoder->next++;
	decoder->next_rest = (uint32_t) (p - decoder->data);
	return true;
}

void
wire_rewind(WireDecoder *decoder)
{
	decoder->next = 0;
	decoder->next_rest = decoder->rest;
}
