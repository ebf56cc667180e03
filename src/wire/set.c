/*
 * set.c
 *	  A set as a sorted array.
 *
 * Before the array grows it is sorted and deduplicated, and grows only if it
 * stays more than half full: an element repeated millions of times takes no
 * more room than once, and the sorting amounts to a constant factor.
 */
#include "wire/set.h"

#include <stdlib.h>
#include <string.h>

#define FIRST_COUNT 64

void
wire_set_init(WireSet *set, size_t width, WireCompare compare,
			  WireRealloc realloc, void *context)
{
	set->items = NULL;
	set->count = 0;
	set->size = 0;
	set->width = width;
	set->compare = compare;
	set->ascending = true;
	set->realloc = realloc;
	set->context = context;
}

static bool
grow(WireSet *set)
{
	size_t		size = set->size > 0 ? set->size * 2 : FIRST_COUNT;
	uint8_t    *items;

	if (size > SIZE_MAX / set->width)
		return false;
	items = set->realloc(set->context, set->items, size * set->width);
	if (items == NULL)
		return false;
	set->items = items;
	set->size = size;
	return true;
}

bool
wire_set_add(WireSet *set, const void *item)
{
	if (set->count == set->size)
	{
		wire_set_finish(set);
		if (set->count >= set->size / 2 && !grow(set))
			return false;
	}
	if (set->ascending && set->count > 0 &&
		set->compare(set->items + (set->count - 1) * set->width, item) >= 0)
		set->ascending = false;
	memcpy(set->items + set->count * set->width, item, set->width);
	set->count++;
	return true;
}

void
wire_set_finish(WireSet *set)
{
	size_t		kept = 1;

	if (set->ascending)
		return;

	qsort(set->items, set->count, set->width, set->compare);
	for (size_t i = 1; i < set->count; i++)
	{
		const uint8_t *item = set->items + i * set->width;

		if (set->compare(set->items + (kept - 1) * set->width, item) == 0)
			continue;
		memmove(set->items + kept * set->width, item, set->width);
		kept++;
	}
	set->count = kept;
	set->ascending = true;
}

void
wire_set_clear(WireSet *set)
{
	set->count = 0;
	set->ascending = true;
}

void
wire_set_free(WireSet *set)
{
	if (set->items != NULL)
		set->realloc(set->context, set->items, 0);
	wire_set_init(set, set->width, set->compare, set->realloc, set->context);
}
