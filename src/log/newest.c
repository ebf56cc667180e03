/*
 * newest.c
 *	  The newest row of a thing that is stored anew, as a row of its own, each time
 *	  that it changes.
 */
#include "compat.h"

#include "access/genam.h"
#include "access/tableam.h"
#include "executor/executor.h"
#include "log/newest.h"
#include "miscadmin.h"

/*
 * So many replaced rows are looked at with every one that is stored.  Those
 * that nobody can see any more give their place in the index back.
 */
#define DEAD_ROWS_TRIED 2

void
newest_begin(NewestScan *scan, SideTable side, LOCKMODE mode, AccessSnapshot kind,
			 int nkeys)
{
	SideAccess *access = &scan->access;

	side_access_begin(access, side, mode, kind);
	scan->nkeys = nkeys;
	scan->scan = compat_index_beginscan(access->rel, access->by_key,
										access->snapshot, nkeys);
	scan->slot = table_slot_create(access->rel, NULL);
	scan->behind = table_slot_create(access->rel, NULL);
}

bool
newest_find(NewestScan *scan, ScanKey keys)
{
	CHECK_FOR_INTERRUPTS();
	index_rescan(scan->scan, keys, scan->nkeys, NULL, 0);
	if (!index_getnext_slot(scan->scan, BackwardScanDirection, scan->slot))
		return false;
	slot_getallattrs(scan->slot);
	return true;
}

void
newest_try_dead(NewestScan *scan)
{
	for (int i = 0; i < DEAD_ROWS_TRIED; i++)
	{
		if (index_getnext_tid(scan->scan, BackwardScanDirection) == NULL)
			return;
		(void) index_fetch_heap(scan->scan, scan->behind);
	}
	ExecClearTuple(scan->behind);
	/* only now the last one is marked */
	(void) index_getnext_tid(scan->scan, BackwardScanDirection);
}

void
newest_refresh(NewestScan *scan)
{
	SideAccess *access = &scan->access;

	ExecClearTuple(scan->slot);
	index_endscan(scan->scan);
	side_access_refresh(access);
	scan->scan = compat_index_beginscan(access->rel, access->by_key,
										access->snapshot, scan->nkeys);
}

void
newest_end(NewestScan *scan)
{
	index_endscan(scan->scan);
	ExecDropSingleTupleTableSlot(scan->slot);
	ExecDropSingleTupleTableSlot(scan->behind);
	side_access_end(&scan->access);
}
