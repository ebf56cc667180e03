/*
 * insert.c
 *	  Inserting a row into one of the extension's tables without SQL.
 */
#include "compat.h"

#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "log/insert.h"
#include "log/owner.h"
#include "nodes/makefuncs.h"

void
insert_begin(Insert *insert, Oid relid, bool triggers)
{
	RangeTblEntry *rte = makeNode(RangeTblEntry);

	insert->rel = table_open(relid, RowExclusiveLock);
	insert->estate = CreateExecutorState();
	rte->rtekind = RTE_RELATION;
	rte->relid = relid;
	rte->relkind = insert->rel->rd_rel->relkind;
	rte->rellockmode = RowExclusiveLock;
	compat_init_range_table(insert->estate, rte);
	insert->estate->es_output_cid = GetCurrentCommandId(true);

	insert->result = makeNode(ResultRelInfo);
	InitResultRelInfo(insert->result, insert->rel, 1, NULL, 0);
	if (!triggers)
		insert->result->ri_TrigDesc = NULL;
	ExecOpenIndices(insert->result, false);
	/* where AFTER ROW triggers look for it; they would open another one */
	insert->estate->es_opened_result_relations = list_make1(insert->result);
	owner_defer_nothing(insert->estate);

	insert->slot = ExecInitExtraTupleSlot(insert->estate,
										  RelationGetDescr(insert->rel),
										  table_slot_callbacks(insert->rel));
	ExecClearTuple(insert->slot);
	memset(insert->slot->tts_isnull, true,
		   insert->slot->tts_tupleDescriptor->natts * sizeof(bool));
	AfterTriggerBeginQuery();
}

bool
insert_row(Insert *insert)
{
	ExecStoreVirtualTuple(insert->slot);
	ItemPointerSetInvalid(&insert->slot->tts_tid);
	ExecSimpleRelationInsert(insert->result, insert->estate, insert->slot);
	return ItemPointerIsValid(&insert->slot->tts_tid);
}

void
insert_end(Insert *insert)
{
	AfterTriggerEndQuery(insert->estate);
	ExecCloseIndices(insert->result);
	ExecResetTupleTable(insert->estate->es_tupleTable, false);
	FreeExecutorState(insert->estate);
	table_close(insert->rel, NoLock);
	CommandCounterIncrement();
}
