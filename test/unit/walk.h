/*
 * walk.h
 *	  Where the values of a MessagePack text stand, found by a walker that
 *	  shares nothing with the code under test.
 */
#ifndef CALVIN_TEST_WALK_H
#define CALVIN_TEST_WALK_H

#include <stddef.h>
#include <stdint.h>

typedef enum WalkType
{
	WALK_NIL,
	WALK_UINT,
	WALK_INT,					/* a negative or otherwise signed form */
	WALK_STR,
	WALK_BIN,
	WALK_ARRAY,
	WALK_MAP,
	WALK_OTHER					/* bool, float, ext: no entry holds them */
} WalkType;

typedef struct WalkValue
{
	WalkType	type;
	size_t		offset;
	size_t		header;			/* bytes before the content */
	size_t		content;		/* bytes after it that are not values */
	uint64_t	number;			/* value, or length, or count */
} WalkValue;

/*
 * The first value of "data" and all that it contains, in order.  Returns how
 * many they are; 0 if no value is complete there, or if they are more than
 * "most".  There cannot be more than bytes.
 */
extern size_t walk(const uint8_t *data, size_t len, WalkValue *values,
				   size_t most);

/* Where the values after values[i] and all that it contains begin. */
extern size_t walk_past(const WalkValue *values, size_t i);

/* Where the bytes of a value end, or for an array or map its header. */
extern size_t walk_end(const WalkValue *value);

/* A header or integer with "width" bytes (1, 2, 4, 8) of number; 0 if
 * the type has no such form.  Returns the bytes written. */
extern size_t wide_form(uint8_t *out, WalkType type, unsigned width,
						uint64_t number);

#endif							/* CALVIN_TEST_WALK_H */
