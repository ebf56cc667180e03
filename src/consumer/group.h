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
typedef struct FetchGroupFilter
{
	uint32		len;
	bool		prefix;
	char	   *name;
} GroupFilter;

typedef struct FetchGroup
{
	struct FetchGroup *link;
	MemoryContext context;
	Oid			log;		/* seq_log: after a restore into the same database another one */
	uint64		id;
	NameData	name;
	int			partitions;
	int			nfilters; /* 0: everything passes */
	GroupFilter *filters;
	int16		partition_of[WIRE_VSHARDS]; /* -1: not for this group */
	uint64		mask[GROUP_MASK_WORDS]; /* its vshards */
	GroupKey   *starts; /* of each vshard, the first key for this group; NULL: no matter */

	/*
	 * Keys before which nothing is left in a partition: what others have committed
	 * moves them further, never back, unless a restore does.
	 */
	GroupKey   *known;
	bool	   *is_known;
	uint64	   *seen;		/* versions of positions, as GroupStore has it */
	GroupKey   *stored;		/* where each stood when it was read last */
} FetchGroup;

/* Of a registration; kept to the end of the transaction at least. */
extern FetchGroup *group_open(const Registration *registration);

/*
 * This session has moved a partition to a key, and committed that; NULL: it is to be
 * looked how far.
 */
extern void group_note_moved(uint64 id, int partition, const GroupKey *key);

/* The group of a name, which the present user may use, locked against its end. */
extern FetchGroup *group_require(const char *name);

/* Whatever is stored for one whose registration is gone, is gone with it. */
extern void group_forget(const Registration *registration);

/* An error if it has lost something by now, which a call under way may come upon. */
extern void group_require_kept(const FetchGroup *group);

/*
 * Is a transaction for the group, as what it is for a vshard?  With a filter: does it
 * write a collection there that passes it?
 */
extern bool group_wants(const FetchGroup *group, const WireTxn *txn, uint16 vshard);

/* Is something of a key's vshard in front of where the group begins with that? */
static inline bool
group_is_before_start(const FetchGroup *group, GroupKey key)
{
	return group->starts != NULL && group_key_less(key, group->starts[key.vshard]);
}

/* The first such collection of a TxClass; false if there is none. */
extern bool group_collection(const FetchGroup *group, WireSlice tx_class, uint16 vshard,
							 WireSlice *name);

#endif							/* CALVIN_CONSUMER_GROUP_H */
