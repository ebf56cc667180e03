/*
 * bytestring.h
 *	  Kv keys where they stand in the input, in whatever form.
 */
#ifndef CALVIN_WIRE_BYTESTRING_H
#define CALVIN_WIRE_BYTESTRING_H

#include "wire/encode.h"
#include "wire/reader.h"

/*
 * Check a byte string and step over it: an array of u8 or, in lenient mode, a
 * bin.  It may be given to the functions below, by its first byte.
 */
extern bool wire_read_byte_string(WireReader *reader, const char *field);

/* As an array of u8, the form of a Kv key. */
extern void wire_put_key(WireBuffer *buffer, const uint8_t *string);

/* As a bin, the form of plans. */
extern void wire_put_plans(WireBuffer *buffer, const uint8_t *string);

/* A byte string to be compared: its first bytes, then zeroes, tell most apart. */
typedef struct WireKey
{
	uint64_t	begin;
	const uint8_t *string;
} WireKey;

extern WireKey wire_key(const uint8_t *string);

/* A WireCompare for WireKey items: by bytes, a prefix first. */
extern int	wire_compare_keys(const void *a, const void *b);

#endif							/* CALVIN_WIRE_BYTESTRING_H */
