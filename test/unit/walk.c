/*
 * walk.c
 *	  A plain walker over MessagePack, value after value.
 */
#include "walk.h"

#include <stdbool.h>

static uint64_t
number_at(const uint8_t *p, size_t width)
{
	uint64_t	number = 0;

	while (width-- > 0)
		number = number << 8 | *p++;
	return number;
}

/* The header of the value at "offset"; false if it is not all there. */
static bool
value_at(const uint8_t *data, size_t len, size_t offset, WalkValue *v)
{
	const uint8_t *p = data + offset;
	uint8_t		b = *p;
	size_t		more = 0;		/* bytes of number */
	size_t		beside = 0;		/* bytes of content beside those it tells */

	v->offset = offset;
	v->number = 0;
	if (b < 0x80)
	{
		v->type = WALK_UINT;
		v->number = b;
	}
	else if (b < 0xa0)
	{
		v->type = b < 0x90 ? WALK_MAP : WALK_ARRAY;
		v->number = b & 15;
	}
	else if (b < 0xc0)
	{
		v->type = WALK_STR;
		v->number = b & 31;
	}
	else if (b >= 0xe0)
	{
		v->type = WALK_INT;
		v->number = (uint64_t) (int64_t) (int8_t) b;
	}
	else if (b >= 0xc4 && b <= 0xc6)
	{
		v->type = WALK_BIN;
		more = (size_t) 1 << (b - 0xc4);
	}
	else if (b >= 0xcc && b <= 0xcf)
	{
		v->type = WALK_UINT;
		more = (size_t) 1 << (b - 0xcc);
	}
	else if (b >= 0xd0 && b <= 0xd3)
	{
		v->type = WALK_INT;
		more = (size_t) 1 << (b - 0xd0);
	}
	else if (b >= 0xd9 && b <= 0xdb)
	{
		v->type = WALK_STR;
		more = (size_t) 1 << (b - 0xd9);
	}
	else if (b >= 0xdc)
	{
		v->type = b < 0xde ? WALK_ARRAY : WALK_MAP;
		more = b % 2 == 0 ? 2 : 4;
	}
	else if (b == 0xc0)
		v->type = WALK_NIL;
	else
	{
		v->type = WALK_OTHER;
		if (b == 0xc1)
			return false;
		if (b >= 0xc7 && b <= 0xc9) /* ext: its type follows the length */
		{
			more = (size_t) 1 << (b - 0xc7);
			beside = 1;
		}
		else if (b == 0xca || b == 0xcb)
			beside = b == 0xca ? 4 : 8;
		else if (b >= 0xd4)
			beside = ((size_t) 1 << (b - 0xd4)) + 1;
	}

	if (len - offset <= more)
		return false;
	v->header = 1 + more;
	if (more > 0)
		v->number = number_at(p + 1, more);
	if (v->type == WALK_INT && more > 0 && more < 8)
	{
		uint64_t	sign = UINT64_C(1) << (8 * more - 1);

		v->number = (v->number ^ sign) - sign;
	}
	v->content = beside;
	if (v->type == WALK_STR || v->type == WALK_BIN || v->type == WALK_OTHER)
		v->content += v->number;
	return v->content <= len - offset - v->header;
}

size_t
walk(const uint8_t *data, size_t len, WalkValue *values, size_t most)
{
	size_t		count = 0;
	size_t		offset = 0;
	uint64_t	wanted = 1;		/* values still to come */

	while (wanted > 0)
	{
		WalkValue  *v = &values[count];

		if (wanted > len - offset || count == most ||
			!value_at(data, len, offset, v))
			return 0;
		wanted--;
		if (v->type == WALK_ARRAY)
			wanted += v->number;
		else if (v->type == WALK_MAP)
			wanted += 2 * v->number;
		offset = walk_end(v);
		count++;
	}
	return count;
}

size_t
walk_end(const WalkValue *value)
{
	return value->offset + value->header + value->content;
}

size_t
walk_past(const WalkValue *values, size_t i)
{
	uint64_t	wanted = 1;

	for (; wanted > 0; i++)
	{
		wanted--;
		if (values[i].type == WALK_ARRAY)
			wanted += values[i].number;
		else if (values[i].type == WALK_MAP)
			wanted += 2 * values[i].number;
	}
	return i;
}

size_t
wide_form(uint8_t *out, WalkType type, unsigned width, uint64_t number)
{
	/* by width 1, 2, 4, 8 */
	static const uint8_t first[][4] = {
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
