/*
 * chunks.c
 *	  The chunks of entries that are stored out of line, a page at a time.
 *
 * An entry of usual size is some dozens of chunks of 2 kB, and they nearly
 * always lie one behind the other: they were inserted at once, by the only one
 * who may append.  PostgreSQL's own detoasting goes through the index for each
 * of them, and finds, pins and locks its page again; that took longer than
 * decoding the entry.  Here the index is asked for the first one, and then the
 * pages are read from there on.  Every row found that way is checked to be
 * visible, and the chunk that is next; where it is not, the index is asked
 * again.  What is out of the ordinary is left to PostgreSQL.
 */
#include "compat.h"

#include "access/detoast.h"
#include "access/heapam.h"
#include "access/heaptoast.h"
#include "access/htup_details.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/toast_internals.h"
#include "log/chunks.h"
#include "miscadmin.h"
#include "shared/pause.h"
#include "storage/bufmgr.h"
#include "utils/fmgroids.h"

/* A TOAST table's columns. */
#define CHUNK_ATTR_ID 1
#define CHUNK_ATTR_SEQ 2
#define CHUNK_ATTR_DATA 3

/* A value that is being read. */
typedef struct Value
{
	Oid			id;
	int32		chunks;
	int32		next; /* chunk wanted */
	Size		size;
	char	   *data;
} Value;

void
chunk_reader_begin(ChunkReader *reader, Relation table)
{
	reader->table = table;
	reader->chunks = NULL;
}

void
chunk_reader_end(ChunkReader *reader)
{
	if (reader->chunks == NULL)
		return;
	ExecDropSingleTupleTableSlot(reader->slot);
	toast_close_indexes(reader->indexes, reader->nindexes, AccessShareLock);
	table_close(reader->chunks, AccessShareLock);
	reader->chunks = NULL;
}

static void
open_chunks(ChunkReader *reader, Oid relid)
{
	int			valid;

	reader->chunks = table_open(relid, AccessShareLock);
	valid = toast_open_indexes(reader->chunks, AccessShareLock,
							   &reader->indexes, &reader->nindexes);
	reader->index = reader->indexes[valid];
	reader->slot = table_slot_create(reader->chunks, NULL);
	reader->blocks = 0;
	PAUSE_POINT("chunks: index opened");
}

/* Where the next chunk is, by the index. */
static bool
locate(ChunkReader *reader, const Value *value, Snapshot snapshot,
	   ItemPointer place)
{
	IndexScanDesc scan;
	ScanKeyData keys[2];
	bool		found;

	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(value->id));
	ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(value->next));
	scan = compat_index_beginscan(reader->chunks, reader->index, snapshot, 2);
	index_rescan(scan, keys, 2, NULL, 0);
	found = index_getnext_slot(scan, ForwardScanDirection, reader->slot);
	if (found)
		*place = reader->slot->tts_tid;
	ExecClearTuple(reader->slot);
	index_endscan(scan);
	return found;
}

/* Copy a row's chunk if it is the next one. */
static bool
take_chunk(Value *value, HeapTuple tuple, TupleDesc desc)
{
	Size		offset = (Size) value->next * TOAST_MAX_CHUNK_SIZE;
	Size		expected = Min(value->size - offset, TOAST_MAX_CHUNK_SIZE);
	bool		isnull[3];
	Datum		columns[3];
	struct varlena *data;

	if (HeapTupleHasNulls(tuple) ||
		HeapTupleHeaderGetNatts(tuple->t_data) != CHUNK_ATTR_DATA)
		return false;
	for (int i = 0; i < CHUNK_ATTR_DATA; i++)
		columns[i] = heap_getattr(tuple, i + 1, desc, &isnull[i]);
	if (DatumGetObjectId(columns[CHUNK_ATTR_ID - 1]) != value->id ||
		DatumGetInt32(columns[CHUNK_ATTR_SEQ - 1]) != value->next)
		return false;
	data = (struct varlena *) DatumGetPointer(columns[CHUNK_ATTR_DATA - 1]);
	if (VARATT_IS_EXTENDED(data) && !VARATT_IS_SHORT(data))
		return false;
	if (VARSIZE_ANY_EXHDR(data) != expected)
		return false;
	memcpy(value->data + offset, VARDATA_ANY(data), expected);
	value->next++;
	return true;
}

/* Take chunks of one page, from a row on, as long as they are the next ones. */
static void
read_page(ChunkReader *reader, Value *value, Snapshot snapshot,
		  BlockNumber block, OffsetNumber first)
{
	TupleDesc	desc = RelationGetDescr(reader->chunks);
	Buffer		buffer = ReadBuffer(reader->chunks, block);
	Page		page;
	OffsetNumber last;

	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	page = BufferGetPage(buffer);
	last = PageGetMaxOffsetNumber(page);
	for (OffsetNumber i = first; i <= last && value->next < value->chunks; i++)
	{
		ItemId		item = PageGetItemId(page, i);
		HeapTupleData tuple;

		if (!ItemIdIsNormal(item))
			break;
		tuple.t_data = (HeapTupleHeader) PageGetItem(page, item);
		tuple.t_len = ItemIdGetLength(item);
		tuple.t_tableOid = RelationGetRelid(reader->chunks);
		ItemPointerSet(&tuple.t_self, block, i);
		if (!HeapTupleSatisfiesVisibility(&tuple, snapshot, buffer) ||
			!take_chunk(value, &tuple, desc))
			break;
	}
	UnlockReleaseBuffer(buffer);
}

/* Take chunks from a place on, page after page, as long as they are the next. */
static void
read_pages(ChunkReader *reader, Value *value, Snapshot snapshot,
		   ItemPointer place)
{
	BlockNumber block = ItemPointerGetBlockNumber(place);
	OffsetNumber first = ItemPointerGetOffsetNumber(place);
	int32		before;

	do
	{
		CHECK_FOR_INTERRUPTS();
		if (block >= reader->blocks)
			reader->blocks = RelationGetNumberOfBlocks(reader->chunks);
		if (block >= reader->blocks)
			break;
		before = value->next;
		read_page(reader, value, snapshot, block++, first);
		first = FirstOffsetNumber;
	} while (value->next > before && value->next < value->chunks);
}

/* All chunks; false if that is PostgreSQL's to do, or to complain about. */
static bool
read_chunks(ChunkReader *reader, Value *value)
{
	SnapshotData data;
	Snapshot	snapshot = compat_toast_snapshot(&data);

	while (value->next < value->chunks)
	{
		int32		before = value->next;
		ItemPointerData place;

		if (!locate(reader, value, snapshot, &place))
			return false;
		read_pages(reader, value, snapshot, &place);
		if (value->next == before)
			return false;
	}
	return true;
}

struct varlena *
chunk_reader_detoast(ChunkReader *reader, struct varlena *stored)
{
	struct varatt_external pointer;
	struct varlena *result;
	Value		value;

	if (!VARATT_IS_EXTERNAL_ONDISK(stored))
		return pg_detoast_datum_packed(stored);
	VARATT_EXTERNAL_GET_POINTER(pointer, stored);
	/* compressed is what is stored shorter than it is */
	if ((int32) VARATT_EXTERNAL_GET_EXTSIZE(pointer) < pointer.va_rawsize - VARHDRSZ ||
		pointer.va_toastrelid != reader->table->rd_rel->reltoastrelid)
		return pg_detoast_datum_packed(stored);
	if (reader->chunks == NULL)
		open_chunks(reader, pointer.va_toastrelid);
	if (reader->chunks->rd_tableam != GetHeapamTableAmRoutine())
		return pg_detoast_datum_packed(stored);

	value.id = pointer.va_valueid;
	value.size = VARATT_EXTERNAL_GET_EXTSIZE(pointer);
	value.chunks = (int32) ((value.size + TOAST_MAX_CHUNK_SIZE - 1) /
							TOAST_MAX_CHUNK_SIZE);
	value.next = 0;
	result = palloc(value.size + VARHDRSZ);
	SET_VARSIZE(result, value.size + VARHDRSZ);
	value.data = VARDATA(result);
	if (read_chunks(reader, &value))
		return result;
	pfree(result);
	return pg_detoast_datum_packed(stored);
}
