/*
 * bytes.h
 *	  Unaligned integers in a fixed byte order.
 */
#ifndef CALVIN_WIRE_BYTES_H
#define CALVIN_WIRE_BYTES_H

#include <stdint.h>
#include <string.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#define WIRE_FROM_BE16(x) (x)
#define WIRE_FROM_BE32(x) (x)
#define WIRE_FROM_BE64(x) (x)
#define WIRE_FROM_LE64(x) __builtin_bswap64(x)
#else
#define WIRE_FROM_BE16(x) __builtin_bswap16(x)
#define WIRE_FROM_BE32(x) __builtin_bswap32(x)
#define WIRE_FROM_BE64(x) __builtin_bswap64(x)
#define WIRE_FROM_LE64(x) (x)
#endif

static inline uint16_t
wire_load_be16(const uint8_t *p)
{
	uint16_t	x;

	memcpy(&x, p, sizeof(x));
	return WIRE_FROM_BE16(x);
}

static inline uint32_t
wire_load_be32(const uint8_t *p)
{
	uint32_t	x;

	memcpy(&x, p, sizeof(x));
	return WIRE_FROM_BE32(x);
}

static inline uint64_t
wire_load_be64(const uint8_t *p)
{
	uint64_t	x;

	memcpy(&x, p, sizeof(x));
	return WIRE_FROM_BE64(x);
}

static inline uint64_t
wire_load_le64(const uint8_t *p)
{
	uint64_t	x;

	memcpy(&x, p, sizeof(x));
	return WIRE_FROM_LE64(x);
}

#endif							/* CALVIN_WIRE_BYTES_H */
