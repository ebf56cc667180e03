/*
 * support.h
 *	  What the unit tests share: bytes, a decoder with room, checksums.
 */
#ifndef CALVIN_TEST_SUPPORT_H
#define CALVIN_TEST_SUPPORT_H

#include <stdio.h>

#include "wire/encode.h"
#include "wire/wire.h"

/* Enough for every entry of the tests to be staged whole. */
#define ROOM_TXNS 4096
#define ROOM_VSHARDS 65536

/* A decoder of its own, with as much room as asked for. */
extern WireDecoder *new_decoder(uint32_t txns_size, uint32_t vshards_size);
extern void free_decoder(WireDecoder *decoder);

/* realloc() as the buffer wants it. */
extern void *plain_realloc(void *context, void *pointer, size_t size);
extern void new_buffer(WireBuffer *buffer);

/* Append bytes told as hex digits; blanks and '|' are skipped. */
extern void put_hex(WireBuffer *buffer, const char *hex);

/* A buffer with just these bytes; the caller frees it. */
extern WireBuffer from_hex(const char *hex);

/* "len" bytes in memory of exactly that size, so that ASan sees a read past
 * the end.  The caller frees it. */
extern uint8_t *exact_copy(const void *data, size_t len);

/* A file's bytes, in memory of their size; the caller frees them. */
extern uint8_t *read_file(const char *path, size_t *len);

/* The CRC-32 of zlib (reflected 0xedb88320) and CRC-32C (0x82f63b78). */
extern uint32_t crc32_of(const void *data, size_t len);
extern uint32_t crc32c_of(const void *data, size_t len);

/* A repeatable random number. */
extern uint64_t next_random(uint64_t *state);

/*
 * The canonical form of a decoded entry, its own numbers kept even where they
 * disagree with the batch.  Frame by reader, TxClasses by
 * wire_canonical_tx_class.
 */
extern bool reencode(WireDecoder *decoder, WireBuffer *out);

/* Same content. */
extern bool same_bytes(const WireBuffer *a, const void *data, size_t len);

/* An entry with everything in it, canonical, about 400 bytes. */
extern const char *const rich_entry;

/* A vector file of test/vectors, unpacked; the path comes from VECTORS. */
extern FILE *open_vectors(const char *name);

/* Value after "key": in a flat JSON line; NULL if there is none. */
extern const char *json_value(const char *line, const char *key);
extern bool json_is(const char *line, const char *key, const char *wanted);
extern uint64_t json_u64(const char *line, const char *key);
extern int64_t json_i64(const char *line, const char *key);

#endif							/* CALVIN_TEST_SUPPORT_H */
