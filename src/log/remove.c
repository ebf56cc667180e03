/*
 * remove.c
 *	  Removing a row from one of the extension's tables without SQL.
 */
#include "compat.h"

#include "access/tableam.h"
#include "executor/executor.h"
#include "log/remove.h"
#include "utils/snapmgr.h"

static bool
has_triggers(const ResultRelInfo *result)
{
	const TriggerDesc *triggers = result->ri_TrigDesc;

	return triggers != NULL &&
		(triggers->trig_delete_before_row || triggers->trig_delete_after_row);
}

/* The executor's way, which fires them, does not wait for others itself. */
static Removal
remove_with_triggers(Insert *insert, TupleTableSlot *row, Snapshot snapshot)
{
	TupleTableSlot *locked = table_slot_create(insert->rel, NULL);
	TM_FailureData failure;
	TM_Result	result;
	EPQState	epqstate;

	result = table_tuple_lock(insert->rel, &row->tts_tid, snapshot, locked,
							  insert->estate->es_output_cid, LockTupleExclusive,
							  LockWaitBlock, 0, &failure);
	ExecDropSingleTupleTableSlot(locked);
	if (result != TM_Ok)
		return REMOVAL_GONE;
	insert->estate->es_snapshot = snapshot;
	compat_eval_plan_qual_init(&epqstate, insert->estate);
	ExecSimpleRelationDelete(insert->result, insert->estate, &epqstate, row);
	EvalPlanQualEnd(&epqstate);
	return table_tuple_satisfies_snapshot(insert->rel, row, SnapshotSelf) ?
		REMOVAL_KEPT : REMOVAL_DONE;
}

Removal
remove_row(Insert *insert, TupleTableSlot *row, Snapshot snapshot)
{
	TM_FailureData failure;

	if (has_triggers(insert->result))
		return remove_with_triggers(insert, row, snapshot);
	return table_tuple_delete(insert->rel, &row->tts_tid,
							  insert->estate->es_output_cid, snapshot,
							  InvalidSnapshot, true, &failure, false) == TM_Ok ?
		REMOVAL_DONE : REMOVAL_GONE;
}
