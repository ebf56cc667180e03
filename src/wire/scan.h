/*
 * scan.h
 *	  The common forms of values, inline, for the decoder's hot path.
 *
 * wire_scan_<type> takes the minimal form where all its bytes are at hand and
 * leaves everything else to wire_take_<type> in reader.c: other forms, values
 * near the end, and errors.  So a form is refused, and why, in one place only.
 *
 * Each takes the position of a value and returns that of the next, or NULL
 * after an error was set in the reader; reader->pos is not used.  "end" is
 * reader->end, kept by the caller in a register.
 */
#ifndef CALVIN_WIRE_SCAN_H
#define CALVIN_WIRE_SCAN_H

#include "wire/bytes.h"
#include "wire/reader.h"

#define WIRE_LIKELY(x) __builtin_expect((x) != 0, 1)
#define WIRE_UNLIKELY(x) __builtin_expect((x) != 0, 0)
#define WIRE_INLINE static inline __attribute__((always_inline))
#define WIRE_NOINLINE __attribute__((noinline))

WIRE_INLINE const uint8_t *
wire_scan_tuple(WireReader *reader, const uint8_t *p, const uint8_t *end,
				uint32_t count, const char *field)
{
	if (WIRE_LIKELY(p < end && *p == (0x90 | count)))
		return p + 1;
	return wire_take_tuple(reader, p, count, field);
}

WIRE_INLINE const uint8_t *
wire_scan_array(WireReader *reader, const uint8_t *p, const uint8_t *end,
				uint32_t *count, const char *field)
{
	uint32_t	taken;

	if (WIRE_LIKELY(p < end && (*p & 0xf0) == 0x90 && (*p & 0x0f) < end - p))
	{
		*count = *p & 0x0f;
		return p + 1;
	}
	p = wire_take_array(reader, p, 1, &taken, field);
	*count = p ? taken : 0;
	return p;
}

WIRE_INLINE const uint8_t *
wire_scan_u64(WireReader *reader, const uint8_t *p, const uint8_t *end,
			  uint64_t max, uint64_t *value, const char *field)
{
	uint64_t	taken;

	if (WIRE_LIKELY(end - p >= 9))
	{
		unsigned	form = *p - 0xccu;

		if (*p < 0x80)
		{
			*value = *p;
			return p + 1;
		}
		if (WIRE_LIKELY(form < 4))
		{
			unsigned	bits = 8u << form;
			uint64_t	v = wire_load_be64(p + 1) >> (64 - bits);
			uint64_t	least = form == 0 ? 0x80 : UINT64_C(1) << (bits / 2);

			if (WIRE_LIKELY(v >= least && v <= max))
			{
				*value = v;
				return p + 1 + bits / 8;
			}
		}
	}
	p = wire_take_uint(reader, p, max, &taken, field);
	*value = p ? taken : 0;
	return p;
}

WIRE_INLINE const uint8_t *
wire_scan_u32(WireReader *reader, const uint8_t *p, const uint8_t *end,
			  uint32_t *value, const char *field)
{
	uint64_t	taken;

	if (WIRE_LIKELY(end - p >= 5))
	{
		unsigned	form = *p - 0xccu;

		if (*p < 0x80)
		{
			*value = *p;
			return p + 1;
		}
		if (WIRE_LIKELY(form < 3))
		{
			unsigned	bits = 8u << form;
			uint32_t	v = wire_load_be32(p + 1) >> (32 - bits);
			uint32_t	least = form == 0 ? 0x80 : UINT32_C(1) << (bits / 2);

			if (WIRE_LIKELY(v >= least))
			{
				*value = v;
				return p + 1 + bits / 8;
			}
		}
	}
	p = wire_take_uint(reader, p, UINT32_MAX, &taken, field);
	*value = p ? (uint32_t) taken : 0;
	return p;
}

WIRE_INLINE const uint8_t *
wire_scan_int(WireReader *reader, const uint8_t *p, const uint8_t *end,
			  int64_t *value, const char *field)
{
	int64_t		taken;

	if (WIRE_LIKELY(p < end && (*p < 0x80 || *p >= 0xe0)))
	{
		*value = (int8_t) *p;
		return p + 1;
	}
	if (end - p >= 9 && *p == 0xd3) /* a clock's milliseconds */
	{
		taken = (int64_t) wire_load_be64(p + 1);
		if (WIRE_LIKELY(taken < INT32_MIN || taken > INT32_MAX))
		{
			*value = taken;
			return p + 9;
		}
	}
	p = wire_take_int(reader, p, &taken, field);
	*value = p ? taken : 0;
	return p;
}

WIRE_INLINE const uint8_t *
wire_scan_str(WireReader *reader, const uint8_t *p, const uint8_t *end,
			  WireSlice *value, const char *field)
{
	WireSlice	taken;

	if (WIRE_LIKELY(p < end && (*p & 0xe0) == 0xa0 && (*p & 0x1f) < end - p))
	{
		value->data = p + 1;
		value->len = *p & 0x1f;
		return p + 1 + value->len;
	}
	p = wire_take_str(reader, p, &taken, field);
	if (p)
		*value = taken;
	return p;
}

WIRE_INLINE const uint8_t *
wire_scan_bin(WireReader *reader, const uint8_t *p, const uint8_t *end,
			  WireSlice *value, const char *field)
{
	WireSlice	taken;

	if (WIRE_LIKELY(end - p >= 2 && p[0] == 0xc4 && p[1] <= end - p - 2))
	{
		value->data = p + 2;
		value->len = p[1];
		return p + 2 + value->len;
	}
	p = wire_take_bin(reader, p, &taken, field);
	if (p)
		*value = taken;
	return p;
}

#endif							/* CALVIN_WIRE_SCAN_H */
