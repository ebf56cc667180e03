/*
 * group_positions.c
 *	  How far each partition of a group has got: the table seq_group_positions.
 */
#include "compat.h"

#include "access/stratnum.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "executor/executor.h"
#include "log/group_positions.h"
#include "log/hint.h"
#include "log/remove.h"
#include "shared/pause.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/timestamp.h"

/* Id, partition, and a version that is to be passed. */
#define POSITION_KEYS 3

void
group_store_begin(GroupStore *store, uint64 id, bool writes)
{
	store->id = id;
	store->writes = writes;
	store->seen = NULL;
	if (writes)
		store->self = log_become_side_owner(log_table_require(),
											SIDE_GROUP_POSITIONS);
	newest_begin(&store->scan, SIDE_GROUP_POSITIONS,
				 writes ? RowExclusiveLock : AccessShareLock, ACCESS_LATEST,
				 POSITION_KEYS);
	if (writes)
		insert_begin(&store->insert, RelationGetRelid(store->scan.access.rel));
}

void
group_store_end(GroupStore *store)
{
	if (store->writes)
		insert_end(&store->insert);
	newest_end(&store->scan);
	if (store->writes)
		log_become_self(&store->self);
}

/*
 * The bounds of the key alone would have the index collect all of the partition's
 * versions that share a page with the newest.  So those before one that is known to
 * have been there are left out; it may have been one that was rolled back.
 */
static bool
find(GroupStore *store, int partition, uint64 seen)
{
	ScanKeyData keys[POSITION_KEYS];

	ScanKeyInit(&keys[0], GROUP_ATTR_ID, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum((int64) store->id));
	ScanKeyInit(&keys[1], GROUP_ATTR_PARTITION, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(partition));
	ScanKeyInit(&keys[2], GROUP_ATTR_VERSION, BTGreaterEqualStrategyNumber, F_INT8GE,
				Int64GetDatum((int64) seen));
	if (newest_find(&store->scan, keys))
		return true;
	keys[2].sk_argument = Int64GetDatum(0);
	return seen > 0 && newest_find(&store->scan, keys);
}

static void
report_missing(const GroupStore *store, int partition)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("partition %d of a group has no position", partition),
			 errdetail("%s has no row of id " UINT64_FORMAT " for it.",
					   GROUP_POSITIONS_NAME, store->id),
			 errhint_for_role("Restore it, or make the group anew with seq_drop_group() and seq_create_group().")));
}

bool
group_store_find(GroupStore *store, int partition, GroupPosition *position)
{
	TupleTableSlot *slot = store->scan.slot;
	const Datum *values = slot->tts_values;
	const bool *nulls = slot->tts_isnull;

	if (!find(store, partition, store->seen != NULL ? store->seen[partition] : 0))
		return false;
	position->next.epoch = (uint64) DatumGetInt64(values[GROUP_ATTR_EPOCH - 1]);
	position->next.position = (uint32) DatumGetInt64(values[GROUP_ATTR_POSITION - 1]);
	position->next.vshard = (uint16) DatumGetInt32(values[GROUP_ATTR_VSHARD - 1]);
	position->version = (uint64) DatumGetInt64(values[GROUP_ATTR_VERSION - 1]);
	if (store->seen != NULL)
		store->seen[partition] = position->version;
	position->moved_at = DatumGetTimestampTz(values[GROUP_ATTR_MOVED_AT - 1]);
	position->delivered = (uint64) DatumGetInt64(values[GROUP_ATTR_DELIVERED - 1]);
	position->attempts = (uint32) DatumGetInt32(values[GROUP_ATTR_ATTEMPTS - 1]);
	position->retried = (uint64) DatumGetInt64(values[GROUP_ATTR_RETRIED - 1]);
	position->retry_at = nulls[GROUP_ATTR_RETRY_AT - 1] ? 0 :
		DatumGetTimestampTz(values[GROUP_ATTR_RETRY_AT - 1]);
	position->error = nulls[GROUP_ATTR_ERROR - 1] ? NULL :
		TextDatumGetCString(values[GROUP_ATTR_ERROR - 1]);
	position->in_snapshot = side_access_serializable(&store->scan.access, slot);
	return true;
}

void
group_store_read(GroupStore *store, int partition, GroupPosition *position)
{
	if (!group_store_find(store, partition, position))
		report_missing(store, partition);
}

static void
insert_version(Insert *insert, uint64 id, int partition, uint64 version,
			   const GroupPosition *position)
{
	TupleTableSlot *slot = insert->slot;

	insert_put(slot, GROUP_ATTR_ID, Int64GetDatum((int64) id));
	insert_put(slot, GROUP_ATTR_PARTITION, Int32GetDatum(partition));
	insert_put(slot, GROUP_ATTR_VERSION, Int64GetDatum((int64) version));
	insert_put(slot, GROUP_ATTR_EPOCH, Int64GetDatum((int64) position->next.epoch));
	insert_put(slot, GROUP_ATTR_POSITION, Int64GetDatum(position->next.position));
	insert_put(slot, GROUP_ATTR_VSHARD, Int32GetDatum(position->next.vshard));
	insert_put(slot, GROUP_ATTR_MOVED_AT, TimestampTzGetDatum(GetCurrentTimestamp()));
	insert_put(slot, GROUP_ATTR_DELIVERED, Int64GetDatum((int64) position->delivered));
	insert_put(slot, GROUP_ATTR_ATTEMPTS, Int32GetDatum((int32) position->attempts));
	insert_put(slot, GROUP_ATTR_RETRIED, Int64GetDatum((int64) position->retried));
	if (position->retry_at != 0)
		insert_put(slot, GROUP_ATTR_RETRY_AT, TimestampTzGetDatum(position->retry_at));
	if (position->error != NULL)
		insert_put(slot, GROUP_ATTR_ERROR, CStringGetTextDatum(position->error));
	if (!insert_row(insert))
		ereport(ERROR,
				(errcode(ERRCODE_TRIGGERED_ACTION_EXCEPTION),
				 errmsg("a trigger on %s keeps positions out", GROUP_POSITIONS_NAME)));
	ResetPerTupleExprContext(insert->estate);
}

/* What somebody has added to the columns goes on with the new row. */
static void
begin_version(Insert *insert, const TupleTableSlot *before)
{
	TupleTableSlot *slot = insert->slot;

	ExecClearTuple(slot);
	insert->carries = before != NULL;
	for (int i = 0; i < slot->tts_tupleDescriptor->natts; i++)
	{
		bool		kept = before != NULL && i >= GROUP_ATTRS && !before->tts_isnull[i];

		slot->tts_isnull[i] = !kept;
		slot->tts_values[i] = kept ? before->tts_values[i] : (Datum) 0;
	}
}

void
group_store_write(GroupStore *store, int partition, const GroupPosition *position)
{
	NewestScan *scan = &store->scan;
	Insert	   *insert = &store->insert;

	if (!find(store, partition, position->version))
		report_missing(store, partition);
	/* nobody else has changed it: the partition is locked */
	if (DatumGetInt64(scan->slot->tts_values[GROUP_ATTR_VERSION - 1]) !=
		(int64) position->version ||
		remove_row(insert, scan->slot, scan->access.snapshot) != REMOVAL_DONE)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("the position of partition %d was changed by another transaction",
						partition),
				 errdetail("It was not done by fetching, which takes the partition first."),
				 errhint("Run the transaction again.")));
	newest_try_dead(scan);
	PAUSE_POINT("group: between removal and row");
	begin_version(insert, scan->slot);
	insert_version(insert, store->id, partition, position->version + 1, position);
}

void
group_positions_put(uint64 id, int partitions, const GroupPosition *positions)
{
	GroupStore	store;

	group_store_begin(&store, id, true);
	for (int i = 0; i < partitions; i++)
	{
		CHECK_FOR_INTERRUPTS();
		begin_version(&store.insert, NULL);
		insert_version(&store.insert, id, i, 1, &positions[i]);
	}
	group_store_end(&store);
}

void
group_positions_create(uint64 id, int partitions, uint64 epoch)
{
	GroupPosition *positions = palloc0(sizeof(GroupPosition) * partitions);

	for (int i = 0; i < partitions; i++)
		positions[i].next.epoch = epoch;
	group_positions_put(id, partitions, positions);
	pfree(positions);
}

void
group_positions_drop(uint64 id, int partitions)
{
	GroupStore	store;

	group_store_begin(&store, id, true);
	for (int i = 0; i < partitions; i++)
	{
		if (!find(&store, i, 0))
			continue;
		if (remove_row(&store.insert, store.scan.slot,
					   store.scan.access.snapshot) != REMOVAL_DONE)
			ereport(ERROR,
					(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
					 errmsg("the position of partition %d was changed by another transaction",
							i),
					 errhint("Run the transaction again.")));
	}
	group_store_end(&store);
}
