/*
 * walk.c
 *	  A plain walker over MessagePack, value after value.
 */
#include "walk.h"

static uint64_t
number_at(const uint8_t *p, size_t width)
{
	uint64_t	number = 0;

	while (width-- > 0)
		number = number << 8 | *p++;
	return number;
}

static WalkValue
value_at(const uint8_t *data, size_t offset)
{
	const uint8_t *p = data + offset;
	uint8_t		b = *p;
	WalkValue	v = {WALK_NIL, offset, 1, 0, 0};

	if (b < 0x80)
	{
		v.type = WALK_UINT;
		v.number = b;
	}
	else if (b < 0xa0)
	{
		v.type = b < 0x90 ? WALK_MAP : WALK_ARRAY;
		v.number = b & 15;
	}
	else if (b < 0xc0)
	{
		v.type = WALK_STR;
		v.number = b & 31;
	}
	else if (b >= 0xe0)
	{
		v.type = WALK_INT;
		v.number = (uint64_t) (int64_t) (int8_t) b;
	}
	else if (b >= 0xc4 && b <= 0xc6)
	{
		v.type = WALK_BIN;
		v.header += (size_t) 1 << (b - 0xc4);
	}
	else if (b >= 0xcc && b <= 0xcf)
	{
		v.type = WALK_UINT;
		v.header += (size_t) 1 << (b - 0xcc);
	}
	else if (b >= 0xd0 && b <= 0xd3)
	{
		unsigned	bits = 8u << (b - 0xd0);

		v.type = WALK_INT;
		v.header += bits / 8;
		v.number = number_at(p + 1, bits / 8) << (64 - bits);
		v.number = (uint64_t) ((int64_t) v.number >> (64 - bits));
		return v;
	}
	else if (b >= 0xd9 && b <= 0xdb)
	{
		v.type = WALK_STR;
		v.header += (size_t) 1 << (b - 0xd9);
	}
	else if (b >= 0xdc && b <= 0xdf)
	{
		v.type = b < 0xde ? WALK_ARRAY : WALK_MAP;
		v.header += b % 2 == 0 ? 2 : 4;
	}

	if (v.header > 1)
		v.number = number_at(p + 1, v.header - 1);
	if (v.type == WALK_STR || v.type == WALK_BIN)
		v.content = v.number;
	return v;
}

size_t
walk(const uint8_t *data, size_t len, WalkValue *values, size_t most)
{
	size_t		count = 0;
	size_t		offset = 0;

	while (offset < len && count < most)
	{
		values[count] = value_at(data, offset);
		offset += values[count].header + values[count].content;
		count++;
	}
	return count;
}

size_t
wide_form(uint8_t *out, WalkType type, unsigned width, uint64_t number)
{
	static const uint8_t first[][4] = {	/* by width 1, 2, 4, 8 */
		[WALK_NIL] = {0},
		[WALK_UINT] = {0xcc, 0xcd, 0xce, 0xcf},
		[WALK_INT] = {0xd0, 0xd1, 0xd2, 0xd3},
		[WALK_STR] = {0xd9, 0xda, 0xdb, 0},
		[WALK_BIN] = {0xc4, 0xc5, 0xc6, 0},
		[WALK_ARRAY] = {0, 0xdc, 0xdd, 0},
		[WALK_MAP] = {0, 0xde, 0xdf, 0}
	};

	out[0] = first[type][width == 1 ? 0 : width == 2 ? 1 : width == 4 ? 2 : 3];
	if (out[0] == 0)
		return 0;
	for (unsigned i = 0; i < width; i++)
		out[1 + i] = (uint8_t) (number >> (8 * (width - 1 - i)));
	return 1 + width;
}
