/*
 * reader.h
 *	  Typed reading of MessagePack values from a byte slice.
 *
 * A reader never moves past its end and never trusts a length: a header that
 * announces more elements than bytes remain is refused where it stands.
 * Every read returns false after setting reader->error (the first error
 * wins).  The field name is for that error only.
 */
#ifndef CALVIN_WIRE_READER_H
#define CALVIN_WIRE_READER_H

#include "wire/wire.h"
#include "wire/yield.h"

/*
 * Which integer and byte string forms are taken: the log's own, or any form
 * with a fitting value (wire_canonicalise).
 */
typedef enum WireMode
{
	WIRE_STRICT,
	WIRE_LENIENT
} WireMode;

typedef struct WireReader
{
	const uint8_t *start; /* offsets in errors count from here */
	const uint8_t *pos;
	const uint8_t *end;
	const uint8_t *yield_at; /* see wire_reader_yield() */
	WireMode	mode;
	bool		minimal; /* every value so far had its minimal form; readers
						  * set it to true where they begin to care */
	WireError	error;
} WireReader;

extern void wire_reader_init(WireReader *reader, const uint8_t *data,
							 size_t size, WireMode mode);

/* The next time to yield, for who goes on at "p", perhaps backward. */
static inline void
wire_reader_yield_behind(WireReader *reader, const uint8_t *p)
{
	reader->yield_at = (size_t) (reader->end - p) > WIRE_YIELD_BYTES ?
		p + WIRE_YIELD_BYTES : reader->end;
}

/* In each loop over values, at the position of one of them. */
static inline void
wire_reader_yield(WireReader *reader, const uint8_t *p)
{
	if (__builtin_expect(p > reader->yield_at, 0))
	{
		wire_reader_yield_behind(reader, p);
		wire_yield_now();
	}
}

/*
 * Refuse the value at "at" unless something was refused before.  "field" and
 * "expected" are string constants.
 */
extern void wire_reader_fail(WireReader *reader, WireStatus status,
							 const uint8_t *at, const char *field,
							 const char *expected);

/*
 * 0 <= value <= max.  In strict mode max also tells the field's type and so
 * the forms it may have: u8 up to 255, u32 up to 2^32 - 1, else u64.
 */
extern bool wire_read_uint(WireReader *reader, uint64_t max, uint64_t *value,
						   const char *field);
extern bool wire_read_int(WireReader *reader, int64_t *value,
						  const char *field);
/* UTF-8, checked */
extern bool wire_read_str(WireReader *reader, WireSlice *value,
						  const char *field);
extern bool wire_read_bin(WireReader *reader, WireSlice *value,
						  const char *field);
/* An array of any length, and one of exactly "count" elements. */
extern bool wire_read_array(WireReader *reader, uint32_t *count,
							const char *field);
extern bool wire_read_tuple(WireReader *reader, uint32_t count,
							const char *field);
extern bool wire_read_map(WireReader *reader, uint32_t *count,
						  const char *field);

/* True and one byte further if a nil is next; otherwise false, no error. */
extern bool wire_skip_nil(WireReader *reader);

/*
 * The same by position: each takes that of a value and returns that of the next,
 * or NULL after an error was set; reader->pos is not used.  For the decoder, see
 * scan.h.
 */

/* Any form; each clears reader->minimal if the form is not the shortest. */
extern const uint8_t *wire_take_uint(WireReader *reader, const uint8_t *p,
									 uint64_t max, uint64_t *value,
									 const char *field);
extern const uint8_t *wire_take_int(WireReader *reader, const uint8_t *p,
									int64_t *value, const char *field);
/* The content is not checked to be UTF-8. */
extern const uint8_t *wire_take_str(WireReader *reader, const uint8_t *p,
									WireSlice *value, const char *field);
extern const uint8_t *wire_take_bin(WireReader *reader, const uint8_t *p,
									WireSlice *value, const char *field);
/* Refuses a count whose elements, "least" bytes each, cannot all be there. */
extern const uint8_t *wire_take_array(WireReader *reader, const uint8_t *p,
									  uint32_t least, uint32_t *count,
									  const char *field);
extern const uint8_t *wire_take_tuple(WireReader *reader, const uint8_t *p,
									  uint32_t count, const char *field);
extern const uint8_t *wire_take_map(WireReader *reader, const uint8_t *p,
									uint32_t *count, const char *field);

/* wire_reader_fail for functions that return a position: always NULL. */
extern const uint8_t *wire_refuse(WireReader *reader, WireStatus status,
								  const uint8_t *at, const char *field,
								  const char *expected);

#endif							/* CALVIN_WIRE_READER_H */
