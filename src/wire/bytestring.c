/*
 * bytestring.c
 *	  Byte strings as arrays of integers or as bin.
 *
 * A set of keys is kept as pointers to where the keys stand, so a comparison
 * that their first bytes do not decide reads through the input's own forms;
 * wire_read_byte_string has checked them by then.
 */
#include "wire/bytestring.h"

#include "wire/scan.h"

typedef struct ByteReader
{
	const uint8_t *pos;
	uint32_t	left;
	bool		is_bin;
} ByteReader;

static ByteReader
open_string(const uint8_t *p)
{
	ByteReader	reader;

	reader.is_bin = *p >= 0xc4 && *p <= 0xc6;
	switch (*p)
	{
		case 0xc4:
			reader.left = p[1];
			reader.pos = p + 2;
			break;
		case 0xc5:
		case 0xdc:
			reader.left = wire_load_be16(p + 1);
			reader.pos = p + 3;
			break;
		case 0xc6:
		case 0xdd:
			reader.left = wire_load_be32(p + 1);
			reader.pos = p + 5;
			break;
		default:
			reader.left = *p & 0x0f;
			reader.pos = p + 1;
			break;
	}
	return reader;
}

/* The values are known to be 0 .. 255: the last byte of any form is it. */
static uint8_t
next_byte(ByteReader *reader)
{
	const uint8_t *p = reader->pos;
	uint32_t	width = 0;

	if (!reader->is_bin && *p >= 0x80)
		width = 1u << ((*p - 0xcc) & 3);	/* 0xcc .. 0xcf, 0xd0 .. 0xd3 */
	reader->left--;
	reader->pos = p + 1 + width;
	return p[width];
}

bool
wire_read_byte_string(WireReader *reader, const char *field)
{
	const uint8_t *p = reader->pos;
	uint32_t	count;

	if (reader->mode == WIRE_LENIENT && p < reader->end)
	{
		WireSlice	content;

		if (*p >= 0xc4 && *p <= 0xc6)
			return wire_read_bin(reader, &content, field);
		if ((*p & 0xf0) != 0x90 && *p != 0xdc && *p != 0xdd)
		{
			(void) wire_refuse(reader, WIRE_WRONG_TYPE, p, field,
							   "a bin, or an array of integers,");
			return false;
		}
	}

	if (!wire_read_array(reader, &count, field))
		return false;
	for (; count > 0; count--)
	{
		uint64_t	byte;

		wire_yield_at(count);
		if (!wire_read_uint(reader, UINT8_MAX, &byte, field))
			return false;
	}
	return true;
}

void
wire_put_key(WireBuffer *buffer, const uint8_t *string)
{
	ByteReader	reader = open_string(string);

	wire_put_array_header(buffer, reader.left);
	while (reader.left > 0)
	{
		wire_yield_at(reader.left);
		wire_put_uint(buffer, next_byte(&reader));
	}
}

void
wire_put_plans(WireBuffer *buffer, const uint8_t *string)
{
	ByteReader	reader = open_string(string);

	if (reader.is_bin)
	{
		wire_put_bin(buffer, reader.pos, reader.left);
		return;
	}
	wire_put_bin_header(buffer, reader.left);
	while (reader.left > 0)
	{
		uint8_t		byte;

		wire_yield_at(reader.left);
		byte = next_byte(&reader);

		wire_put_raw(buffer, &byte, 1);
	}
}

WireKey
wire_key(const uint8_t *string)
{
	WireKey		key = {0, string};
	ByteReader	reader = open_string(string);

	for (int shift = 56; shift >= 0 && reader.left > 0; shift -= 8)
		key.begin |= (uint64_t) next_byte(&reader) << shift;
	return key;
}

int
wire_compare_keys(const void *a, const void *b)
{
	const WireKey *x_key = a;
	const WireKey *y_key = b;
	ByteReader	left;
	ByteReader	right;

	if (x_key->begin != y_key->begin)
		return x_key->begin < y_key->begin ? -1 : 1;
	left = open_string(x_key->string);
	right = open_string(y_key->string);
	while (left.left > 0 && right.left > 0)
	{
		uint8_t		x;
		uint8_t		y;

		wire_yield_at(left.left);
		x = next_byte(&left);
		y = next_byte(&right);
		if (x != y)
			return x < y ? -1 : 1;
	}
	return (left.left > 0) - (right.left > 0);
}
