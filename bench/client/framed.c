/*
 * framed.c
 *	  Reads what seq_receive_batch returns: an array of [vshard, epoch,
 *	  position, milliseconds, TxClass] in MessagePack.
 */
#include "framed.h"

/* A big-endian number, and pass it. */
static uint64_t
take(const char **at, const char *end, int bytes)
{
	uint64_t	value = 0;

	if (end - *at < bytes)
		die("a framed batch ends too early");
	for (int i = 0; i < bytes; i++)
		value = value << 8 | (uint8_t) (*at)[i];
	*at += bytes;
	return value;
}

static uint64_t
take_uint(const char **at, const char *end)
{
	int			first = (int) take(at, end, 1);

	if (first < 0x80)
		return (uint64_t) first;
	if (first < 0xcc || first > 0xcf)
		die("no unsigned number in a framed batch, but %x", first);
	return take(at, end, 1 << (first - 0xcc));
}

/* An array's header, of "count" elements unless that is 0. */
static uint64_t
take_array(const char **at, const char *end, uint64_t count)
{
	int			first = (int) take(at, end, 1);
	uint64_t	found = (uint64_t) (first & 0xf);

	if (first == 0xdc || first == 0xdd)
		found = take(at, end, first == 0xdc ? 2 : 4);
	else if ((first & 0xf0) != 0x90)
		die("no array in a framed batch, but %x", first);
	if (count > 0 && found != count)
		die("a framed array is not one of %llu", (unsigned long long) count);
	return found;
}

/* The bytes of a str or bin, and pass it. */
static const char *
take_bytes(const char **at, const char *end, size_t *len)
{
	int			first = (int) take(at, end, 1);
	const char *bytes;

	if ((first & 0xe0) == 0xa0)
		*len = (size_t) (first & 0x1f);
	else if (first >= 0xc4 && first <= 0xc6)
		*len = take(at, end, 1 << (first - 0xc4));
	else if (first >= 0xd9 && first <= 0xdb)
		*len = take(at, end, 1 << (first - 0xd9));
	else
		die("neither str nor bin in a framed batch, but %x", first);
	bytes = *at;
	if ((size_t) (end - *at) < *len)
		die("a framed batch ends too early");
	*at += *len;
	return bytes;
}

/* Pass one value, whatever it is. */
static void
skip_value(const char **at, const char *end)
{
	uint64_t	left = 1;

	while (left-- > 0)
	{
		int			first = (int) take(at, end, 1);
		uint64_t	bytes = 0;

		if (first < 0x80 || first >= 0xe0 || (first >= 0xc0 && first <= 0xc3))
			continue;
		if (first < 0x90)
			left += 2 * (uint64_t) (first & 0xf);
		else if (first < 0xa0)
			left += (uint64_t) (first & 0xf);
		else if (first < 0xc0)
			bytes = (uint64_t) (first & 0x1f);
		else if (first <= 0xc6)
			bytes = take(at, end, 1 << (first - 0xc4));
		else if (first >= 0xcc && first <= 0xcf)
			bytes = (uint64_t) 1 << (first - 0xcc);
		else if (first >= 0xd0 && first <= 0xd3)
			bytes = (uint64_t) 1 << (first - 0xd0);
		else if (first >= 0xd9 && first <= 0xdb)
			bytes = take(at, end, 1 << (first - 0xd9));
		else if (first == 0xdc || first == 0xdd)
			left += take(at, end, first == 0xdc ? 2 : 4);
		else if (first == 0xde || first == 0xdf)
			left += 2 * take(at, end, first == 0xde ? 2 : 4);
		else
			die("a byte %x in a framed batch", first);
		if ((uint64_t) (end - *at) < bytes)
			die("a framed batch ends too early");
		*at += bytes;
	}
}

void
framed_each(const char *data, size_t len, FramedVisit visit, void *arg)
{
	const char *end = data + len;
	const char *at = data;
	uint64_t	count = take_array(&at, end, 0);

	while (count-- > 0)
	{
		Framed		framed;

		(void) take_array(&at, end, 5);
		framed.vshard = (uint32_t) take_uint(&at, end);
		framed.epoch = take_uint(&at, end);
		framed.position = (uint32_t) take_uint(&at, end);
		skip_value(&at, end);	/* milliseconds */
		framed.tx_class = at;
		skip_value(&at, end);
		framed.tx_class_len = (size_t) (at - framed.tx_class);
		visit(&framed, arg);
	}
	if (at != end)
		die("a framed batch is longer than its array");
}

Sent
framed_sent(const Framed *framed)
{
	const char *at = framed->tx_class;
	const char *end = at + framed->tx_class_len;
	uint64_t	sets;
	Sent		sent;

	(void) take_array(&at, end, 5);
	skip_value(&at, end);		/* the read set */
	sets = take_array(&at, end, 0);
	if (sets == 0)
		die("a transaction without a write set");
	(void) take_array(&at, end, 2);
	skip_value(&at, end);		/* the engine */
	(void) take_array(&at, end, 2);
	sent.collection = take_bytes(&at, end, &sent.collection_len);
	skip_value(&at, end);		/* the keys */
	while (--sets > 0)
		skip_value(&at, end);
	sent.plans = take_bytes(&at, end, &sent.plans_len);
	return sent;
}

static void
check_one(const Framed *framed, void *arg)
{
	check_key(arg, framed->vshard, framed->epoch, framed->position);
}

void
check_framed(Checker *checker, const char *data, size_t len)
{
	framed_each(data, len, check_one, checker);
}
