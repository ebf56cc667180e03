/*
 * mutate.c
 *	  Changes to an entry that leave it MessagePack, mostly.
 */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "support.h"
#include "walk.h"

/* The bytes at hand, and what they hold. */
typedef struct Subject
{
	uint8_t    *data;
	size_t		len;
	size_t		most;
	const WalkValue *values;
	size_t		count;
	uint64_t	seed;
} Subject;

static uint64_t
pick(Subject *s, uint64_t of)
{
	return (next_random(&s->seed) >> 20) % of;
}

/* Where the value begins, or the bytes end. */
static size_t
offset_of(const Subject *s, size_t i)
{
	return i < s->count ? s->values[i].offset :
		walk_end(&s->values[s->count - 1]);
}

/* Puts "n" bytes in the place of those from "from" to "to". */
static bool
splice(Subject *s, size_t from, size_t to, const void *bytes, size_t n)
{
	size_t		len = s->len - (to - from) + n;

	if (len > s->most)
		return false;
	memmove(s->data + from + n, s->data + to, s->len - to);
	if (n > 0)
		memcpy(s->data + from, bytes, n);
	s->len = len;
	return true;
}

/* The header of a value in its shortest form. */
static size_t
short_form(uint8_t *form, WalkType type, uint64_t n)
{
	unsigned	width = n < 0x100 ? 1 : n < 0x10000 ? 2 : n >> 32 == 0 ? 4 : 8;

	switch (type)
	{
		case WALK_UINT:
		case WALK_INT:
			if (n < 0x80)
			{
				form[0] = (uint8_t) n;
				return 1;
			}
			if (type == WALK_INT)
				width = 8;
			break;
		case WALK_STR:
			if (n < 32)
			{
				form[0] = (uint8_t) (0xa0 | n);
				return 1;
			}
			break;
		case WALK_ARRAY:
		case WALK_MAP:
			if (n < 16)
			{
				form[0] = (uint8_t) ((type == WALK_ARRAY ? 0x90 : 0x80) | n);
				return 1;
			}
			if (width == 1)
				width = 2;
			break;
		default:
			break;
	}
	return wide_form(form, type, width, n);
}

static bool
change_number(Subject *s, const WalkValue *v)
{
	static const uint64_t numbers[] = {
		0, 1, 2, 15, 16, 31, 32, 127, 128, 255, 256, 1023, 1024, 65535, 65536,
		INT32_MAX, (uint64_t) INT32_MAX + 1, UINT32_MAX,
		(uint64_t) UINT32_MAX + 1, (uint64_t) INT64_MAX - 1, INT64_MAX,
		(uint64_t) INT64_MAX + 1, UINT64_MAX, (uint64_t) -32, (uint64_t) -33,
		(uint64_t) -128, (uint64_t) -129, (uint64_t) -32768,
		(uint64_t) -32769, (uint64_t) INT32_MIN, (uint64_t) INT32_MIN - 1
	};
	uint64_t	n = v->number;
	WalkType	type = pick(s, 4) == 0 ? WALK_INT : v->type;
	uint8_t		form[9];
	size_t		len;

	switch (pick(s, 4))
	{
		case 0:
			n = numbers[pick(s, sizeof(numbers) / sizeof(numbers[0]))];
			break;
		case 1:
			n += pick(s, 2) == 0 ? 1 : UINT64_MAX;
			break;
		case 2:
			n = pick(s, 256);
			break;
		default:
			break;				/* only its form */
	}
	if (pick(s, 2) == 0)
		len = short_form(form, type, n);
	else
		len = wide_form(form, type, 1u << pick(s, 4), n);
	return len > 0 && splice(s, v->offset, v->offset + v->header, form, len);
}

/* Another name, or another header for it. */
static bool
change_text(Subject *s, const WalkValue *v)
{
	static const char *const texts[] = {
		"", "a", "b", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80",
		"\xed\xa0\x80", "\xed\x9f\xbf", "\xee\x80\x80", "\xc0\x80",
		"\xf4\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xe0\x9f\xbf",
		"\xf0\x8f\xbf\xbf", "\xc2", "\x7f", "\"\\", "Document", "Vector", "Kv",
		"Edge", "EpochBatch", "CompletionAck",
		"0123456789abcdef0123456789abcdef"
	};
	uint8_t		bytes[80];
	size_t		len;
	const char *text;

	switch (pick(s, 3))
	{
		case 0:
			len = wide_form(bytes, v->type, 1u << pick(s, 3), v->number);
			return len > 0 &&
				splice(s, v->offset, v->offset + v->header, bytes, len);
		case 1:
			if (v->content == 0)
				return false;
			s->data[v->offset + v->header + pick(s, v->content)] =
				(uint8_t) pick(s, 256);
			return true;
		default:
			text = texts[pick(s, sizeof(texts) / sizeof(texts[0]))];
			len = short_form(bytes, v->type, strlen(text));
			memcpy(bytes + len, text, strlen(text));
			return splice(s, v->offset, walk_end(v), bytes,
						  len + strlen(text));
	}
}

/* Removes, repeats or moves an element, or counts it differently. */
static bool
change_elements(Subject *s, size_t i)
{
	const WalkValue *v = &s->values[i];
	size_t		each = v->type == WALK_MAP ? 2 : 1;
	size_t		first = i + 1;
	size_t		past;
	uint64_t	count = v->number;
	uint8_t		form[9];
	uint8_t    *piece;
	size_t		len;
	bool		done;

	if (count == 0 || pick(s, 8) == 0)
	{
		if (pick(s, 2) == 0)
			len = wide_form(form, v->type, 2u << pick(s, 2), count);
		else
			len = short_form(form, v->type, pick(s, 2) == 0 ? count + 1 : 0);
		return len > 0 &&
			splice(s, v->offset, v->offset + v->header, form, len);
	}
	for (uint64_t skip = pick(s, count); skip > 0; skip--)
	{
		for (size_t e = 0; e < each; e++)
			first = walk_past(s->values, first);
	}
	past = first;
	for (size_t e = 0; e < each; e++)
		past = walk_past(s->values, past);

	len = offset_of(s, past) - offset_of(s, first);
	piece = exact_copy(s->data + offset_of(s, first), len);
	switch (pick(s, 3))
	{
		case 0:
			done = splice(s, offset_of(s, first), offset_of(s, past), NULL, 0);
			count--;
			break;
		case 1:
			done = splice(s, offset_of(s, first), offset_of(s, first), piece,
						  len);
			count++;
			break;
		default:				/* to the front */
			done = splice(s, offset_of(s, first), offset_of(s, past), NULL, 0) &&
				splice(s, v->offset + v->header, v->offset + v->header, piece,
					   len);
			break;
	}
	free(piece);
	if (!done)
		return false;
	len = short_form(form, v->type, count);
	return splice(s, v->offset, v->offset + v->header, form, len);
}

/* One value in the place of another one. */
static bool
replace(Subject *s, size_t i)
{
	size_t		by = (size_t) pick(s, s->count);
	size_t		from = s->values[by].offset;
	size_t		len = offset_of(s, walk_past(s->values, by)) - from;
	uint8_t    *piece = exact_copy(s->data + from, len);
	bool		done = splice(s, s->values[i].offset,
							  offset_of(s, walk_past(s->values, i)), piece, len);

	free(piece);
	return done;
}

static bool
change(Subject *s)
{
	size_t		i = (size_t) pick(s, s->count);
	const WalkValue *v = &s->values[i];

	if (pick(s, 10) == 0)
		return replace(s, i);
	switch (v->type)
	{
		case WALK_UINT:
		case WALK_INT:
			return change_number(s, v);
		case WALK_STR:
		case WALK_BIN:
			return change_text(s, v);
		case WALK_ARRAY:
		case WALK_MAP:
			return change_elements(s, i);
		case WALK_NIL:
		case WALK_OTHER:
			break;
	}
	/* dependent reads instead of none */
	return splice(s, v->offset, v->offset + 1, "\x91\x81\x05\x90", 4);
}

size_t
entry_mutate(uint8_t *data, size_t len, size_t most, uint64_t seed)
{
	WalkValue  *values = malloc((len + 1) * sizeof(WalkValue));
	Subject		s = {data, len, most, values, 0, seed * 2 + 1};
	bool		done = false;

	if (values == NULL)
		abort();
	next_random(&s.seed);
	s.count = len > 0 ? walk(data, len, values, len) : 0;
	for (int tries = 0; s.count > 0 && !done && tries < 10; tries++)
		done = change(&s);
	free(values);
	return done ? s.len : 0;
}
