/*
 * landing.c
 *	  The table seq_inbox: submissions that a dump has brought.
 *
 * A dump has what waits as rows of this table, whatever it was in the database that
 * was dumped, each with where the log ended then.  They go into the log behind
 * that: until it is restored, nothing is sequenced at all, or it could not be.  Nor is
 * it before the log's identity, which a parallel restore may bring last: an append
 * would give it another one.  What was taken is deleted as in any table, since they
 * are few, and come once.
 */
#include "compat.h"

#include "access/genam.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "log/access.h"
#include "log/append.h"
#include "log/identity.h"
#include "log/insert.h"
#include "log/landing.h"
#include "log/owner.h"
#include "log/reader.h"
#include "log/remove.h"
#include "miscadmin.h"
#include "shared/submitters.h"
#include "utils/snapmgr.h"

/* Bytes that are taken in one transaction, about. */
#define STEP_BYTES (4 * 1024 * 1024)

/* Of the transaction under way. */
static uint64 rows;
static uint64 bytes;
static uint64 epochs;

static void
take_row(TupleTableSlot *slot, Batch *batch)
{
	bool		isnull;
	bytea	   *tx_class = DatumGetByteaPP(slot_getattr(slot, LANDING_ATTR_TX_CLASS, &isnull));
	Size		size = VARSIZE_ANY_EXHDR(tx_class);
	WireTxClassFigures figures;
	bool		canonical;
	WireError	error;

	if (!wire_examine_tx_class((const uint8 *) VARDATA_ANY(tx_class), size, &figures,
							   &canonical, &error) || !canonical)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("a row of seq_inbox is no submission"),
				 errdetail("Its submission number is " INT64_FORMAT ".",
						   DatumGetInt64(slot_getattr(slot, LANDING_ATTR_SUBMISSION, &isnull)))));
	if (!batch_has_room(batch, figures.plans_bytes, size))
		batch_append(batch);
	memcpy(batch_add(batch, figures.plans_bytes, (uint32) size),
		   VARDATA_ANY(tx_class), size);
	rows++;
	bytes += size;
}

/* What somebody has attached to the table runs as its owner. */
static void
remove_taken(Insert *insert, TupleTableSlot *row, Snapshot snapshot)
{
	LogIdentity self;

	self = log_become_relation_owner(RelationGetRelid(insert->rel));
	if (remove_row(insert, row, snapshot) != REMOVAL_DONE)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("a submission could not be removed from %s", LANDING_NAME),
				 errdetail("A trigger, or another transaction, has kept it there.")));
	log_become_self(&self);
}

LandingVerdict
landing_take(DatabaseSlot *slot, Batch *batch)
{
	SideAccess	access;
	Insert		insert;
	IndexScanDesc scan;
	TupleTableSlot *row;
	LandingVerdict verdict = LANDING_EMPTY;
	int64		log_end;
	pg_uuid_t	identity;
	bool		identified = identity_now(&identity);

	rows = bytes = 0;
	batch_start(batch);
	log_end = append_committed_end();
	side_access_begin(&access, SIDE_LANDING, RowExclusiveLock, ACCESS_LATEST);
	PushActiveSnapshot(access.snapshot);
	insert_begin(&insert, RelationGetRelid(access.rel));
	row = table_slot_create(access.rel, NULL);
	scan = compat_index_beginscan(access.rel, access.by_key, access.snapshot, 0);
	index_rescan(scan, NULL, 0, NULL, 0);
	while (index_getnext_slot(scan, ForwardScanDirection, row))
	{
		bool		isnull;
		int64		behind = DatumGetInt64(slot_getattr(row, LANDING_ATTR_LOG_END, &isnull));

		CHECK_FOR_INTERRUPTS();
		if (behind > log_end || (behind > 0 && !identified))
		{
			verdict = LANDING_EARLY;
			break;
		}
		if (bytes >= STEP_BYTES)
		{
			verdict = LANDING_MORE;
			break;
		}
		take_row(row, batch);
		remove_taken(&insert, row, access.snapshot);
	}
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(row);
	insert_end(&insert);
	batch_append(batch);
	epochs = (uint64) batch->epochs;
	PopActiveSnapshot();
	side_access_end(&access);
	return verdict;
}

uint64
landing_now(void)
{
	SideAccess	access;
	TupleTableSlot *row;
	TableScanDesc scan;
	uint64		n = 0;

	side_access_begin(&access, SIDE_LANDING, AccessShareLock, ACCESS_LATEST);
	row = table_slot_create(access.rel, NULL);
	scan = table_beginscan(access.rel, access.snapshot, 0, NULL);
	while (table_scan_getnextslot(scan, ForwardScanDirection, row))
	{
		CHECK_FOR_INTERRUPTS();
		n++;
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(row);
	side_access_end(&access);
	return n;
}

void
landing_tell(DatabaseSlot *slot)
{
	if (rows == 0)
		return;
	submitters_count_found(slot, rows, bytes);
	submitters_count_sequenced(slot, rows, bytes, epochs);
	rows = 0;
}
