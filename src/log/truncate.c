/*
 * truncate.c
 *	  Removing a prefix of the log.
 *
 * The rows go by plain deletes, in one transaction with the base snapshot that
 * takes their place: whoever reads the log sees both or neither.  The state
 * that the base holds is computed here, by stepping the state machine over
 * what goes, from the last snapshot before its end: the applier may be far
 * ahead, and snapshots are anywhere.
 */
#include "compat.h"

#include "access/tableam.h"
#include "log/batches.h"
#include "log/reader.h"
#include "log/snapshots.h"
#include "log/states.h"
#include "log/truncate.h"
#include "miscadmin.h"

/*
 * log_index of the first row that stays, 0 if there is no batch.  Nothing is
 * looked for in front of "begin", the first epoch there can be: rows that went
 * earlier may still be in the index.
 */
static int64
first_to_stay(const LogAccess *access, uint64 before_epoch, uint64 begin)
{
	int64		last_epoch = log_last_epoch(access);
	LogReader	reader;
	int64		index = 0;
	bool		isnull;

	if (last_epoch < 0)
		return 0;
	log_reader_begin_by_epoch(&reader, access,
							  Min((int64) Max(before_epoch, begin), last_epoch),
							  PG_INT64_MAX);
	if (log_reader_skip(&reader))
		index = DatumGetInt64(slot_getattr(reader.slot, LOG_ATTR_INDEX, &isnull));
	log_reader_end(&reader);
	return index;
}

/* Where WAL stood when the row at a log_index, or a later one, was written. */
static XLogRecPtr
find_lsn(const LogAccess *access, int64 log_index)
{
	LogReader	reader;
	XLogRecPtr	lsn = InvalidXLogRecPtr;

	log_reader_begin_by_index(&reader, access, log_index, log_index);
	if (log_reader_skip(&reader))
		lsn = log_row_lsn(reader.slot);
	log_reader_end(&reader);
	return lsn;
}

bool
truncate_plan(const LogTable *table, uint64 before_epoch,
			  Truncation *truncation)
{
	LogAccess	access;
	MachineState *begin = &truncation->begin;
	int64		stays;
	int64		last = 0;

	snapshots_lock(table);
	log_access_begin(&access, ACCESS_SNAPSHOTS | ACCESS_IDENTITY,
					 ACCESS_LATEST);
	if (!snapshots_base(&access, begin))
		machine_init(begin);
	stays = first_to_stay(&access, before_epoch, machine_next_epoch(begin));
	if (stays > 0 &&
		log_has_rows(&access, (int64) begin->last_applied_index + 1, stays - 1))
		last = log_index_before(&access, stays);
	if (last > 0)
	{
		states_find(&access, (uint64) last, NULL, &truncation->base);
		truncation->lsn = find_lsn(&access, last);
	}
	log_access_end(&access);
	return last > 0;
}

void
truncate_find_traffic(const Truncation *truncation, uint64 from_epoch,
					  StreamKey *last)
{
	BatchWalk  *walk = batch_walk_create(NULL);
	WireTxn		txn;

	for (int v = 0; v < WIRE_VSHARDS; v++)
		last[v].epoch = MACHINE_NO_EPOCH;
	batch_walk_start(walk,
					 Max(from_epoch, machine_next_epoch(&truncation->begin)),
					 truncation->base.last_applied_epoch);
	while (batch_walk_next(walk, ACCESS_LATEST, &txn))
		for (int i = 0; i < txn.vshard_count; i++)
		{
			last[txn.vshards[i]].epoch = batch_walk_entry(walk)->epoch;
			last[txn.vshards[i]].position = txn.position;
		}
	batch_walk_stop(walk);
}

/*
 * Most cursors that lag do so because nothing came for their vshards: storing
 * them anew with every commit would cost more than what is received.
 */
void
truncate_survey_cursors(const Truncation *truncation, const StreamKey *traffic,
						uint64 from_epoch, bool pass_lost, CursorSurvey *survey)
{
	uint64		kept = machine_next_epoch(&truncation->begin);
	NamedCursor *cursors;
	int			n = cursors_behind(truncation->base.last_applied_epoch,
								   &cursors, &survey->changing);

	survey->nneedy = 0;
	survey->nquiet = 0;
	survey->quiet = cursors;
	for (int i = 0; i < n; i++)
	{
		const NamedCursor *cursor = &cursors[i];

		bool		lost = cursor->cursor.next.epoch < kept;

		if (lost && pass_lost)
			continue;
		if (!lost && cursor->cursor.next.epoch >= from_epoch &&
			traffic_before(traffic[cursor->cursor.vshard], cursor->cursor.next))
			survey->quiet[survey->nquiet++] = *cursor;
		else if (survey->nneedy++ == 0 ||
				 cursor->cursor.next.epoch <= survey->needy.cursor.next.epoch)
			survey->needy = *cursor;
	}
}

uint64
truncate_execute(const LogTable *table, const Truncation *truncation,
				 const CursorSurvey *survey)
{
	LogAccess	access;
	LogReader	reader;
	uint64		removed = 0;

	log_access_begin(&access, ACCESS_WRITE, ACCESS_LATEST);
	log_reader_begin_by_index(&reader, &access,
							  (int64) truncation->begin.last_applied_index + 1,
							  (int64) truncation->base.last_applied_index);
	while (log_reader_skip(&reader))
	{
		CHECK_FOR_INTERRUPTS();
		simple_table_tuple_delete(access.log, &reader.slot->tts_tid,
								  access.snapshot);
		removed++;
	}
	log_reader_end(&reader);
	log_access_end(&access);
	snapshots_rebase(table, &truncation->base);
	cursors_move(survey->nquiet, survey->quiet,
				 machine_next_epoch(&truncation->base));
	return removed;
}
