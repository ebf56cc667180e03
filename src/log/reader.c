/*
 * reader.c
 *	  Reading seq_log: in log order, in epoch order, and its right end.
 *
 * Plain index scans, without executor and privileges: the callers decide who
 * may read, and nothing that is attached to the table (rules, policies,
 * triggers) gets to run.
 */
#include "compat.h"

#include "access/genam.h"
#include "access/stratnum.h"
#include "access/tableam.h"
#include "access/xlog.h"
#include "log/reader.h"
#include "miscadmin.h"
#include "shared/bound.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"

static void
reader_begin(LogReader *reader, const LogAccess *access, Relation index,
			 ScanKeyData keys[2])
{
	reader->slot = table_slot_create(access->log, NULL);
	reader->scan = compat_index_beginscan(access->log, index, access->snapshot, 2);
	index_rescan(reader->scan, keys, 2, NULL, 0);
	reader->detoasted = NULL;
	chunk_reader_begin(&reader->chunks, access->log);
}

/* Is the last row of an index one that is seen? */
static bool
last_is_seen(const LogAccess *access, Relation index, TupleTableSlot *slot)
{
	IndexScanDesc scan = compat_index_beginscan(access->log, index, access->snapshot, 0);
	bool		seen;

	/* one that is known to be dead counts: behind it may be millions */
	scan->ignore_killed_tuples = false;
	index_rescan(scan, NULL, 0, NULL, 0);
	seen = index_getnext_tid(scan, BackwardScanDirection) != NULL &&
		index_fetch_heap(scan, slot);
	index_endscan(scan);
	return seen;
}

/*
 * Where to look for the end of an index from: it is not beyond that.  Where an index
 * ends with rows that were rolled back, until VACUUM removes them there may be any
 * number.  But a last row that is seen is the last one, whatever is told.
 */
static int64
bound_of_index(const LogAccess *access, Relation index)
{
	BoundEnd	end;

	if (!bound_get(RelationGetRelid(access->log), &end))
		return PG_INT64_MAX;
	return index == access->by_index ? end.log_index : end.epoch;
}

/* Both bounds on the first column of an index. */
static void
reader_begin_range(LogReader *reader, const LogAccess *access, Relation index,
				   int64 from, int64 to)
{
	ScanKeyData keys[2];
	int64		bound = bound_of_index(access, index);

	if (to > bound)
	{
		TupleTableSlot *slot = table_slot_create(access->log, NULL);

		if (!last_is_seen(access, index, slot))
			to = bound;
		ExecDropSingleTupleTableSlot(slot);
	}
	ScanKeyInit(&keys[0], 1, BTGreaterEqualStrategyNumber, F_INT8GE,
				Int64GetDatum(from));
	ScanKeyInit(&keys[1], 1, BTLessEqualStrategyNumber, F_INT8LE,
				Int64GetDatum(to));
	reader_begin(reader, access, index, keys);
}

void
log_reader_begin_by_index(LogReader *reader, const LogAccess *access,
						  int64 from, int64 to)
{
	reader_begin_range(reader, access, access->by_index, from, to);
}

void
log_reader_begin_by_epoch(LogReader *reader, const LogAccess *access,
						  int64 from, int64 to)
{
	reader_begin_range(reader, access, access->by_epoch, from, to);
}

void
log_reader_begin_acks(LogReader *reader, const LogAccess *access, int64 epoch,
					  int64 position)
{
	ScanKeyData keys[2];

	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(epoch));
	ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(position));
	reader_begin(reader, access, access->by_ack, keys);
}

static void
free_row(LogReader *reader)
{
	if (reader->detoasted != NULL)
		pfree(reader->detoasted);
	reader->detoasted = NULL;
}

bool
log_reader_next(LogReader *reader, LogRow *row)
{
	TupleTableSlot *slot = reader->slot;
	struct varlena *stored;
	struct varlena *entry;

	free_row(reader);
	if (!index_getnext_slot(reader->scan, ForwardScanDirection, slot))
		return false;

	slot_getsomeattrs(slot, LOG_ATTR_APPENDED_AT);
	row->log_index = (uint64) DatumGetInt64(slot->tts_values[LOG_ATTR_INDEX - 1]);
	row->appended_at =
		DatumGetTimestampTz(slot->tts_values[LOG_ATTR_APPENDED_AT - 1]);
	row->epoch_valid = !slot->tts_isnull[LOG_ATTR_EPOCH - 1];
	row->epoch = row->epoch_valid ?
		(uint64) DatumGetInt64(slot->tts_values[LOG_ATTR_EPOCH - 1]) : 0;
	memset(&row->kind, 0, sizeof(row->kind));
	if (!slot->tts_isnull[LOG_ATTR_KIND - 1])
	{
		text	   *kind = DatumGetTextPP(slot->tts_values[LOG_ATTR_KIND - 1]);

		text_to_cstring_buffer(kind, NameStr(row->kind), NAMEDATALEN);
		if ((Pointer) kind != DatumGetPointer(slot->tts_values[LOG_ATTR_KIND - 1]))
			pfree(kind);
	}

	stored = (struct varlena *)
		DatumGetPointer(slot->tts_values[LOG_ATTR_ENTRY - 1]);
	entry = chunk_reader_detoast(&reader->chunks, stored);
	if (entry != stored)
		reader->detoasted = entry;
	row->entry = (const uint8 *) VARDATA_ANY(entry);
	row->entry_len = (uint32) VARSIZE_ANY_EXHDR(entry);
	return true;
}

bool
log_reader_skip(LogReader *reader)
{
	return index_getnext_slot(reader->scan, ForwardScanDirection, reader->slot);
}

uint8 *
log_reader_take_entry(LogReader *reader, const LogRow *row, void **to_free)
{
	uint8	   *copy;

	if (reader->detoasted != NULL)
	{
		*to_free = reader->detoasted;
		reader->detoasted = NULL;
		return unconstify(uint8 *, row->entry);
	}
	copy = palloc(Max(row->entry_len, 1));
	memcpy(copy, row->entry, row->entry_len);
	*to_free = copy;
	return copy;
}

void
log_reader_end(LogReader *reader)
{
	free_row(reader);
	chunk_reader_end(&reader->chunks);
	index_endscan(reader->scan);
	ExecDropSingleTupleTableSlot(reader->slot);
}

/* What is asked of the row that an index ends with. */
typedef struct LastRow
{
	int64		log_index;
	int64		epoch; /* -1 for none */
	bool		is_batch; /* one that raised the epoch */
} LastRow;

static bool
is_epoch_batch(TupleTableSlot *slot)
{
	static const char kind[] = LOG_KIND_EPOCH_BATCH;
	bool		isnull;
	Datum		value = slot_getattr(slot, LOG_ATTR_KIND, &isnull);
	text	   *found = isnull ? NULL : DatumGetTextPP(value);

	return found != NULL && VARSIZE_ANY_EXHDR(found) == strlen(kind) &&
		memcmp(VARDATA_ANY(found), kind, strlen(kind)) == 0;
}

/* What is asked of the row in the slot; false if it is to be passed over. */
static bool
take_last(TupleTableSlot *slot, bool batches_only, LastRow *last)
{
	bool		is_batch = is_epoch_batch(slot);
	bool		isnull;
	Datum		value;

	if (batches_only && !is_batch)
		return false;
	last->is_batch = is_batch;
	last->log_index = DatumGetInt64(slot_getattr(slot, LOG_ATTR_INDEX, &isnull));
	value = slot_getattr(slot, LOG_ATTR_EPOCH, &isnull);
	if (!isnull)
		last->epoch = DatumGetInt64(value);
	return true;
}

/*
 * Walking an index backwards from "upper", the first row, or the first batch
 * that raised the epoch; zero and -1 if there is none.
 *
 * An index scan compares all that a page has with its keys before it returns
 * the first of it.  From the end there is no need for a key.
 */
static LastRow
last_of_index(const LogAccess *access, Relation index, int64 upper,
			  bool batches_only)
{
	TupleTableSlot *slot = table_slot_create(access->log, NULL);
	LastRow		last = {0, -1, false};
	IndexScanDesc scan;
	ScanKeyData key;
	int			nkeys;

	if (upper == PG_INT64_MAX)
	{
		if (!last_is_seen(access, index, slot))
			upper = bound_of_index(access, index);
		else if (take_last(slot, batches_only, &last))
		{
			ExecDropSingleTupleTableSlot(slot);
			return last;
		}
	}
	nkeys = upper < PG_INT64_MAX ? 1 : 0;
	scan = compat_index_beginscan(access->log, index, access->snapshot, nkeys);
	ScanKeyInit(&key, 1, BTLessEqualStrategyNumber, F_INT8LE,
				Int64GetDatum(upper));
	index_rescan(scan, &key, nkeys, NULL, 0);
	while (index_getnext_slot(scan, BackwardScanDirection, slot))
	{
		CHECK_FOR_INTERRUPTS();
		if (take_last(slot, batches_only, &last))
			break;
	}
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	return last;
}

int64
log_last_index(const LogAccess *access)
{
	LastRow		last = last_of_index(access, access->by_index, PG_INT64_MAX, false);

	return last.log_index;
}

int64
log_first_index(const LogAccess *access)
{
	LogReader	reader;
	int64		first = 0;
	bool		isnull;

	log_reader_begin_by_index(&reader, access, 1, PG_INT64_MAX);
	if (log_reader_skip(&reader))
		first = DatumGetInt64(slot_getattr(reader.slot, LOG_ATTR_INDEX, &isnull));
	log_reader_end(&reader);
	return first;
}

TimestampTz
log_appended_at(const LogAccess *access, int64 from)
{
	LogReader	reader;
	TimestampTz at = 0;
	bool		isnull;

	log_reader_begin_by_index(&reader, access, from, PG_INT64_MAX);
	if (log_reader_skip(&reader))
		at = DatumGetTimestampTz(slot_getattr(reader.slot, LOG_ATTR_APPENDED_AT, &isnull));
	log_reader_end(&reader);
	return at;
}

bool
log_has_rows(const LogAccess *access, int64 from, int64 to)
{
	LogReader	reader;
	bool		found;

	log_reader_begin_by_index(&reader, access, from, to);
	found = log_reader_skip(&reader);
	log_reader_end(&reader);
	return found;
}

int64
log_index_before(const LogAccess *access, int64 log_index)
{
	LastRow		last = last_of_index(access, access->by_index, log_index - 1, false);

	return last.log_index;
}

int64
log_last_epoch(const LogAccess *access)
{
	LastRow		last = last_of_index(access, access->by_epoch, PG_INT64_MAX, true);

	return last.epoch;
}

int64
log_epoch_before(const LogAccess *access, int64 log_index)
{
	LastRow		last = last_of_index(access, access->by_index, log_index - 1, true);

	return last.epoch;
}

int64
log_end(const LogAccess *access, int64 *epoch)
{
	LastRow		last = last_of_index(access, access->by_index, PG_INT64_MAX, false);

	/* of the batches that raised the epoch, each is above all before it */
	*epoch = last.epoch;
	if (!last.is_batch && last.log_index > 0)
		*epoch = log_last_epoch(access);
	return last.log_index;
}

XLogRecPtr
log_row_lsn(TupleTableSlot *slot)
{
	if (TTS_IS_BUFFERTUPLE(slot))
	{
		Buffer		buffer = ((BufferHeapTupleTableSlot *) slot)->buffer;

		if (BufferIsValid(buffer))
			return BufferGetLSNAtomic(buffer);
	}
	return GetXLogInsertRecPtr();
}
