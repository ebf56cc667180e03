/*
 * parking.c
 *	  Setting aside what a group cannot process.
 */
#include "compat.h"

#include "consumer/parking.h"
#include "log/batches.h"
#include "log/parked.h"

/* What the log has at a key for a group; an error if there is nothing. */
static BatchWalk *
find_in_log(const FetchGroup *group, GroupKey key, Delivery *delivery)
{
	BatchWalk  *walk = batch_walk_create(NULL);
	WireTxn		txn;

	batch_walk_start(walk, key.epoch, key.epoch);
	while (batch_walk_next(walk, ACCESS_LATEST, &txn))
	{
		bool		takes_part = false;

		if (txn.position != key.position)
			continue;
		for (int i = 0; i < txn.vshard_count; i++)
			takes_part |= txn.vshards[i] == key.vshard;
		if (!takes_part || !group_wants(group, &txn, key.vshard))
			break;
		batch_walk_deliver(walk, &txn, key.vshard, delivery);
		return walk;
	}
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("the log has no transaction (" UINT64_FORMAT ", %u) of vshard %u for group \"%s\"",
					key.epoch, key.position, (unsigned) key.vshard,
					NameStr(group->name))));
}

void
parking_park(const FetchGroup *group, GroupKey key, uint32 attempts,
			 const char *reason)
{
	Delivery	delivery;
	BatchWalk  *walk = find_in_log(group, key, &delivery);

	parked_add(group->id, &delivery, attempts, reason);
	batch_walk_stop(walk);
}

void
parking_forget_settled(const FetchGroup *group, int partition, GroupKey from, GroupKey to)
{
	ParkedKey  *keys;
	int			n = parked_list(group->id, from, to.epoch, &keys);

	for (int i = 0; i < n; i++)
		if (keys[i].settled && group->partition_of[keys[i].key.vshard] == partition &&
			group_key_less(keys[i].key, to))
			parked_forget(group->id, keys[i].key);
}
