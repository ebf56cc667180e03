/*
 * reader.c
 *	  Every form of every MessagePack value that an entry can hold, and what
 *	  is wrong with the others.
 *
 * Offsets in errors: a value that is cut off is reported where its first
 * missing byte would be, a count that the remaining bytes cannot back where
 * its header stands, anything else at the first byte of the value.
 */
#include "wire/reader.h"

#include "wire/bytes.h"
#include "wire/schema.h"

#define EXPECTED_MORE "more bytes"
#define EXPECTED_BACKED "no more elements than the remaining bytes can hold"

void		(*wire_yield) (void) = NULL;

void
wire_reader_init(WireReader *reader, const uint8_t *data, size_t size,
				 WireMode mode)
{
	reader->start = data;
	reader->pos = data;
	reader->end = size > 0 ? data + size : data;
	wire_reader_yield_behind(reader, data);
	reader->mode = mode;
	reader->minimal = true;
	reader->error.status = WIRE_OK;
	reader->error.offset = 0;
	reader->error.field = NULL;
	reader->error.expected = NULL;
}

void
wire_reader_fail(WireReader *reader, WireStatus status, const uint8_t *at,
				 const char *field, const char *expected)
{
	if (reader->error.status != WIRE_OK)
		return;
	reader->error.status = status;
	reader->error.offset = (uint32_t) (at - reader->start);
	reader->error.field = field;
	reader->error.expected = expected;
}

const uint8_t *
wire_refuse(WireReader *reader, WireStatus status, const uint8_t *at,
			const char *field, const char *expected)
{
	wire_reader_fail(reader, status, at, field, expected);
	return NULL;
}

static const uint8_t *
refuse_truncated(WireReader *reader, const char *field)
{
	return wire_refuse(reader, WIRE_TRUNCATED, reader->end, field,
					   EXPECTED_MORE);
}

static const char *
expected_uint(uint64_t max)
{
	switch (max)
	{
		case UINT8_MAX:
			return "an unsigned integer up to 255";
		case WIRE_VSHARDS - 1:
			return "an unsigned integer up to 1023";
		case UINT32_MAX:
			return "an unsigned integer up to 4294967295";
		case WIRE_MAX_EPOCH:
			return "an unsigned integer up to 9223372036854775806";
		case WIRE_MAX_TENANT:
			return "an unsigned integer up to 9223372036854775807";
		default:
			return "an unsigned integer";
	}
}

/* The content of an integer after its first byte: 1, 2, 4 or 8 bytes. */
static uint64_t
load_width(const uint8_t *p, unsigned width)
{
	switch (width)
	{
		case 1:
			return *p;
		case 2:
			return wire_load_be16(p);
		case 4:
			return wire_load_be32(p);
		default:
			return wire_load_be64(p);
	}
}

/* The same with the sign extended. */
static int64_t
load_signed(const uint8_t *p, unsigned width)
{
	switch (width)
	{
		case 1:
			return (int8_t) *p;
		case 2:
			return (int16_t) wire_load_be16(p);
		case 4:
			return (int32_t) wire_load_be32(p);
		default:
			return (int64_t) wire_load_be64(p);
	}
}

/* The widest unsigned form that strict mode takes for a field, in bytes. */
static unsigned
widest_form(uint64_t max)
{
	if (max <= UINT8_MAX)
		return 1;
	return max <= UINT32_MAX ? 4 : 8;
}

static unsigned
minimal_uint_width(uint64_t value)
{
	if (value < 0x80)
		return 0;
	if (value <= UINT8_MAX)
		return 1;
	if (value <= UINT16_MAX)
		return 2;
	return value <= UINT32_MAX ? 4 : 8;
}

static unsigned
minimal_int_width(int64_t value)
{
	if (value >= -32 && value < 0x80)
		return 0;
	if (value >= INT8_MIN && value <= INT8_MAX)
		return 1;
	if (value >= INT16_MIN && value <= INT16_MAX)
		return 2;
	return value >= INT32_MIN && value <= INT32_MAX ? 4 : 8;
}

const uint8_t *
wire_take_uint(WireReader *reader, const uint8_t *p, uint64_t max,
			   uint64_t *value, const char *field)
{
	bool		lenient = reader->mode == WIRE_LENIENT;
	bool		is_signed = false;
	bool		fits;
	unsigned	width;
	uint64_t	v;

	if (p >= reader->end)
		return refuse_truncated(reader, field);

	if (*p < 0x80)
		width = 0;
	else if (*p >= 0xcc && *p <= 0xcf)
		width = 1u << (*p - 0xcc);
	else if (lenient && *p >= 0xd0 && *p <= 0xd3)
	{
		width = 1u << (*p - 0xd0);
		is_signed = true;
	}
	else if (lenient && *p >= 0xe0)
		return wire_refuse(reader, WIRE_OUT_OF_RANGE, p, field,
						   expected_uint(max));
	else
		return wire_refuse(reader, WIRE_WRONG_TYPE, p, field,
						   expected_uint(max));

	if ((size_t) (reader->end - p) <= width)
		return refuse_truncated(reader, field);

	if (width == 0)
		v = *p;
	else if (is_signed)
		v = (uint64_t) load_signed(p + 1, width);	/* negative: above max */
	else
		v = load_width(p + 1, width);

	fits = v <= max && !(is_signed && v > INT64_MAX);
	if (!fits)
		return wire_refuse(reader, WIRE_OUT_OF_RANGE, p, field,
						   expected_uint(max));
	if (!lenient && width > widest_form(max))
		return wire_refuse(reader, WIRE_WRONG_TYPE, p, field,
						   expected_uint(max));

	if (is_signed || width != minimal_uint_width(v))
		reader->minimal = false;
	*value = v;
	return p + 1 + width;
}

const uint8_t *
wire_take_int(WireReader *reader, const uint8_t *p, int64_t *value,
			  const char *field)
{
	bool		lenient = reader->mode == WIRE_LENIENT;
	bool		is_signed = true;
	unsigned	width;
	int64_t		v;

	if (p >= reader->end)
		return refuse_truncated(reader, field);

	if (*p < 0x80 || *p >= 0xe0)
		width = 0;
	else if (*p >= 0xd0 && *p <= 0xd3)
		width = 1u << (*p - 0xd0);
	else if (lenient && *p >= 0xcc && *p <= 0xcf)
	{
		width = 1u << (*p - 0xcc);
		is_signed = false;
	}
	else
		return wire_refuse(reader, WIRE_WRONG_TYPE, p, field,
						   "a signed integer");

	if ((size_t) (reader->end - p) <= width)
		return refuse_truncated(reader, field);

	if (width == 0)
		v = (int8_t) *p;
	else if (is_signed)
		v = load_signed(p + 1, width);
	else
	{
		uint64_t	u = load_width(p + 1, width);

		if (u > INT64_MAX)
			return wire_refuse(reader, WIRE_OUT_OF_RANGE, p, field,
							   "an integer up to 9223372036854775807");
		v = (int64_t) u;
	}

	if (!is_signed || width != minimal_int_width(v))
		reader->minimal = false;
	*value = v;
	return p + 1 + width;
}

/* Content of "len" bytes after a header of "header" bytes. */
static const uint8_t *
take_content(WireReader *reader, const uint8_t *p, unsigned header,
			 uint32_t len, WireSlice *value, const char *field)
{
	if ((size_t) (reader->end - p) < (size_t) header + len)
		return refuse_truncated(reader, field);
	value->data = p + header;
	value->len = len;
	return p + header + len;
}

const uint8_t *
wire_take_str(WireReader *reader, const uint8_t *p, WireSlice *value,
			  const char *field)
{
	unsigned	width;
	uint32_t	len;

	if (p >= reader->end)
		return refuse_truncated(reader, field);
	if ((*p & 0xe0) == 0xa0)
		return take_content(reader, p, 1, *p & 0x1f, value, field);
	if (*p < 0xd9 || *p > 0xdb)
		return wire_refuse(reader, WIRE_WRONG_TYPE, p, field, "a str");

	width = 1u << (*p - 0xd9);
	if ((size_t) (reader->end - p) <= width)
		return refuse_truncated(reader, field);
	len = (uint32_t) load_width(p + 1, width);
	if (len < 32 || (width == 2 && len <= UINT8_MAX) ||
		(width == 4 && len <= UINT16_MAX))
		reader->minimal = false;
	return take_content(reader, p, 1 + width, len, value, field);
}

const uint8_t *
wire_take_bin(WireReader *reader, const uint8_t *p, WireSlice *value,
			  const char *field)
{
	unsigned	width;
	uint32_t	len;

	if (p >= reader->end)
		return refuse_truncated(reader, field);
	if (*p < 0xc4 || *p > 0xc6)
		return wire_refuse(reader, WIRE_WRONG_TYPE, p, field, "a bin");

	width = 1u << (*p - 0xc4);
	if ((size_t) (reader->end - p) <= width)
		return refuse_truncated(reader, field);
	len = (uint32_t) load_width(p + 1, width);
	if ((width == 2 && len <= UINT8_MAX) || (width == 4 && len <= UINT16_MAX))
		reader->minimal = false;
	return take_content(reader, p, 1 + width, len, value, field);
}

/*
 * The header of an array (fix 0x90, wide 0xdc) or a map (fix 0x80, wide
 * 0xde): both have a fix form and two wide ones.
 */
static const uint8_t *
take_count(WireReader *reader, const uint8_t *p, uint8_t fix, uint8_t wide,
		   uint32_t *count, const char *field, const char *expected)
{
	unsigned	width;

	if (p >= reader->end)
		return refuse_truncated(reader, field);
	if ((*p & 0xf0) == fix)
	{
		*count = *p & 0x0f;
		return p + 1;
	}
	if (*p != wide && *p != wide + 1)
		return wire_refuse(reader, WIRE_WRONG_TYPE, p, field, expected);

	width = *p == wide ? 2 : 4;
	if ((size_t) (reader->end - p) <= width)
		return refuse_truncated(reader, field);
	*count = (uint32_t) load_width(p + 1, width);
	if (*count < 16 || (width == 4 && *count <= UINT16_MAX))
		reader->minimal = false;
	return p + 1 + width;
}

const uint8_t *
wire_take_array(WireReader *reader, const uint8_t *p, uint32_t least,
				uint32_t *count, const char *field)
{
	const uint8_t *next = take_count(reader, p, 0x90, 0xdc, count, field,
									 "an array");

	if (next != NULL &&
		(uint64_t) *count * least > (size_t) (reader->end - next))
		return wire_refuse(reader, WIRE_TRUNCATED, p, field, EXPECTED_BACKED);
	return next;
}

const uint8_t *
wire_take_tuple(WireReader *reader, const uint8_t *p, uint32_t count,
				const char *field)
{
	static const char *const expected[] = {
		"an array",
		"an array of 1 element",
		"an array of 2 elements",
		"an array of 3 elements",
		"an array of 4 elements",
		"an array of 5 elements"
	};
	const char *wanted = expected[count < 6 ? count : 0];
	const uint8_t *next;
	uint32_t	found;

	next = take_count(reader, p, 0x90, 0xdc, &found, field, wanted);
	if (next != NULL && found != count)
		return wire_refuse(reader, WIRE_WRONG_LENGTH, p, field, wanted);
	return next;
}

const uint8_t *
wire_take_map(WireReader *reader, const uint8_t *p, uint32_t *count,
			  const char *field)
{
	const uint8_t *next = take_count(reader, p, 0x80, 0xde, count, field,
									 "a map");

	if (next != NULL && (uint64_t) *count * 2 > (size_t) (reader->end - next))
		return wire_refuse(reader, WIRE_TRUNCATED, p, field, EXPECTED_BACKED);
	return next;
}

/* A reader's end: move on, or stay where the error is. */
static bool
move_to(WireReader *reader, const uint8_t *next)
{
	if (next == NULL)
		return false;
	reader->pos = next;
	return true;
}

bool
wire_read_uint(WireReader *reader, uint64_t max, uint64_t *value,
			   const char *field)
{
	return move_to(reader,
				   wire_take_uint(reader, reader->pos, max, value, field));
}

bool
wire_read_int(WireReader *reader, int64_t *value, const char *field)
{
	return move_to(reader, wire_take_int(reader, reader->pos, value, field));
}

bool
wire_read_str(WireReader *reader, WireSlice *value, const char *field)
{
	const uint8_t *next = wire_take_str(reader, reader->pos, value, field);

	if (next != NULL && !wire_utf8_valid(value->data, value->len))
		next = wire_refuse(reader, WIRE_BAD_UTF8, reader->pos, field,
						   WIRE_X_UTF8);
	return move_to(reader, next);
}

bool
wire_read_bin(WireReader *reader, WireSlice *value, const char *field)
{
	return move_to(reader, wire_take_bin(reader, reader->pos, value, field));
}

bool
wire_read_array(WireReader *reader, uint32_t *count, const char *field)
{
	return move_to(reader,
				   wire_take_array(reader, reader->pos, 1, count, field));
}

bool
wire_read_tuple(WireReader *reader, uint32_t count, const char *field)
{
	return move_to(reader, wire_take_tuple(reader, reader->pos, count, field));
}

bool
wire_read_map(WireReader *reader, uint32_t *count, const char *field)
{
	return move_to(reader, wire_take_map(reader, reader->pos, count, field));
}

bool
wire_skip_nil(WireReader *reader)
{
	if (reader->pos >= reader->end || *reader->pos != 0xc0)
		return false;
	reader->pos++;
	return true;
}

const char *
wire_status_name(WireStatus status)
{
	switch (status)
	{
		case WIRE_OK:
			return "ok";
		case WIRE_TRUNCATED:
			return "truncated";
		case WIRE_WRONG_TYPE:
			return "wrong type";
		case WIRE_WRONG_LENGTH:
			return "wrong length";
		case WIRE_WRONG_TAG:
			return "unknown variant";
		case WIRE_OUT_OF_RANGE:
			return "out of range";
		case WIRE_BAD_UTF8:
			return "invalid UTF-8";
		case WIRE_TRAILING:
			return "trailing bytes";
		case WIRE_MISMATCH:
			return "mismatch";
		case WIRE_TOO_LARGE:
			return "too large";
		case WIRE_NO_MEMORY:
			return "out of memory";
	}
	return "unknown";
}
