/*
 * text.c
 *	  UTF-8 validity and the vshard of a collection.
 */
#include "wire/text.h"

uint16_t
wire_vshard(const uint8_t *name, size_t len)
{
	uint64_t	not_ascii;

	return wire_fold_text(name, len, name + len, &not_ascii) % WIRE_VSHARDS;
}

bool
wire_utf8_valid(const uint8_t *data, size_t len)
{
	const uint8_t *end = data + len;
	size_t		yield_at = len > WIRE_YIELD_BYTES ? len - WIRE_YIELD_BYTES : 0;

	while (data < end)
	{
		uint8_t		lead = *data;
		uint8_t		low = 0x80; /* range of the second byte */
		uint8_t		high = 0xbf;
		int			more;

		/* the next time is told by the bytes that are left */
		if ((size_t) (end - data) < yield_at)
		{
			yield_at = yield_at > WIRE_YIELD_BYTES ? yield_at - WIRE_YIELD_BYTES : 0;
			wire_yield_now();
		}
		if (lead < 0x80)
		{
			while (end - data >= 8 &&
				   (wire_load_le64(data) & WIRE_NOT_ASCII) == 0)
				data += 8;
			while (data < end && *data < 0x80)
				data++;
			continue;
		}

		/*
		 * C0 and C1 could only begin overlong forms, F5 and above only code
		 * points past U+10FFFF.  The second byte's range excludes the other
		 * overlong forms and the surrogates.
		 */
		if (lead < 0xc2 || lead > 0xf4)
			return false;
		if (lead < 0xe0)
			more = 1;
		else if (lead < 0xf0)
		{
			more = 2;
			if (lead == 0xe0)
				low = 0xa0;
			else if (lead == 0xed)
				high = 0x9f;
		}
		else
		{
			more = 3;
			if (lead == 0xf0)
				low = 0x90;
			else if (lead == 0xf4)
				high = 0x8f;
		}

		if (end - data <= more)
			return false;
		if (data[1] < low || data[1] > high)
			return false;
		for (int i = 2; i <= more; i++)
		{
			if ((data[i] & 0xc0) != 0x80)
				return false;
		}
		data += more + 1;
	}
	return true;
}
