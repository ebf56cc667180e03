/*
 * write_set.c
 *	  The collections that a transaction writes, as its TxClass names them.
 */
#include "wire/write_set.h"

#include "wire/schema.h"

/* Step over surrogates, keys or edges. */
static bool
skip_elements(WireReader *r, WireSetKind kind, const WireSetFields *fields)
{
	bool		nested = kind == WIRE_SET_KV || kind == WIRE_SET_EDGE;
	uint64_t	max = kind == WIRE_SET_KV ? UINT8_MAX : UINT32_MAX;
	uint32_t	count;
	uint64_t	value;

	if (!wire_read_array(r, &count, fields->surrogates))
		return false;
	for (; count > 0; count--)
	{
		uint32_t	inner = 1;

		wire_reader_yield(r, r->pos);
		if (nested && !wire_read_array(r, &inner, fields->keys))
			return false;
		for (; inner > 0; inner--)
			if (!wire_read_uint(r, max, &value, fields->keys))
				return false;
	}
	return true;
}

static bool
read_key_set(WireReader *r, const WireSetFields *fields, WireSlice *name)
{
	WireSlice	tag;

	return wire_read_tuple(r, 2, fields->set) &&
		wire_read_str(r, &tag, fields->variant) &&
		wire_read_tuple(r, 2, fields->payload) &&
		wire_read_str(r, name, fields->collection) &&
		skip_elements(r, wire_set_kind(tag.data, tag.len), fields);
}

void
wire_write_set_begin(WireWriteSet *set, WireSlice tx_class)
{
	WireReader *r = &set->reader;
	uint32_t	reads = 0;
	WireSlice	name;

	set->left = 0;
	wire_reader_init(r, tx_class.data, tx_class.len, WIRE_STRICT);
	if (!wire_read_tuple(r, 5, WIRE_F_TX_CLASS) ||
		!wire_read_array(r, &reads, wire_read_set_fields.sets))
		return;
	for (; reads > 0; reads--)
		if (!read_key_set(r, &wire_read_set_fields, &name))
			return;
	if (!wire_read_array(r, &set->left, wire_write_set_fields.sets))
		set->left = 0;
}

bool
wire_write_set_next(WireWriteSet *set, WireSlice *name)
{
	if (set->left == 0)
		return false;
	set->left--;
	if (read_key_set(&set->reader, &wire_write_set_fields, name))
		return true;
	set->left = 0;
	return false;
}
