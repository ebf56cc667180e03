/*
 * parked.c
 *	  Transactions that groups have set aside: the table seq_parked_txns.
 */
#include "compat.h"

#include "access/genam.h"
#include "access/stratnum.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "executor/executor.h"
#include "log/insert.h"
#include "log/memory.h"
#include "log/owner.h"
#include "log/parked.h"
#include "log/remove.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/timestamp.h"

/* Reading those of a group, in the order of their keys. */
typedef struct ParkedScan
{
	SideAccess	access;
	IndexScanDesc scan;
	TupleTableSlot *slot;
} ParkedScan;

/* From an epoch on, through another one. */
static void
scan_begin(ParkedScan *scan, LOCKMODE mode, uint64 id, uint64 from, uint64 to)
{
	ScanKeyData keys[3];

	side_access_begin(&scan->access, SIDE_PARKED, mode, ACCESS_LATEST);
	scan->scan = compat_index_beginscan(scan->access.rel, scan->access.by_key,
										scan->access.snapshot, 3);
	scan->slot = table_slot_create(scan->access.rel, NULL);
	ScanKeyInit(&keys[0], PARKED_ATTR_ID, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum((int64) id));
	ScanKeyInit(&keys[1], PARKED_ATTR_EPOCH, BTGreaterEqualStrategyNumber, F_INT8GE,
				Int64GetDatum((int64) from));
	ScanKeyInit(&keys[2], PARKED_ATTR_EPOCH, BTLessEqualStrategyNumber, F_INT8LE,
				Int64GetDatum((int64) to));
	index_rescan(scan->scan, keys, 3, NULL, 0);
}

static bool
scan_next(ParkedScan *scan, GroupKey *key, bool *settled)
{
	const Datum *values = scan->slot->tts_values;

	CHECK_FOR_INTERRUPTS();
	if (!index_getnext_slot(scan->scan, ForwardScanDirection, scan->slot))
		return false;
	slot_getallattrs(scan->slot);
	key->epoch = (uint64) DatumGetInt64(values[PARKED_ATTR_EPOCH - 1]);
	key->position = (uint32) DatumGetInt64(values[PARKED_ATTR_POSITION - 1]);
	key->vshard = (uint16) DatumGetInt32(values[PARKED_ATTR_VSHARD - 1]);
	*settled = DatumGetBool(values[PARKED_ATTR_SETTLED - 1]);
	return true;
}

static void
scan_end(ParkedScan *scan)
{
	index_endscan(scan->scan);
	ExecDropSingleTupleTableSlot(scan->slot);
	side_access_end(&scan->access);
}

static bool
find(ParkedScan *scan, GroupKey wanted, bool *settled)
{
	GroupKey	key;

	while (scan_next(scan, &key, settled))
		if (group_key_compare(key, wanted) == 0)
			return true;
	return false;
}

int
parked_list(uint64 id, GroupKey from, uint64 to_epoch, ParkedKey **keys)
{
	ParkedScan	scan;
	ParkedKey	parked;
	void	   *list = NULL;
	Size		size = 0;
	int			n = 0;

	scan_begin(&scan, AccessShareLock, id, from.epoch, to_epoch);
	while (scan_next(&scan, &parked.key, &parked.settled))
	{
		if (group_key_less(parked.key, from))
			continue;
		memory_grow(NULL, &list, &size, (Size) n + 1, sizeof(ParkedKey));
		((ParkedKey *) list)[n++] = parked;
	}
	scan_end(&scan);
	*keys = list;
	return n;
}

static void
report_parked(GroupKey key, bool settled)
{
	ereport(ERROR,
			(errcode(settled ? ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE :
					 ERRCODE_DUPLICATE_OBJECT),
			 settled ? errmsg("transaction (" UINT64_FORMAT ", %u) of vshard %u was parked, and dealt with",
							  key.epoch, key.position, (unsigned) key.vshard) :
			 errmsg("transaction (" UINT64_FORMAT ", %u) of vshard %u is parked already",
					key.epoch, key.position, (unsigned) key.vshard)));
}

void
parked_refuse(uint64 id, GroupKey key)
{
	ParkedScan	scan;
	bool		settled;
	bool		found;

	scan_begin(&scan, AccessShareLock, id, key.epoch, key.epoch);
	found = find(&scan, key, &settled);
	scan_end(&scan);
	if (found)
		report_parked(key, settled);
}

static Datum
bytes_datum(WireSlice slice)
{
	bytea	   *value = palloc(VARHDRSZ + (Size) slice.len);

	SET_VARSIZE(value, VARHDRSZ + slice.len);
	if (slice.len > 0)
		memcpy(VARDATA(value), slice.data, slice.len);
	return PointerGetDatum(value);
}

static void
insert_parked(Insert *insert)
{
	if (!insert_row(insert))
		ereport(ERROR,
				(errcode(ERRCODE_TRIGGERED_ACTION_EXCEPTION),
				 errmsg("a trigger on %s keeps transactions out", PARKED_NAME)));
}

void
parked_add(uint64 id, const Delivery *delivery, uint32 attempts, const char *reason)
{
	GroupKey	key = {delivery->epoch, delivery->position, delivery->vshard};
	const LogTable *table = log_table_require();
	LogIdentity self = log_become_side_owner(table, SIDE_PARKED);
	ParkedScan	scan;
	Insert		insert;
	bool		settled = false;
	bool		found;

	scan_begin(&scan, RowExclusiveLock, id, key.epoch, key.epoch);
	found = find(&scan, key, &settled);
	if (!found)
	{
		insert_begin(&insert, RelationGetRelid(scan.access.rel));
		insert_put(insert.slot, PARKED_ATTR_ID, Int64GetDatum((int64) id));
		insert_put(insert.slot, PARKED_ATTR_EPOCH, Int64GetDatum((int64) key.epoch));
		insert_put(insert.slot, PARKED_ATTR_POSITION, Int64GetDatum(key.position));
		insert_put(insert.slot, PARKED_ATTR_VSHARD, Int32GetDatum(key.vshard));
		insert_put(insert.slot, PARKED_ATTR_SYSTEM_MS, Int64GetDatum(delivery->epoch_system_ms));
		insert_put(insert.slot, PARKED_ATTR_TX_CLASS, bytes_datum(delivery->tx_class));
		insert_put(insert.slot, PARKED_ATTR_REASON, CStringGetTextDatum(reason));
		insert_put(insert.slot, PARKED_ATTR_ATTEMPTS, Int32GetDatum((int32) attempts));
		insert_put(insert.slot, PARKED_ATTR_PARKED_AT,
			TimestampTzGetDatum(GetCurrentTimestamp()));
		insert_put(insert.slot, PARKED_ATTR_SETTLED, BoolGetDatum(false));
		insert_parked(&insert);
		insert_end(&insert);
	}
	scan_end(&scan);
	log_become_self(&self);
	if (found)
		report_parked(key, settled);
}

/* Fill in the same row again, to be changed. */
static void
fill_in_same(Insert *insert, const TupleTableSlot *row)
{
	insert->carries = true;
	for (int i = 0; i < insert->slot->tts_tupleDescriptor->natts; i++)
	{
		insert->slot->tts_values[i] = row->tts_values[i];
		insert->slot->tts_isnull[i] = row->tts_isnull[i];
	}
}

/* The same row again, settled: what it was about is not kept. */
static void
insert_settled(Insert *insert, const TupleTableSlot *row)
{
	fill_in_same(insert, row);
	insert_put(insert->slot, PARKED_ATTR_TX_CLASS, bytes_datum((WireSlice){NULL, 0}));
	insert_put(insert->slot, PARKED_ATTR_SETTLED, BoolGetDatum(true));
	insert_parked(insert);
}

bool
parked_settle(uint64 id, GroupKey key, bool ahead, bytea **tx_class,
			  int64 *epoch_system_ms)
{
	LogIdentity self = log_become_side_owner(log_table_require(), SIDE_PARKED);
	ParkedScan	scan;
	Insert		insert;
	bool		settled;
	bool		done = false;

	scan_begin(&scan, RowExclusiveLock, id, key.epoch, key.epoch);
	insert_begin(&insert, RelationGetRelid(scan.access.rel));
	if (find(&scan, key, &settled) && !settled)
	{
		const Datum *values = scan.slot->tts_values;

		if (!side_access_serializable(&scan.access, scan.slot))
			ereport(ERROR,
					(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
					 errmsg("could not serialize access: the transaction was parked by another one"),
					 errdetail("What that has done is not seen by this transaction's snapshot."),
					 errhint("Run the transaction again.")));
		*tx_class = DatumGetByteaPCopy(values[PARKED_ATTR_TX_CLASS - 1]);
		*epoch_system_ms = DatumGetInt64(values[PARKED_ATTR_SYSTEM_MS - 1]);
		/* whoever has taken it meanwhile has it */
		done = remove_row(&insert, scan.slot, scan.access.snapshot) == REMOVAL_DONE;
		if (done && ahead)
			insert_settled(&insert, scan.slot);
	}
	insert_end(&insert);
	scan_end(&scan);
	log_become_self(&self);
	return done;
}

void
parked_forget(uint64 id, GroupKey key)
{
	LogIdentity self = log_become_side_owner(log_table_require(), SIDE_PARKED);
	ParkedScan	scan;
	Insert		insert;
	bool		settled;

	scan_begin(&scan, RowExclusiveLock, id, key.epoch, key.epoch);
	insert_begin(&insert, RelationGetRelid(scan.access.rel));
	if (find(&scan, key, &settled) && settled)
		(void) remove_row(&insert, scan.slot, scan.access.snapshot);
	insert_end(&insert);
	scan_end(&scan);
	log_become_self(&self);
}

void
parked_give(uint64 from, uint64 to)
{
	LogIdentity self = log_become_side_owner(log_table_require(), SIDE_PARKED);
	ParkedScan	scan;
	Insert		insert;
	GroupKey	key;
	bool		settled;

	scan_begin(&scan, RowExclusiveLock, from, 0, PG_INT64_MAX);
	insert_begin(&insert, RelationGetRelid(scan.access.rel));
	while (scan_next(&scan, &key, &settled))
	{
		if (remove_row(&insert, scan.slot, scan.access.snapshot) != REMOVAL_DONE)
			ereport(ERROR,
					(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
					 errmsg("what the group has parked was changed by another transaction"),
					 errhint("Run the transaction again.")));
		ExecClearTuple(insert.slot);
		fill_in_same(&insert, scan.slot);
		insert_put(insert.slot, PARKED_ATTR_ID, Int64GetDatum((int64) to));
		insert_parked(&insert);
		ResetPerTupleExprContext(insert.estate);
	}
	insert_end(&insert);
	scan_end(&scan);
	log_become_self(&self);
}

void
parked_drop(uint64 id)
{
	LogIdentity self = log_become_side_owner(log_table_require(), SIDE_PARKED);
	ParkedScan	scan;
	Insert		insert;
	GroupKey	key;
	bool		settled;

	scan_begin(&scan, RowExclusiveLock, id, 0, PG_INT64_MAX);
	insert_begin(&insert, RelationGetRelid(scan.access.rel));
	while (scan_next(&scan, &key, &settled))
		(void) remove_row(&insert, scan.slot, scan.access.snapshot);
	insert_end(&insert);
	scan_end(&scan);
	log_become_self(&self);
}
