/*
 * dump.c
 *	  What waits in the inbox, for a dump.
 *
 * What a snapshot sees of the partitions is what waited when it was taken: packets,
 * and notes of how far was taken.  Unless a partition was emptied in between, which
 * is looked for after they were read.
 */
#include "compat.h"

#include "access/relation.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "access/xact.h"
#include "log/access.h"
#include "log/base.h"
#include "log/dump.h"
#include "log/packet.h"
#include "log/reader.h"
#include "log/rotation.h"
#include "log/snapshots.h"
#include "log/waiting.h"
#include "miscadmin.h"
#include "shared/pause.h"
#include "storage/bufmgr.h"
#include "utils/snapmgr.h"

/* Does the snapshot see what this transaction has committed? */
static bool
is_seen(uint64 full_xid, Snapshot snapshot)
{
	FullTransactionId next = ReadNextFullTransactionId();
	TransactionId xid = (TransactionId) full_xid;

	/* so old that there is no number like it any more */
	if (U64FromFullTransactionId(next) - full_xid > UINT64_C(1) << 31)
		return true;
	return full_xid == 0 || !XidInMVCCSnapshot(xid, snapshot);
}

static void
require_complete(Relation *partitions, Snapshot snapshot, InboxTaken taken)
{
	int			n;
	RemovedSpan *spans = rotation_removed(partitions, snapshot, &n);

	for (int i = 0; i < n; i++)
		if (is_seen(spans[i].first, snapshot) && !is_seen(spans[i].last, snapshot) &&
			spans[i].end > taken.stamp)
			ereport(ERROR,
					(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
					 errmsg("what waited in the inbox at the time of this snapshot is no longer there"),
					 errdetail("It was put into the log since, and removed from the inbox."),
					 RecoveryInProgress() ?
					 errhint("Run the dump again, or on the primary; on a standby nobody knows that it is needed.") :
					 errhint("Run the dump again.")));
	pfree(spans);
}

/* Behind which log_index they come, and the last place that is taken in seq_inbox. */
static int64
find_log_end(void)
{
	LogAccess	access;
	MachineState base;
	int64		end;

	log_access_begin(&access, ACCESS_SNAPSHOTS, ACCESS_STATEMENT);
	end = log_last_index(&access);
	if (end == 0 && snapshots_base(&access, &base))
		end = (int64) base.last_applied_index;
	log_access_end(&access);
	return end;
}

static int64
find_last_place(void)
{
	SideAccess	access;
	IndexScanDesc scan;
	TupleTableSlot *slot;
	int64		last = 0;
	bool		isnull;

	side_access_begin(&access, SIDE_LANDING, AccessShareLock, ACCESS_STATEMENT);
	slot = table_slot_create(access.rel, NULL);
	scan = compat_index_beginscan(access.rel, access.by_key, access.snapshot, 0);
	index_rescan(scan, NULL, 0, NULL, 0);
	if (index_getnext_slot(scan, BackwardScanDirection, slot))
		last = DatumGetInt64(slot_getattr(slot, LANDING_ATTR_PLACE, &isnull));
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	side_access_end(&access);
	return last;
}

static void
emit_packet(Packet *packet, uint64 passed, DumpedSubmission *submission,
			DumpEmit emit, void *context)
{
	RecordHead	head;

	for (uint64 i = 0; packet_next(packet, &head); i++)
	{
		char	   *tx_class;

		if (i < passed)
			continue;
		tx_class = palloc_extended(Max(head.size, 1), MCXT_ALLOC_HUGE);
		packet_read(packet, tx_class, head.size);
		submission->place++;
		submission->number = (int64) head.number;
		submission->tx_class = tx_class;
		submission->size = head.size;
		emit(context, submission);
		pfree(tx_class);
	}
}

/* Everything from "taken" on, in lists of bounded size. */
static void
emit_all(Relation *partitions, Snapshot snapshot, InboxTaken taken,
		 DumpedSubmission *submission, DumpEmit emit, void *context)
{
	InboxReader readers[INBOX_PARTITIONS];
	WaitingList list;
	uint64		from = taken.stamp;

	for (uint32 i = 0; i < INBOX_PARTITIONS; i++)
	{
		readers[i].rel = partitions[i];
		readers[i].partition = i;
		readers[i].nblocks = RelationGetNumberOfBlocks(partitions[i]);
		readers[i].snapshot = snapshot;
	}
	do
	{
		waiting_list(partitions, snapshot, from, PG_UINT64_MAX, &list);
		for (int i = 0; i < list.n; i++)
		{
			uint32		partition = inbox_place_partition(list.packets[i].place);
			InboxRow	row;
			Packet		packet;

			CHECK_FOR_INTERRUPTS();
			if (!inbox_fetch(partitions[partition], partition,
							 readers[partition].nblocks, list.packets[i].place,
							 snapshot, &row))
				continue;
			packet_open(&packet, &readers[partition], &row);
			emit_packet(&packet, packet.stamp == taken.stamp ? taken.ordinal : 0,
						submission, emit, context);
			packet_close(&packet);
		}
		from = list.end;
		pfree(list.packets);
	} while (list.end != PG_UINT64_MAX);
}

void
dump_waiting(DumpEmit emit, void *context)
{
	Relation	partitions[INBOX_PARTITIONS];
	Snapshot	snapshot;
	InboxTaken	taken;
	uint64		highest;
	DumpedSubmission submission = {0};

	submission.place = find_last_place();
	submission.log_end = find_log_end();
	PAUSE_POINT("dump: before the partitions");
	inbox_open_all(partitions);
	snapshot = inbox_statement_snapshot();
	/* with all of them open, none is emptied any more */
	waiting_find_taken(partitions, snapshot, &taken, &highest);
	require_complete(partitions, snapshot, taken);
	emit_all(partitions, snapshot, taken, &submission, emit, context);
	UnregisterSnapshot(snapshot);
	inbox_close_all(partitions);
}
