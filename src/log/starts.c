/*
 * starts.c
 *	  Where a group begins with vshards that it has not had all along: the table
 *	  seq_group_starts.
 */
#include "compat.h"

#include "access/genam.h"
#include "access/stratnum.h"
#include "access/tableam.h"
#include "executor/executor.h"
#include "log/insert.h"
#include "log/memory.h"
#include "log/owner.h"
#include "log/remove.h"
#include "log/starts.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"

typedef struct StartScan
{
	SideAccess	access;
	IndexScanDesc scan;
	TupleTableSlot *slot;
} StartScan;

static void
scan_begin(StartScan *scan, LOCKMODE mode, uint64 id)
{
	ScanKeyData key;

	side_access_begin(&scan->access, SIDE_STARTS, mode, ACCESS_LATEST);
	scan->scan = compat_index_beginscan(scan->access.rel, scan->access.by_key,
										scan->access.snapshot, 1);
	scan->slot = table_slot_create(scan->access.rel, NULL);
	ScanKeyInit(&key, START_ATTR_ID, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum((int64) id));
	index_rescan(scan->scan, &key, 1, NULL, 0);
}

static bool
scan_next(StartScan *scan)
{
	CHECK_FOR_INTERRUPTS();
	return index_getnext_slot(scan->scan, ForwardScanDirection, scan->slot);
}

static void
scan_end(StartScan *scan)
{
	index_endscan(scan->scan);
	ExecDropSingleTupleTableSlot(scan->slot);
	side_access_end(&scan->access);
}

int
starts_list(uint64 id, GroupKey **keys)
{
	StartScan	scan;
	void	   *list = NULL;
	Size		size = 0;
	int			n = 0;

	scan_begin(&scan, AccessShareLock, id);
	while (scan_next(&scan))
	{
		const Datum *values = scan.slot->tts_values;
		GroupKey   *key;

		slot_getallattrs(scan.slot);
		memory_grow(NULL, &list, &size, (Size) n + 1, sizeof(GroupKey));
		key = &((GroupKey *) list)[n++];
		key->vshard = (uint16) DatumGetInt32(values[START_ATTR_VSHARD - 1]);
		key->epoch = (uint64) DatumGetInt64(values[START_ATTR_EPOCH - 1]);
		key->position = (uint32) DatumGetInt64(values[START_ATTR_POSITION - 1]);
	}
	scan_end(&scan);
	*keys = list;
	return n;
}

void
starts_add(uint64 id, int n, const GroupKey *keys)
{
	const LogTable *table = log_table_require();
	LogIdentity self = log_become_side_owner(table, SIDE_STARTS);
	Insert		insert;

	insert_begin(&insert, log_side_table(table, SIDE_STARTS));
	for (int i = 0; i < n; i++)
	{
		Datum	   *values = insert.slot->tts_values;

		CHECK_FOR_INTERRUPTS();
		ExecClearTuple(insert.slot);
		for (int j = 0; j < insert.slot->tts_tupleDescriptor->natts; j++)
			insert.slot->tts_isnull[j] = j >= START_ATTRS;
		values[START_ATTR_ID - 1] = Int64GetDatum((int64) id);
		values[START_ATTR_VSHARD - 1] = Int32GetDatum(keys[i].vshard);
		values[START_ATTR_EPOCH - 1] = Int64GetDatum((int64) keys[i].epoch);
		values[START_ATTR_POSITION - 1] = Int64GetDatum(keys[i].position);
		if (!insert_row(&insert))
			ereport(ERROR,
					(errcode(ERRCODE_TRIGGERED_ACTION_EXCEPTION),
					 errmsg("a trigger on %s keeps rows out", STARTS_NAME)));
		ResetPerTupleExprContext(insert.estate);
	}
	insert_end(&insert);
	log_become_self(&self);
}

void
starts_drop(uint64 id)
{
	LogIdentity self = log_become_side_owner(log_table_require(), SIDE_STARTS);
	StartScan	scan;
	Insert		insert;

	scan_begin(&scan, RowExclusiveLock, id);
	insert_begin(&insert, RelationGetRelid(scan.access.rel));
	while (scan_next(&scan))
		(void) remove_row(&insert, scan.slot, scan.access.snapshot);
	insert_end(&insert);
	scan_end(&scan);
	log_become_self(&self);
}
