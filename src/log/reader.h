/*
 * reader.h
 *	  Reading seq_log: in log order, in epoch order, and its right end.
 *
 * All of it through an access, which has to stay open meanwhile.
 */
#ifndef CALVIN_LOG_READER_H
#define CALVIN_LOG_READER_H

#include "compat.h"

#include "access/relscan.h"
#include "executor/tuptable.h"
#include "log/access.h"
#include "log/chunks.h"

/* One row.  "entry" is detoasted, in the context log_reader_next() ran in. */
typedef struct LogRow
{
	uint64		log_index;
	const uint8 *entry;
	uint32		entry_len;
	TimestampTz appended_at;
	bool		epoch_valid; /* the epoch column is not null */
	uint64		epoch;
	NameData	kind; /* as the row says it; empty if null */
} LogRow;

typedef struct LogReader
{
	IndexScanDesc scan;
	TupleTableSlot *slot; /* of the current row */
	ChunkReader chunks;
	struct varlena *detoasted; /* of the current row, to be freed */
} LogReader;

/* Rows with from <= log_index <= to, ascending. */
extern void log_reader_begin_by_index(LogReader *reader, const LogAccess *access,
									  int64 from, int64 to);

/* Rows of kind epoch_batch with from <= epoch <= to, ascending by epoch. */
extern void log_reader_begin_by_epoch(LogReader *reader, const LogAccess *access,
									  int64 from, int64 to);

/* CompletionAcks for one transaction, in log order. */
extern void log_reader_begin_acks(LogReader *reader, const LogAccess *access,
								  int64 epoch, int64 position);

/* The next row, or false.  The previous row's entry is freed. */
extern bool log_reader_next(LogReader *reader, LogRow *row);
extern void log_reader_end(LogReader *reader);

/* Is there a next row?  It is passed over without being read. */
extern bool log_reader_skip(LogReader *reader);

/* Nothing that was written to the page of the row in a slot is behind that in WAL. */
extern XLogRecPtr log_row_lsn(TupleTableSlot *slot);

/* The current row's entry, to be kept: the caller's to pfree(). */
extern uint8 *log_reader_take_entry(LogReader *reader, const LogRow *row,
									void **to_free);

/* The highest log_index, 0 for an empty log. */
extern int64 log_last_index(const LogAccess *access);

/*
 * The lowest log_index, 0 for an empty log.  Passes by what was truncated but
 * not vacuumed yet, so not for what is done often.
 */
extern int64 log_first_index(const LogAccess *access);

/* When the first row from a log_index on was appended; 0: there is none. */
extern TimestampTz log_appended_at(const LogAccess *access, int64 from);

/* Is there any row with from <= log_index <= to? */
extern bool log_has_rows(const LogAccess *access, int64 from,
						 int64 to);

/* The highest log_index before another one, 0 if there is none. */
extern int64 log_index_before(const LogAccess *access,
							  int64 log_index);

/* The highest epoch of an epoch_batch row, -1 if there is none. */
extern int64 log_last_epoch(const LogAccess *access);

/* log_last_index(), and log_last_epoch() between statements that insert. */
extern int64 log_end(const LogAccess *access, int64 *epoch);

/* The highest epoch of the epoch_batch rows before a log_index, or -1. */
extern int64 log_epoch_before(const LogAccess *access,
							  int64 log_index);

#endif							/* CALVIN_LOG_READER_H */
