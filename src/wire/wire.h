/*
 * wire.h
 *	  The bytes of a sequencer log entry: what they mean, and how to read them.
 *
 * Pure C: no server headers, no allocation while decoding, no recursion.  An
 * entry is MessagePack as zerompk 0.4 derives it for the Rust crate
 * nodedb-cluster 0.1.0; docs/wire-format.md has the grammar.  Everything
 * handed out is a slice of the caller's bytes and lives as long as they do.
 *
 * The strict reader below accepts exactly the bytes that every replica of a
 * log accepts: its verdicts may not change within a major version.
 */
#ifndef CALVIN_WIRE_H
#define CALVIN_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WIRE_VSHARDS 1024					   /* vshards are 0 .. 1023 */
#define WIRE_MAX_ENTRY ((uint32_t) 256 << 20)  /* bytes in one entry */
#define WIRE_MAX_TX_CLASS (WIRE_MAX_ENTRY - 64) /* of one that is alone in its entry */
#define WIRE_MAX_EPOCH ((UINT64_C(1) << 63) - 2) /* largest epoch */
#define WIRE_MAX_TENANT ((UINT64_C(1) << 63) - 1) /* largest tenant_id */

typedef enum WireStatus
{
	WIRE_OK = 0,
	WIRE_TRUNCATED,	   /* the entry ends inside a value */
	WIRE_WRONG_TYPE,   /* another MessagePack type stands here */
	WIRE_WRONG_LENGTH, /* an array has too few or too many elements */
	WIRE_WRONG_TAG,	   /* not the name of a variant */
	WIRE_OUT_OF_RANGE, /* an integer its field cannot hold */
	WIRE_BAD_UTF8,	   /* a str that is not valid UTF-8 */
	WIRE_TRAILING,	   /* bytes after the entry (canonicaliser only) */
	WIRE_MISMATCH,	   /* a txn's own epoch or position is not its batch's or
						* its index's (canonicaliser only) */
	WIRE_TOO_LARGE,	   /* the entry, or its canonical form, is over the limit */
	WIRE_NO_MEMORY	   /* the output buffer could not grow */
} WireStatus;

/*
 * Why bytes were refused.  "field" and "expected" are string constants, for
 * example "tenant_id" and "an unsigned integer"; never NULL when status is
 * not WIRE_OK.  "offset" counts from the entry's first byte.
 */
typedef struct WireError
{
	WireStatus	status;
	uint32_t	offset;
	const char *field;
	const char *expected;
} WireError;

typedef struct WireSlice
{
	const uint8_t *data;
	uint32_t	len;
} WireSlice;

typedef enum WireEntryKind
{
	WIRE_NOOP,			/* no bytes at all: a new leader's heartbeat */
	WIRE_EPOCH_BATCH,
	WIRE_COMPLETION_ACK
} WireEntryKind;

typedef struct WireEntry
{
	WireEntryKind kind;
	uint64_t	epoch;			 /* batch and ack */
	int64_t		epoch_system_ms; /* batch: stamps every txn of it */
	uint32_t	txn_count;		 /* batch */
	uint32_t	position;		 /* ack */
	uint32_t	vshard_id;		 /* ack; not range-checked */
	uint32_t	length;			 /* bytes used; what follows is ignored */
} WireEntry;

/*
 * One transaction of a batch.  Its identity is (the batch's epoch, position);
 * the numbers it carries itself are redundant and not here.
 */
typedef struct WireTxn
{
	WireSlice	tx_class; /* the whole TxClass, as it stands in the log */
	WireSlice	plans;	  /* content of the plans field, inside tx_class */
	uint64_t	tenant_id;
	const uint16_t *vshards; /* participants, ascending, without repeats */
	uint32_t	position;	 /* index in the batch */
	uint16_t	vshard_count;
	bool		canonical; /* tx_class is its own canonical form */
} WireTxn;

/* What a leader's limits are about: one TxClass in figures. */
typedef struct WireTxClassFigures
{
	uint32_t	participants; /* vshards of the write set and of dependent reads */
	uint64_t	plans_bytes;  /* content of plans */
	uint32_t	dependent_read_passives; /* vshards that dependent reads name */
	uint64_t	dependent_read_bytes; /* encoded key sets of all of those */
	uint64_t	tenant_id;
} WireTxClassFigures;

/*
 * A decoder for entries, kept and used again for one after another.
 *
 * wire_decode() checks the whole entry in one pass and keeps its first
 * transactions in the staging arrays, which the caller provides; that is all
 * of them for entries of usual size.  wire_next_txn() hands the transactions
 * out in order: the staged ones first, the rest by decoding them again.  So
 * memory does not depend on the entry.
 */
typedef struct WireDecoder
{
	/* set by wire_decoder_init */
	WireTxn    *txns;	 /* staging for transactions */
	uint16_t   *vshards; /* staging for their participants */
	uint32_t	txns_size;
	uint32_t	vshards_size; /* at least 2 * WIRE_VSHARDS */

	/* set by wire_decode */
	const uint8_t *data;
	uint32_t	size;
	WireEntry	entry;
	WireError	error;
	uint32_t	staged;		/* transactions staged */
	uint32_t	rest;		/* offset of the first one that is not */
	uint32_t	rest_vshards; /* where in vshards[] the rest is decoded */

	/* moved by wire_next_txn */
	uint32_t	next;	   /* position handed out next */
	uint32_t	next_rest; /* offset of it, once past the staged ones */
} WireDecoder;

/*
 * vshards_size must be at least 2 * WIRE_VSHARDS, txns_size at least 1.  With
 * NULL and 0 for both, wire_decode() gives its verdict and the entry in less
 * time, and there are no transactions for wire_next_txn().
 */
extern void wire_decoder_init(WireDecoder *decoder, WireTxn *txns,
							  uint32_t txns_size, uint16_t *vshards,
							  uint32_t vshards_size);

/*
 * Decode an entry strictly.  True: decoder->entry is set and, for a batch,
 * wire_next_txn() yields entry.txn_count transactions.  False: decoder->error
 * says why.  "data" must stay in place while the transactions are used.
 */
extern bool wire_decode(WireDecoder *decoder, const uint8_t *data, size_t size);

/*
 * The verdict of wire_decode() alone, and the entry if it is accepted: for who
 * does not want the transactions, so in less time.  *canonical: the bytes are
 * what wire_canonicalise() would make of them, to the last one.
 */
extern bool wire_examine(const uint8_t *data, size_t size, WireEntry *entry,
						 bool *canonical);

/*
 * The same for a TxClass by itself, which has to be all of the bytes; false:
 * *error.  Of one that is not canonical, vshards that dependent reads repeat count
 * each time.
 */
extern bool wire_examine_tx_class(const uint8_t *data, size_t size,
								  WireTxClassFigures *figures, bool *canonical,
								  WireError *error);

/* The same, giving the transaction; "vshards" has room for WIRE_VSHARDS. */
extern bool wire_decode_tx_class(const uint8_t *data, size_t size, WireTxn *txn,
								 uint16_t *vshards, WireError *error);

/*
 * The next transaction, or false after the last.  "txn" and its participants
 * are valid until the next call.
 */
extern bool wire_next_txn(WireDecoder *decoder, WireTxn *txn);

/* Begin again with the first transaction. */
extern void wire_rewind(WireDecoder *decoder);

/* The vshard of a collection, by the UTF-8 bytes of its name. */
extern uint16_t wire_vshard(const uint8_t *name, size_t len);

/* Valid UTF-8: no overlong forms, no surrogates, at most U+10FFFF. */
extern bool wire_utf8_valid(const uint8_t *data, size_t len);

/* A short name of a status, for example "truncated". */
extern const char *wire_status_name(WireStatus status);

#endif							/* CALVIN_WIRE_H */
