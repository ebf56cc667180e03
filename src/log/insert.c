/*
 * insert.c
 *	  Inserting a row into one of the extension's tables.
 */
#include "compat.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "log/direct.h"
#include "log/insert.h"
#include "log/shape.h"
#include "nodes/makefuncs.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"

/* What the executor is inserting now, the innermost one first. */
static Insert *under_way = NULL;

static bool
is_log(const Insert *insert)
{
	return strcmp(RelationGetRelationName(insert->rel), LOG_NAME) == 0;
}

static int
own_columns(const Insert *insert)
{
	return Min(shape_own_columns(RelationGetRelid(insert->rel)),
			   RelationGetDescr(insert->rel)->natts);
}

static void
begin(Insert *insert, Relation rel, bool direct)
{
	RangeTblEntry *rte = makeNode(RangeTblEntry);

	insert->rel = rel;
	insert->direct = direct;
	insert->direct_removal = direct_delete(rel);
	insert->carries = false;
	insert->estate = CreateExecutorState();
	rte->rtekind = RTE_RELATION;
	rte->relid = RelationGetRelid(rel);
	rte->relkind = rel->rd_rel->relkind;
	rte->rellockmode = RowExclusiveLock;
	compat_init_range_table(insert->estate, rte);
	insert->estate->es_output_cid = GetCurrentCommandId(true);

	insert->result = makeNode(ResultRelInfo);
	InitResultRelInfo(insert->result, rel, 1, NULL, 0);
	insert->result->ri_TrigDesc = NULL;
	ExecOpenIndices(insert->result, false);

	insert->slot = ExecInitExtraTupleSlot(insert->estate, RelationGetDescr(rel),
										  table_slot_callbacks(rel));
	ExecClearTuple(insert->slot);
	memset(insert->slot->tts_isnull, true,
		   insert->slot->tts_tupleDescriptor->natts * sizeof(bool));
}

void
insert_begin(Insert *insert, Oid relid)
{
	Relation	rel = table_open(relid, RowExclusiveLock);

	begin(insert, rel, direct_insert(rel));
}

void
insert_begin_known(Insert *insert, Oid relid, bool direct)
{
	begin(insert, table_open(relid, RowExclusiveLock), direct);
}

/*
 * Is a column given?  Of those of somebody's own only if they are carried from a row to
 * the one in its place; what is generated is generated again.
 */
static bool
is_given(const Insert *insert, int i)
{
	Form_pg_attribute attribute = TupleDescAttr(insert->slot->tts_tupleDescriptor, i);

	if (i < own_columns(insert))
		return !insert->slot->tts_isnull[i];
	return insert->carries && !attribute->attisdropped &&
		attribute->attgenerated == '\0';
}

/* INSERT INTO table (columns) OVERRIDING SYSTEM VALUE VALUES ($1, ...) RETURNING columns */
static void
write_command(const Insert *insert, StringInfo command, int *nargs, Oid *types,
			  Datum *values, char *nulls)
{
	TupleTableSlot *slot = insert->slot;
	TupleDesc	desc = slot->tts_tupleDescriptor;
	StringInfoData list;

	initStringInfo(command);
	initStringInfo(&list);
	appendStringInfo(command, "INSERT INTO %s (",
					 quote_qualified_identifier(get_namespace_name(RelationGetNamespace(insert->rel)),
												RelationGetRelationName(insert->rel)));
	*nargs = 0;
	for (int i = 0; i < desc->natts; i++)
	{
		if (!is_given(insert, i))
			continue;
		types[*nargs] = TupleDescAttr(desc, i)->atttypid;
		values[*nargs] = slot->tts_values[i];
		nulls[*nargs] = slot->tts_isnull[i] ? 'n' : ' ';
		appendStringInfo(command, "%s%s", *nargs > 0 ? ", " : "",
						 quote_identifier(NameStr(TupleDescAttr(desc, i)->attname)));
		(*nargs)++;
		appendStringInfo(&list, "%s$%d", *nargs > 1 ? ", " : "", *nargs);
	}
	appendStringInfo(command, ") OVERRIDING SYSTEM VALUE VALUES (%s) RETURNING ",
					 list.data);
	for (int i = 0; i < (is_log(insert) ? LOG_ATTR_INDEX : own_columns(insert)); i++)
		appendStringInfo(command, "%s%s", i > 0 ? ", " : "",
						 quote_identifier(NameStr(TupleDescAttr(desc, i)->attname)));
}

static bool
is_same(Form_pg_attribute attribute, Datum a, bool a_null, Datum b, bool b_null)
{
	if (a_null || b_null)
		return a_null && b_null;
	return datum_image_eq(a, b, attribute->attbyval, attribute->attlen);
}

static void
check_inserted(Insert *insert, HeapTuple row, TupleDesc desc)
{
	for (int i = 0; i < own_columns(insert); i++)
	{
		bool		isnull;
		Datum		value = SPI_getbinval(row, desc, i + 1, &isnull);

		if (!is_same(TupleDescAttr(insert->slot->tts_tupleDescriptor, i),
					 insert->slot->tts_values[i], insert->slot->tts_isnull[i],
					 value, isnull))
			ereport(ERROR,
					(errcode(ERRCODE_TRIGGERED_ACTION_EXCEPTION),
					 errmsg("a trigger on %s has changed a row of the extension's",
							RelationGetRelationName(insert->rel)),
					 errdetail("Column \"%s\" is not what was to be stored.",
							   NameStr(TupleDescAttr(desc, i)->attname))));
	}
}

static bool
insert_by_executor(Insert *insert)
{
	int			natts = insert->slot->tts_tupleDescriptor->natts;
	Oid		   *types = palloc(sizeof(Oid) * natts);
	Datum	   *values = palloc(sizeof(Datum) * natts);
	char	   *nulls = palloc(natts);
	StringInfoData command;
	int			nargs;
	bool		inserted;

	write_command(insert, &command, &nargs, types, values, nulls);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	insert->around = under_way;
	under_way = insert;
	PG_TRY();
	{
		if (SPI_execute_with_args(command.data, nargs, types, values, nulls, false,
								  0) != SPI_OK_INSERT_RETURNING)
			elog(ERROR, "could not insert into %s", RelationGetRelationName(insert->rel));
	}
	PG_FINALLY();
	{
		under_way = insert->around;
	}
	PG_END_TRY();
	inserted = SPI_processed > 0;
	if (inserted && is_log(insert))
	{
		HeapTuple	row = SPI_tuptable->vals[0];

		insert->slot->tts_values[LOG_ATTR_INDEX - 1] =
			SPI_getbinval(row, SPI_tuptable->tupdesc, 1,
						  &insert->slot->tts_isnull[LOG_ATTR_INDEX - 1]);
	}
	else if (inserted)
		check_inserted(insert, SPI_tuptable->vals[0], SPI_tuptable->tupdesc);
	SPI_finish();
	insert->estate->es_output_cid = GetCurrentCommandId(true);
	return inserted;
}

bool
insert_row(Insert *insert)
{
	ExecStoreVirtualTuple(insert->slot);
	if (!insert->direct)
		return insert_by_executor(insert);
	ExecSimpleRelationInsert(insert->result, insert->estate, insert->slot);
	return true;
}

void
insert_end(Insert *insert)
{
	ExecCloseIndices(insert->result);
	ExecResetTupleTable(insert->estate->es_tupleTable, false);
	FreeExecutorState(insert->estate);
	table_close(insert->rel, NoLock);
	CommandCounterIncrement();
}

bool
insert_is_under_way(Relation rel, HeapTuple tuple)
{
	TupleDesc	desc = RelationGetDescr(rel);

	for (const Insert *insert = under_way; insert != NULL; insert = insert->around)
	{
		int			own = own_columns(insert);
		int			i = 0;

		if (RelationGetRelid(insert->rel) != RelationGetRelid(rel))
			continue;
		while (i < own)
		{
			bool		isnull;
			Datum		value = heap_getattr(tuple, i + 1, desc, &isnull);

			if (!is_same(TupleDescAttr(desc, i), insert->slot->tts_values[i],
						 insert->slot->tts_isnull[i], value, isnull))
				break;
			i++;
		}
		if (i == own)
			return true;
	}
	return false;
}
