/*
 * range.c
 *	  How much of the beginning of the log may go.
 *
 * Rows are looked at one after the other from where the log begins, without their
 * entries, and the range ends in front of the first one that is to stay.  It ends at a
 * batch: of other entries in front of the next one, the batch before stays with them.
 */
#include "compat.h"

#include "access/detoast.h"
#include "log/range.h"
#include "log/reader.h"
#include "log/snapshots.h"
#include "miscadmin.h"
#include "utils/builtins.h"

typedef struct RangeRow
{
	uint64		index;
	bool		raises; /* it is a batch that raised the epoch, */
	uint64		epoch;	/* to this */
	TimestampTz appended_at;
	XLogRecPtr	lsn;
	Size		bytes;
} RangeRow;

static void
read_row(TupleTableSlot *slot, RangeRow *row)
{
	bool		isnull;
	Datum		value = slot_getattr(slot, LOG_ATTR_KIND, &isnull);
	char	   *kind = isnull ? NULL : TextDatumGetCString(value);

	row->raises = kind != NULL && strcmp(kind, LOG_KIND_EPOCH_BATCH) == 0;
	if (kind != NULL)
		pfree(kind);
	row->index = (uint64) DatumGetInt64(slot_getattr(slot, LOG_ATTR_INDEX, &isnull));
	value = slot_getattr(slot, LOG_ATTR_EPOCH, &isnull);
	row->epoch = isnull ? 0 : (uint64) DatumGetInt64(value);
	value = slot_getattr(slot, LOG_ATTR_APPENDED_AT, &isnull);
	row->appended_at = isnull ? DT_NOBEGIN : DatumGetTimestampTz(value);
	value = slot_getattr(slot, LOG_ATTR_ENTRY, &isnull);
	row->bytes = isnull ? 0 : toast_raw_datum_size(value);
	row->lsn = log_row_lsn(slot);
}

/* Is it to stay, whatever follows? */
static bool
stays(const RangeLimits *limits, const RangeRow *row, LogRange *range)
{
	if (row->appended_at >= limits->appended_before)
	{
		range->too_young = row->appended_at;
		return true;
	}
	if (!XLogRecPtrIsInvalid(limits->replayed.lsn) &&
		row->index > limits->replayed.index && row->lsn > limits->replayed.lsn)
	{
		range->unreplayed = true;
		return true;
	}
	return (range->lagging && row->appended_at >= limits->lag_before) ||
		(row->raises && row->epoch >= limits->before_epoch);
}

void
range_find(const RangeLimits *limits, LogRange *range)
{
	LogAccess	access;
	LogReader	reader;
	MachineState begin;
	RangeRow	row;
	Size		bytes = 0;
	int			entries = 0;

	memset(range, 0, sizeof(*range));
	log_access_begin(&access, ACCESS_SNAPSHOTS, ACCESS_LATEST);
	snapshots_begin(&access, &begin);
	log_reader_begin_by_index(&reader, &access, (int64) begin.last_applied_index + 1,
							  (int64) Min(limits->through_index, (uint64) PG_INT64_MAX));
	while (log_reader_skip(&reader))
	{
		bool		ends;

		CHECK_FOR_INTERRUPTS();
		read_row(reader.slot, &row);
		if (entries == 0)
			range->lagging = row.appended_at < limits->lag_before;
		ends = stays(limits, &row, range);
		/* with nothing but acks, there is no batch to end at */
		ends |= row.raises && (entries >= limits->entries || bytes >= limits->bytes);
		if (row.raises)
			range->before_epoch = row.epoch;
		if (ends)
			break;
		range->through_index = row.index;
		entries++;
		bytes += row.bytes;
	}
	log_reader_end(&reader);
	log_access_end(&access);
}
