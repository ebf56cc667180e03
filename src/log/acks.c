/*
 * acks.c
 *	  Acknowledgements of a follower on their way to its source: the table
 *	  seq_outgoing_acks.
 */
#include "compat.h"

#include <limits.h>

#include "access/genam.h"
#include "access/stratnum.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "log/access.h"
#include "log/acks.h"
#include "log/append.h"
#include "log/completion.h"
#include "log/following.h"
#include "log/insert.h"
#include "log/locks.h"
#include "log/memory.h"
#include "log/owner.h"
#include "log/remove.h"
#include "miscadmin.h"
#include "shared/wakeup.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* Rows of one acknowledgement: those of transactions that did not see each other. */
static IndexScanDesc
begin_scan(const SideAccess *access, const Ack *ack)
{
	IndexScanDesc scan = compat_index_beginscan(access->rel, access->by_key,
												access->snapshot, 3);
	ScanKeyData keys[3];

	ScanKeyInit(&keys[0], ACK_ATTR_EPOCH, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum((int64) ack->epoch));
	ScanKeyInit(&keys[1], ACK_ATTR_POSITION, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum((int64) ack->position));
	ScanKeyInit(&keys[2], ACK_ATTR_VSHARD, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(ack->vshard));
	index_rescan(scan, keys, 3, NULL, 0);
	return scan;
}

static bool
is_there(const SideAccess *access, const Ack *ack)
{
	TupleTableSlot *slot = table_slot_create(access->rel, NULL);
	IndexScanDesc scan = begin_scan(access, ack);
	bool		found = index_getnext_slot(scan, ForwardScanDirection, slot);

	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	return found;
}

static void
insert_ack(Oid relid, const Ack *ack)
{
	Insert		insert;
	Datum	   *values;

	insert_begin(&insert, relid);
	values = insert.slot->tts_values;
	values[ACK_ATTR_EPOCH - 1] = Int64GetDatum((int64) ack->epoch);
	values[ACK_ATTR_POSITION - 1] = Int64GetDatum((int64) ack->position);
	values[ACK_ATTR_VSHARD - 1] = Int32GetDatum(ack->vshard);
	values[ACK_ATTR_STORED_BY - 1] =
		Int64GetDatum((int64) U64FromFullTransactionId(GetTopFullTransactionId()));
	values[ACK_ATTR_STORED_AT - 1] = TimestampTzGetDatum(GetCurrentTimestamp());
	for (int i = 0; i < ACK_ATTRS; i++)
		insert.slot->tts_isnull[i] = false;
	(void) insert_row(&insert);
	insert_end(&insert);
}

bool
acks_store(const Ack *ack)
{
	LogIdentity self = log_become_side_owner(log_table_require(), SIDE_ACKS);
	SideAccess	access;
	bool		follows;

	/* who ends it waits for us from here on */
	side_access_begin(&access, SIDE_ACKS, RowExclusiveLock, ACCESS_LATEST);
	follows = following_find(NULL);
	if (follows && !is_there(&access, ack))
		insert_ack(RelationGetRelid(access.rel), ack);
	side_access_end(&access);
	log_become_self(&self);
	if (follows)
		wakeup_acks_at_commit();
	return follows;
}

int
acks_list(int most, Ack **acks)
{
	SideAccess	access;
	TupleTableSlot *slot;
	IndexScanDesc scan;
	void	   *list = NULL;
	Size		size = 0;
	int			n = 0;

	side_access_begin(&access, SIDE_ACKS, AccessShareLock, ACCESS_LATEST);
	slot = table_slot_create(access.rel, NULL);
	scan = compat_index_beginscan(access.rel, access.by_key, access.snapshot, 0);
	index_rescan(scan, NULL, 0, NULL, 0);
	while (n < most && index_getnext_slot(scan, ForwardScanDirection, slot))
	{
		Ack			ack = {0};
		Ack		   *last = n == 0 ? NULL : &((Ack *) list)[n - 1];

		CHECK_FOR_INTERRUPTS();
		slot_getallattrs(slot);
		ack.epoch = (uint64) DatumGetInt64(slot->tts_values[ACK_ATTR_EPOCH - 1]);
		ack.position = (uint32) DatumGetInt64(slot->tts_values[ACK_ATTR_POSITION - 1]);
		ack.vshard = (uint16) DatumGetInt32(slot->tts_values[ACK_ATTR_VSHARD - 1]);
		if (last != NULL && last->epoch == ack.epoch &&
			last->position == ack.position && last->vshard == ack.vshard)
			continue;
		memory_grow(NULL, &list, &size, (Size) n + 1, sizeof(Ack));
		((Ack *) list)[n++] = ack;
	}
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	side_access_end(&access);
	*acks = list;
	return n;
}

uint64
acks_count(void)
{
	Ack		   *acks;
	int			n = acks_list(INT_MAX, &acks);

	if (acks != NULL)
		pfree(acks);
	return (uint64) n;
}

void
acks_remove(const Ack *acks, int n)
{
	LogIdentity self = log_become_side_owner(log_table_require(), SIDE_ACKS);
	SideAccess	access;
	TupleTableSlot *slot;
	Insert		insert;

	/* the same one may come twice: what was removed is not to be found again */
	side_access_begin(&access, SIDE_ACKS, RowExclusiveLock, ACCESS_SELF);
	slot = table_slot_create(access.rel, NULL);
	access_push_snapshot();
	insert_begin(&insert, RelationGetRelid(access.rel));
	for (int i = 0; i < n; i++)
	{
		IndexScanDesc scan = begin_scan(&access, &acks[i]);

		CHECK_FOR_INTERRUPTS();
		while (index_getnext_slot(scan, ForwardScanDirection, slot))
			(void) remove_row(&insert, slot, access.snapshot);
		index_endscan(scan);
	}
	insert_end(&insert);
	PopActiveSnapshot();
	ExecDropSingleTupleTableSlot(slot);
	side_access_end(&access);
	log_become_self(&self);
}

void
acks_lock(void)
{
	log_lock_table_for_transaction(log_side_table(log_table_require(), SIDE_ACKS),
								   ShareRowExclusiveLock);
}

void
acks_append(const Ack *acks, int n)
{
	for (int i = 0; i < n; i++)
	{
		WireEntry	what = {.kind = WIRE_COMPLETION_ACK, .epoch = acks[i].epoch,
		.position = acks[i].position, .vshard_id = acks[i].vshard};
		WireBuffer	entry;

		CHECK_FOR_INTERRUPTS();
		if (completion_has_ack(acks[i].epoch, acks[i].position, acks[i].vshard))
			continue;
		memory_bytea_init(&entry);
		wire_put_ack(&entry, acks[i].epoch, acks[i].position, acks[i].vshard);
		/* where the log ends by now */
		append_lock();
		(void) append_insert(memory_bytea_finish(&entry), &what);
	}
}
