/*
 * encode.h
 *	  Writing entries in canonical form.
 *
 * Canonical: minimal-width headers and integers, signed fields never as uint,
 * sorted sets sorted and deduplicated, map keys ascending.  See
 * docs/wire-format.md.  Pure C; memory comes through the buffer's callback.
 */
#ifndef CALVIN_WIRE_ENCODE_H
#define CALVIN_WIRE_ENCODE_H

#include "wire/wire.h"

/*
 * realloc() by another name: size 0 frees.  It may return NULL, which ends
 * the call with WIRE_NO_MEMORY, or not return at all (longjmp), as wire_yield
 * may; nothing is held outside memory that came from it.
 */
typedef void *(*WireRealloc) (void *context, void *pointer, size_t size);

typedef struct WireBuffer
{
	uint8_t    *data;
	size_t		len;
	size_t		size;
	bool		failed; /* an allocation failed; later puts do nothing */
	WireRealloc realloc;
	void	   *context;
	void	   *scratch; /* as "context", of what is freed at the end of a call: what
						* a call that does not return leaves, goes with it */
} WireBuffer;

extern void wire_buffer_init(WireBuffer *buffer, WireRealloc realloc,
							 void *context);
extern void wire_buffer_reset(WireBuffer *buffer); /* len = 0, memory kept */
extern void wire_buffer_free(WireBuffer *buffer);

/*
 * Single values, minimal width.  wire_put_int never writes a uint form.
 * The *_header calls write the header only; the content follows.
 */
extern uint8_t *wire_put_space(WireBuffer *buffer, size_t len); /* to be filled in; or NULL */
extern void wire_put_raw(WireBuffer *buffer, const void *data, size_t len);
extern void wire_put_uint(WireBuffer *buffer, uint64_t value);
extern void wire_put_int(WireBuffer *buffer, int64_t value);
extern void wire_put_nil(WireBuffer *buffer);
extern void wire_put_str(WireBuffer *buffer, const void *data, size_t len);
extern void wire_put_bin(WireBuffer *buffer, const void *data, size_t len);
extern void wire_put_bin_header(WireBuffer *buffer, uint32_t len);
extern void wire_put_array_header(WireBuffer *buffer, uint32_t count);
extern void wire_put_map_header(WireBuffer *buffer, uint32_t count);

/* A whole CompletionAck entry. */
extern void wire_put_ack(WireBuffer *buffer, uint64_t epoch, uint32_t position,
						 uint32_t vshard_id);

/*
 * A whole TxClass: one that writes Document "collection", which is UTF-8, with
 * no surrogates.  One allocation at most.
 */
extern void wire_put_document_write(WireBuffer *buffer, const void *collection,
									size_t collection_len, const void *plans,
									size_t plans_len, uint64_t tenant_id);

/*
 * Append the canonical form of a TxClass that the strict reader accepted
 * (WireTxn.tx_class).  Never longer than what went in.  False: *error.
 */
extern bool wire_canonical_tx_class(WireSlice tx_class, WireBuffer *out,
									WireError *error);

/* The same, and where in it the content of plans ends. */
extern bool wire_deliverable_tx_class(WireSlice tx_class, WireBuffer *out,
									  uint32_t *plans_end, WireError *error);

/*
 * Append the canonical form of an entry that a person or a program wrote.
 *
 * Takes, beyond what the strict reader takes, any integer form whose value
 * fits the field, and bin or array of u8 for a byte string (plans and Kv
 * keys; str is refused).  Refuses what the log must not get: bytes after the
 * entry, and a txn whose own epoch or position disagree with its batch and
 * its index.  No bytes at all are a no-op and stay so.  On success *entry
 * describes the result and the strict reader accepts what was appended.
 */
extern bool wire_canonicalise(const uint8_t *data, size_t size,
							  WireBuffer *out, WireEntry *entry,
							  WireError *error);

/* The same for a TxClass by itself, which has to be all of the bytes. */
extern bool wire_canonicalise_tx_class(const uint8_t *data, size_t size,
									   WireBuffer *out, WireError *error);

#endif							/* CALVIN_WIRE_ENCODE_H */
