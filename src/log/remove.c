/*
 * remove.c
 *	  Removing a row from one of the extension's tables.
 */
#include "compat.h"

#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_type_d.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "log/remove.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

/* A row that is locked, by a DELETE of its place. */
static void
delete_by_executor(Insert *insert, ItemPointer place)
{
	char	   *command = psprintf("DELETE FROM ONLY %s WHERE ctid OPERATOR(pg_catalog.=) $1",
								   quote_qualified_identifier(get_namespace_name(RelationGetNamespace(insert->rel)),
															  RelationGetRelationName(insert->rel)));
	Oid			types[] = {TIDOID};
	Datum		values[] = {PointerGetDatum(place)};
	Snapshot	latest = RegisterSnapshot(GetLatestSnapshot());
	SPIPlanPtr	plan;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	plan = SPI_prepare(command, 1, types);
	if (plan == NULL ||
		SPI_execute_snapshot(plan, values, NULL, latest, InvalidSnapshot, false, true,
							 0) != SPI_OK_DELETE)
		elog(ERROR, "could not delete from %s", RelationGetRelationName(insert->rel));
	SPI_finish();
	UnregisterSnapshot(latest);
	insert->estate->es_output_cid = GetCurrentCommandId(true);
}

static Removal
remove_by_executor(Insert *insert, TupleTableSlot *row, Snapshot snapshot, bool wait)
{
	ItemPointerData place = row->tts_tid;
	TupleTableSlot *locked = table_slot_create(insert->rel, NULL);
	TM_FailureData failure;
	TM_Result	result;

	/* the executor's own way to find a row would give up where others have changed it */
	result = table_tuple_lock(insert->rel, &place, snapshot, locked,
							  insert->estate->es_output_cid, LockTupleExclusive,
							  wait ? LockWaitBlock : LockWaitSkip, 0, &failure);
	ExecDropSingleTupleTableSlot(locked);
	if (result != TM_Ok)
		return REMOVAL_GONE;
	delete_by_executor(insert, &place);
	return table_tuple_satisfies_snapshot(insert->rel, row, SnapshotSelf) ?
		REMOVAL_KEPT : REMOVAL_DONE;
}

static Removal
remove_one(Insert *insert, TupleTableSlot *row, Snapshot snapshot, bool wait)
{
	TM_FailureData failure;

	if (!insert->direct_removal)
		return remove_by_executor(insert, row, snapshot, wait);
	return compat_table_tuple_delete(insert->rel, &row->tts_tid,
									 insert->estate->es_output_cid, snapshot,
									 wait, &failure) == TM_Ok ?
		REMOVAL_DONE : REMOVAL_GONE;
}

Removal
remove_row(Insert *insert, TupleTableSlot *row, Snapshot snapshot)
{
	return remove_one(insert, row, snapshot, true);
}

Removal
remove_row_nowait(Insert *insert, TupleTableSlot *row, Snapshot snapshot)
{
	return remove_one(insert, row, snapshot, false);
}
