/*
 * schema.h
 *	  Names that the strict reader and the canonicaliser share: the variants'
 *	  tags, and the fields as errors call them.
 */
#ifndef CALVIN_WIRE_SCHEMA_H
#define CALVIN_WIRE_SCHEMA_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

typedef enum WireSetKind
{
	WIRE_SET_DOCUMENT,
	WIRE_SET_VECTOR,
	WIRE_SET_KV,
	WIRE_SET_EDGE,
	WIRE_SET_UNKNOWN
} WireSetKind;

/* Fields of an EngineKeySet, by where it stands. */
typedef struct WireSetFields
{
	const char *sets;
	const char *set;
	const char *variant;
	const char *payload;
	const char *collection;
	const char *surrogates;
	const char *keys;
	const char *edges;
} WireSetFields;

#define WIRE_SET_FIELDS(path) \
	{ \
		path, \
		path ".key_set", \
		path ".variant", \
		path ".payload", \
		path ".collection", \
		path ".surrogates", \
		path ".keys", \
		path ".edges" \
	}

extern const WireSetFields wire_read_set_fields;
extern const WireSetFields wire_write_set_fields;
extern const WireSetFields wire_dependent_fields;

#define WIRE_F_ENTRY "entry"
#define WIRE_F_VARIANT "entry.variant"
#define WIRE_F_PAYLOAD "entry.payload"
#define WIRE_F_BATCH "batch"
#define WIRE_F_EPOCH "epoch"
#define WIRE_F_POSITION "position"
#define WIRE_F_VSHARD_ID "vshard_id"
#define WIRE_F_BATCH_MS "epoch_system_ms"
#define WIRE_F_TXNS "txns"
#define WIRE_F_TXN "txns.txn"
#define WIRE_F_TXN_EPOCH "txns.epoch"
#define WIRE_F_TXN_POSITION "txns.position"
#define WIRE_F_TXN_MS "txns.epoch_system_ms"
#define WIRE_F_TX_CLASS "txns.tx_class"
#define WIRE_F_PLANS "txns.tx_class.plans"
#define WIRE_F_TENANT "txns.tx_class.tenant_id"
#define WIRE_F_DEPENDENT "txns.tx_class.dependent_reads"
#define WIRE_F_DEPENDENT_VSHARD "txns.tx_class.dependent_reads.vshard"
#define WIRE_F_DEPENDENT_KEYS "txns.tx_class.dependent_reads.keys_of_vshard"

#define WIRE_X_ENTRY_TAG "\"EpochBatch\" or \"CompletionAck\""
#define WIRE_X_SET_TAG "\"Document\", \"Vector\", \"Kv\" or \"Edge\""
#define WIRE_X_SIZE "at most 268435456 bytes"
#define WIRE_X_UTF8 "valid UTF-8"
#define WIRE_X_END "nothing after it"

#define WIRE_TAG_BATCH "EpochBatch"
#define WIRE_TAG_ACK "CompletionAck"

static inline bool
wire_tag_is(const uint8_t *tag, uint32_t len, const char *name)
{
	return len == strlen(name) && memcmp(tag, name, strlen(name)) == 0;
}

static inline WireSetKind
wire_set_kind(const uint8_t *tag, uint32_t len)
{
	if (wire_tag_is(tag, len, "Document"))
		return WIRE_SET_DOCUMENT;
	if (wire_tag_is(tag, len, "Vector"))
		return WIRE_SET_VECTOR;
	if (wire_tag_is(tag, len, "Kv"))
		return WIRE_SET_KV;
	if (wire_tag_is(tag, len, "Edge"))
		return WIRE_SET_EDGE;
	return WIRE_SET_UNKNOWN;
}

#endif							/* CALVIN_WIRE_SCHEMA_H */
