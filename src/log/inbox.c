/*
 * inbox.c
 *	  Where submissions wait: rows of the inbox's partitions.
 *
 * Rows are read where they lie, without an executor or slots: there are as many of
 * them as transactions.
 */
#include "compat.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "log/inbox.h"
#include "log/locks.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"

static Oid
partition_oid(const LogTable *table, uint32 partition)
{
	char		name[NAMEDATALEN];

	shape_inbox_name(partition, name);
	return get_relname_relid(name, table->schema);
}

static void
require_same(Oid extension, const LogTable *table)
{
	if (OidIsValid(extension) && (table == NULL || table->extension != extension))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("extension %s was dropped after this transaction had submitted to it",
						EXTENSION_NAME),
				 errdetail("What was submitted cannot be kept."),
				 errhint("Run the transaction again.")));
}

Relation
inbox_open(uint32 partition, Oid extension, LOCKMODE mode)
{
	bool		missing = false;

	for (;;)
	{
		const LogTable *table = log_table_find();
		Oid			relid;
		Relation	rel;

		require_same(extension, table);
		if (table == NULL)
			table = log_table_require();
		relid = partition_oid(table, partition);
		if (!OidIsValid(relid) && missing)
			shape_report_altered(LANDING_NAME, "A partition of it is missing.");
		/* what protects rows stays as long as they do */
		if (OidIsValid(relid) && mode > AccessShareLock)
			log_lock_table_for_transaction(relid, mode);
		rel = OidIsValid(relid) ?
			try_relation_open(relid, mode > AccessShareLock ? NoLock : mode) : NULL;
		if (rel != NULL)
		{
			/* it may have become another one while we waited */
			table = log_table_find();
			require_same(extension, table);
			if (table != NULL && partition_oid(table, partition) == relid)
			{
				shape_check_inbox(rel);
				return rel;
			}
			relation_close(rel, mode > AccessShareLock ? NoLock : mode);
		}
		/* with the extension, or for good? */
		missing = !OidIsValid(relid);
		AcceptInvalidationMessages();
		log_table_forget();
		CHECK_FOR_INTERRUPTS();
	}
}

void
inbox_open_all(Relation *partitions)
{
	for (uint32 i = 0; i < INBOX_PARTITIONS; i++)
		partitions[i] = inbox_open(i, InvalidOid, AccessShareLock);
}

void
inbox_close_all(Relation *partitions)
{
	for (uint32 i = 0; i < INBOX_PARTITIONS; i++)
		if (partitions[i] != NULL)
			relation_close(partitions[i], AccessShareLock);
}

Snapshot
inbox_latest_snapshot(void)
{
	return RegisterSnapshot(GetLatestSnapshot());
}

Snapshot
inbox_statement_snapshot(void)
{
	return RegisterSnapshot(GetActiveSnapshot());
}

void
inbox_check_refresh(const RangeVar *view)
{
	Oid			relid;
	Oid			log;

	if (!shape_is_inbox_name(view->relname))
		return;
	relid = RangeVarGetRelid(view, NoLock, true);
	log = OidIsValid(relid) ? log_relation_oid() : InvalidOid;
	if (OidIsValid(log) && get_rel_namespace(relid) == get_rel_namespace(log))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot refresh \"%s\"", view->relname),
				 errdetail("Submissions wait in it; its query is not meant to be run.")));
}

Relation
inbox_try_open_alone(uint32 partition)
{
	const LogTable *table = log_table_require();
	Oid			relid = partition_oid(table, partition);
	Relation	rel;

	if (!OidIsValid(relid) ||
		!ConditionalLockRelationOid(relid, AccessExclusiveLock))
		return NULL;
	rel = try_relation_open(relid, NoLock);
	if (rel == NULL)
		UnlockRelationOid(relid, AccessExclusiveLock);
	else
		shape_check_inbox(rel);
	return rel;
}

static InboxPlace
make_place(uint32 partition, ItemPointer tid)
{
	return ((uint64) (partition + 1) << 48) |
		((uint64) ItemPointerGetBlockNumber(tid) << 16) |
		ItemPointerGetOffsetNumber(tid);
}

InboxPlace
inbox_insert(Relation rel, uint32 partition, char kind, uint64 stamp, int64 at,
			 uint64 link, const void *data, uint32 len, int options)
{
	bool		nulls[INBOX_ATTRS] = {false};
	union
	{
		struct varlena varlena;
		char		bytes[VARHDRSZ + INBOX_ROW_BYTES];
	}			buffer;
	Datum		values[INBOX_ATTRS];
	HeapTuple	tuple;
	InboxPlace	place;

	Assert(len <= INBOX_ROW_BYTES);
	SET_VARSIZE(&buffer.varlena, VARHDRSZ + len);
	if (len > 0)
		memcpy(VARDATA(&buffer.varlena), data, len);
	values[INBOX_ATTR_STAMP - 1] = UInt64GetDatum(stamp);
	values[INBOX_ATTR_AT - 1] = Int64GetDatum(at);
	values[INBOX_ATTR_LINK - 1] = UInt64GetDatum(link);
	values[INBOX_ATTR_KIND - 1] = CharGetDatum(kind);
	values[INBOX_ATTR_DATA - 1] = PointerGetDatum(&buffer.varlena);
	tuple = heap_form_tuple(RelationGetDescr(rel), values, nulls);
	heap_insert(rel, tuple, GetCurrentCommandId(true),
				options | HEAP_INSERT_NO_LOGICAL, NULL);
	place = make_place(partition, &tuple->t_self);
	heap_freetuple(tuple);
	return place;
}

/*
 * Fixed columns of 8 bytes, one byte, and data that is never moved or compressed:
 * the guard keeps the partitions so.
 */
static void
deform(InboxRow *row, uint32 partition)
{
	const char *fixed = (const char *) row->tuple.t_data + row->tuple.t_data->t_hoff;
	const char *data = fixed + 3 * sizeof(uint64) + 1;

	memcpy(&row->stamp, fixed, sizeof(uint64));
	memcpy(&row->at, fixed + sizeof(uint64), sizeof(uint64));
	memcpy(&row->link, fixed + 2 * sizeof(uint64), sizeof(uint64));
	row->kind = fixed[3 * sizeof(uint64)];
	/* a long one is aligned, with zeros before it */
	if (!VARATT_NOT_PAD_BYTE(data))
		data = (const char *) INTALIGN(data);
	row->data = VARDATA_ANY(data);
	row->len = VARSIZE_ANY_EXHDR(data);
	row->place = make_place(partition, &row->tuple.t_self);
}

bool
inbox_fetch(Relation rel, uint32 partition, BlockNumber nblocks, InboxPlace place,
			Snapshot snapshot, InboxRow *row)
{
	BlockNumber block = (BlockNumber) (place >> 16);

	if (block >= nblocks)
		return false;
	ItemPointerSet(&row->tuple.t_self, block, (OffsetNumber) (place & 0xffff));
	if (!heap_fetch(rel, snapshot, &row->tuple, &row->pin, false))
		return false;
	deform(row, partition);
	return true;
}

void
inbox_release(InboxRow *row)
{
	ReleaseBuffer(row->pin);
	row->pin = InvalidBuffer;
}

void
inbox_scan(Relation rel, uint32 partition, Snapshot snapshot, InboxVisit visit,
		   void *context)
{
	TableScanDesc scan = heap_beginscan(rel, snapshot, 0, NULL, NULL,
										SO_TYPE_SEQSCAN | SO_ALLOW_STRAT |
										SO_ALLOW_PAGEMODE);
	HeapTuple	tuple;
	InboxRow	row = {0};

	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		row.tuple = *tuple;
		deform(&row, partition);
		if (!visit(context, &row))
			break;
		CHECK_FOR_INTERRUPTS();
	}
	heap_endscan(scan);
}
