/*
 * set.c
 *	  A set as a sorted array.
 *
 * It is sorted by merging, bottom up, from one array into another: the number
 * of comparisons has a bound whoever made the input, and it can be interrupted
 * at any step.
 *
 * Before the array grows it is sorted and deduplicated, and grows only if it
 * stays more than half full: an element repeated millions of times takes no
 * more room than once, and the sorting amounts to a constant factor.
 */
#include "wire/set.h"

#include "wire/yield.h"

#include <string.h>

#define FIRST_COUNT 64

/* So many neighbours are sorted by insertion; what is longer, by merging. */
#define RUN_COUNT 8

void
wire_set_init(WireSet *set, size_t width, WireCompare compare,
			  WireRealloc realloc, void *context)
{
	set->items = NULL;
	set->spare = NULL;
	set->spare_size = 0;
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
		if (!wire_set_finish(set))
			return false;
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

static inline void
yield_sometimes(size_t *steps)
{
	if (++*steps % WIRE_YIELD_STEPS == 0)
		wire_yield_now();
}

/* Items from "begin" to "end", sorted where they are. */
static void
sort_run(WireSet *set, size_t begin, size_t end, size_t *steps)
{
	const size_t width = set->width;
	uint8_t		item[WIRE_SET_WIDTH];

	for (size_t i = begin + 1; i < end; i++)
	{
		size_t		to = i;

		yield_sometimes(steps);
		while (to > begin &&
			   set->compare(set->items + (to - 1) * width, set->items + i * width) > 0)
			to--;
		if (to == i)
			continue;
		memcpy(item, set->items + i * width, width);
		memmove(set->items + (to + 1) * width, set->items + to * width,
				(i - to) * width);
		memcpy(set->items + to * width, item, width);
	}
}

/* Two sorted neighbours, up to "middle" and up to "end", into the spare array. */
static void
merge_runs(WireSet *set, size_t begin, size_t middle, size_t end, size_t *steps)
{
	const size_t width = set->width;
	const uint8_t *left = set->items + begin * width;
	const uint8_t *const left_end = set->items + middle * width;
	const uint8_t *right = left_end;
	const uint8_t *const right_end = set->items + end * width;
	uint8_t    *out = set->spare + begin * width;

	if (left_end == right_end || set->compare(left_end - width, right) <= 0)
	{
		memcpy(out, left, (end - begin) * width);
		return;
	}
	while (left < left_end && right < right_end)
	{
		const uint8_t **from = set->compare(left, right) <= 0 ? &left : &right;

		yield_sometimes(steps);
		memcpy(out, *from, width);
		*from += width;
		out += width;
	}
	memcpy(out, left, (size_t) (left_end - left));
	out += left_end - left;
	memcpy(out, right, (size_t) (right_end - right));
}

static bool
sort(WireSet *set)
{
	size_t		steps = 0;

	if (set->spare_size < set->size)
	{
		uint8_t    *spare = set->realloc(set->context, set->spare,
										 set->size * set->width);

		if (spare == NULL)
			return false;
		set->spare = spare;
		set->spare_size = set->size;
	}
	for (size_t begin = 0; begin < set->count; begin += RUN_COUNT)
		sort_run(set, begin,
				 set->count - begin > RUN_COUNT ? begin + RUN_COUNT : set->count,
				 &steps);
	for (size_t run = RUN_COUNT; run < set->count; run *= 2)
	{
		uint8_t    *merged = set->spare;

		for (size_t begin = 0; begin < set->count; begin += 2 * run)
		{
			size_t		left = set->count - begin;

			merge_runs(set, begin, begin + (left < run ? left : run),
					   begin + (left < 2 * run ? left : 2 * run), &steps);
		}
		set->spare = set->items;
		set->items = merged;
	}
	return true;
}

bool
wire_set_finish(WireSet *set)
{
	size_t		kept = 1;

	if (set->ascending)
		return true;

	if (!sort(set))
		return false;
	for (size_t i = 1; i < set->count; i++)
	{
		const uint8_t *item = set->items + i * set->width;

		if (i % (WIRE_YIELD_STEPS * 16) == 0)
			wire_yield_now();
		if (set->compare(set->items + (kept - 1) * set->width, item) == 0)
			continue;
		memmove(set->items + kept * set->width, item, set->width);
		kept++;
	}
	set->count = kept;
	set->ascending = true;
	return true;
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
	if (set->spare != NULL)
		set->realloc(set->context, set->spare, 0);
	wire_set_init(set, set->width, set->compare, set->realloc, set->context);
}
