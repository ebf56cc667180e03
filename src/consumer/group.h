/*
 * group.h
 *	  A group as this session knows it: which partition a vshard belongs to, and what
 *	  passes its filter.
 */
#ifndef CALVIN_CONSUMER_GROUP_H
#define CALVIN_CONSUMER_GROUP_H

#include "compat.h"

#include "log/group_positions.h"
#include "log/registry.h"
#include "wire/wire.h"

#define GROUP_MASK_WORDS (WIRE_VSHARDS / 64)

/* One name of the filter, in the log's UTF-8. */
typedef struct GroupFilter
{
	uint32		len;
	bool		prefix;
	char	   *name;
} GroupFilter;

typedef struct Group
{
	struct Group *link;
	MemoryContext context;
	uint64		id;
	NameData	name;
	int			partitions;
	int			nfilters; /* 0: everything passes */
	GroupFilter *filters;
	int16		partition_of[WIRE_VSHARDS]; /* -1: not for this group */
	uint64		mask[GROUP_MASK_WORDS]; /* its vshards */

	/*
	 * Keys before which nothing is left in a partition: what others have committed
	 * moves them further, never back.
	 */
	GroupKey   *known;
	bool	   *is_known;
} Group;

/* Of a registration; kept for the session. */
extern Group *group_open(const Registration *registration);

/* The group of a name, which the present user may use, locked against its end. */
extern Group *group_require(const char *name);

/* Is a transaction for the group, as what it is for a vshard? */
extern bool group_wants(const Group *group, const WireTxn *txn, uint16 vshard);

#endif							/* CALVIN_CONSUMER_GROUP_H */
