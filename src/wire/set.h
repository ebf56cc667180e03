/*
 * set.h
 *	  Collecting the elements of a set that may arrive unsorted and repeated.
 */
#ifndef CALVIN_WIRE_SET_H
#define CALVIN_WIRE_SET_H

#include "wire/encode.h"

/* Items are this wide at most. */
#define WIRE_SET_WIDTH (2 * sizeof(uint64_t))

typedef int (*WireCompare) (const void *a, const void *b);

typedef struct WireSet
{
	uint8_t    *items;
	uint8_t    *spare; /* as large as items, once there was something to sort */
	size_t		spare_size;
	size_t		count;
	size_t		size; /* items there is room for */
	size_t		width; /* of an item */
	WireCompare compare;
	bool		ascending; /* strictly, so far */
	WireRealloc realloc;
	void	   *context;
} WireSet;

extern void wire_set_init(WireSet *set, size_t width, WireCompare compare,
						  WireRealloc realloc, void *context);

/*
 * Add an item.  Memory is bounded by the distinct items, not by those added.
 * False: no memory.
 */
extern bool wire_set_add(WireSet *set, const void *item);

/* Sort and drop repeated items.  False: no memory. */
extern bool wire_set_finish(WireSet *set);

/* Empty it, keeping its memory. */
extern void wire_set_clear(WireSet *set);

extern void wire_set_free(WireSet *set);

#endif							/* CALVIN_WIRE_SET_H */
