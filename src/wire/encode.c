/*
 * encode.c
 *	  The output buffer, and single values in their minimal form.
 *
 * msgpack-c's packer writes the minimal form of everything but signed
 * integers: it turns non-negative ones into uint forms, which no replica
 * takes for an i64.  Those are written by hand.
 */
#include "wire/encode.h"

#include "wire/yield.h"

#include <msgpack/pack.h>
#include <string.h>

#define FIRST_SIZE 256

/* More than a TxClass with one empty Document adds to its name and its plans. */
#define DOCUMENT_WRITE_FRAME 64

void
wire_buffer_init(WireBuffer *buffer, WireRealloc realloc, void *context)
{
	buffer->data = NULL;
	buffer->len = 0;
	buffer->size = 0;
	buffer->failed = false;
	buffer->realloc = realloc;
	buffer->context = context;
	buffer->scratch = context;
}

void
wire_buffer_reset(WireBuffer *buffer)
{
	buffer->len = 0;
	buffer->failed = false;
}

void
wire_buffer_free(WireBuffer *buffer)
{
	if (buffer->data != NULL)
		buffer->realloc(buffer->context, buffer->data, 0);
	buffer->data = NULL;
	buffer->size = 0;
	wire_buffer_reset(buffer);
}

/* Room for "len" more bytes. */
static bool
reserve(WireBuffer *buffer, size_t len)
{
	size_t		size = buffer->size > 0 ? buffer->size : FIRST_SIZE;
	uint8_t    *data;

	if (buffer->failed)
		return false;
	if (len <= buffer->size - buffer->len)
		return true;

	if (len > SIZE_MAX / 4 - buffer->len)
	{
		buffer->failed = true;
		return false;
	}
	while (size < buffer->len + len)
		size *= 2;
	data = buffer->realloc(buffer->context, buffer->data, size);
	if (data == NULL)
	{
		buffer->failed = true;
		return false;
	}
	buffer->data = data;
	buffer->size = size;
	return true;
}

uint8_t *
wire_put_space(WireBuffer *buffer, size_t len)
{
	uint8_t    *space;

	if (!reserve(buffer, len))
		return NULL;
	space = buffer->data + buffer->len;
	buffer->len += len;
	return space;
}

void
wire_put_raw(WireBuffer *buffer, const void *data, size_t len)
{
	if (len == 0 || !reserve(buffer, len))
		return;
	for (; len > WIRE_YIELD_COPIED; len -= WIRE_YIELD_COPIED)
	{
		memcpy(buffer->data + buffer->len, data, WIRE_YIELD_COPIED);
		buffer->len += WIRE_YIELD_COPIED;
		data = (const uint8_t *) data + WIRE_YIELD_COPIED;
		wire_yield_now();
	}
	memcpy(buffer->data + buffer->len, data, len);
	buffer->len += len;
}

static int
packer_write(void *buffer, const char *data, size_t len)
{
	wire_put_raw(buffer, data, len);
	return 0;
}

/* A packer is two pointers; making one per value costs nothing. */
static msgpack_packer
packer(WireBuffer *buffer)
{
	msgpack_packer packer;

	msgpack_packer_init(&packer, buffer, packer_write);
	return packer;
}

void
wire_put_uint(WireBuffer *buffer, uint64_t value)
{
	msgpack_packer pk = packer(buffer);

	msgpack_pack_uint64(&pk, value);
}

void
wire_put_int(WireBuffer *buffer, int64_t value)
{
	uint64_t	bits = (uint64_t) value;
	uint8_t		bytes[9];
	unsigned	width;

	if (value >= -32 && value <= INT8_MAX)
	{
		bytes[0] = (uint8_t) bits;
		wire_put_raw(buffer, bytes, 1);
		return;
	}

	if (value >= INT8_MIN && value < 0)
	{
		bytes[0] = 0xd0;
		width = 1;
	}
	else if (value >= INT16_MIN && value <= INT16_MAX)
	{
		bytes[0] = 0xd1;
		width = 2;
	}
	else if (value >= INT32_MIN && value <= INT32_MAX)
	{
		bytes[0] = 0xd2;
		width = 4;
	}
	else
	{
		bytes[0] = 0xd3;
		width = 8;
	}
	for (unsigned i = 0; i < width; i++)
		bytes[1 + i] = (uint8_t) (bits >> (8 * (width - 1 - i)));
	wire_put_raw(buffer, bytes, 1 + width);
}

void
wire_put_nil(WireBuffer *buffer)
{
	msgpack_packer pk = packer(buffer);

	msgpack_pack_nil(&pk);
}

/* A length that no header can tell is a failure like any other. */
static bool
header_fits(WireBuffer *buffer, size_t len)
{
	if (len > UINT32_MAX)
		buffer->failed = true;
	return !buffer->failed;
}

void
wire_put_str(WireBuffer *buffer, const void *data, size_t len)
{
	msgpack_packer pk = packer(buffer);

	if (!header_fits(buffer, len))
		return;
	msgpack_pack_str(&pk, len);
	wire_put_raw(buffer, data, len);
}

void
wire_put_bin(WireBuffer *buffer, const void *data, size_t len)
{
	if (!header_fits(buffer, len))
		return;
	wire_put_bin_header(buffer, (uint32_t) len);
	wire_put_raw(buffer, data, len);
}

void
wire_put_bin_header(WireBuffer *buffer, uint32_t len)
{
	msgpack_packer pk = packer(buffer);

	msgpack_pack_bin(&pk, len);
}

void
wire_put_array_header(WireBuffer *buffer, uint32_t count)
{
	msgpack_packer pk = packer(buffer);

	msgpack_pack_array(&pk, count);
}

void
wire_put_map_header(WireBuffer *buffer, uint32_t count)
{
	msgpack_packer pk = packer(buffer);

	msgpack_pack_map(&pk, count);
}

void
wire_put_document_write(WireBuffer *buffer, const void *collection,
						size_t collection_len, const void *plans,
						size_t plans_len, uint64_t tenant_id)
{
	static const char tag[] = "Document";

	if (collection_len > UINT32_MAX || plans_len > UINT32_MAX)
		buffer->failed = true;
	if (!reserve(buffer, collection_len + plans_len + DOCUMENT_WRITE_FRAME))
		return;
	wire_put_array_header(buffer, 5);
	wire_put_array_header(buffer, 0); /* read_set */
	wire_put_array_header(buffer, 1); /* write_set */
	wire_put_array_header(buffer, 2);
	wire_put_str(buffer, tag, sizeof(tag) - 1);
	wire_put_array_header(buffer, 2);
	wire_put_str(buffer, collection, collection_len);
	wire_put_array_header(buffer, 0); /* surrogates */
	wire_put_bin(buffer, plans, plans_len);
	wire_put_uint(buffer, tenant_id);
	wire_put_nil(buffer); /* dependent_reads */
}
