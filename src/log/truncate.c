/*
 * truncate.c
 *	  Removing a prefix of the log.
 *
 * The rows go by plain deletes, in one transaction with the base snapshot that
 * takes their place: whoever reads the log sees both or neither.  If somebody has
 * triggers for that, or foreign keys from before there was a guard, by one DELETE
 * that fires them.  The state
 * that the base holds is computed here, by stepping the state machine over
 * what goes, from the last snapshot before its end: the applier may be far
 * ahead, and snapshots are anywhere.
 */
#include "compat.h"

#include "access/tableam.h"
#include "catalog/pg_type_d.h"
#include "executor/spi.h"
#include "log/batches.h"
#include "log/direct.h"
#include "log/owner.h"
#include "log/reader.h"
#include "log/snapshots.h"
#include "log/states.h"
#include "log/truncate.h"
#include "miscadmin.h"

/* What the executor is removing now. */
static int64 removing_first = 0;
static int64 removing_last = 0;

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
	snapshots_begin(&access, begin);
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

static uint64
remove_directly(LogAccess *access, int64 first, int64 last)
{
	LogReader	reader;
	uint64		removed = 0;

	log_reader_begin_by_index(&reader, access, first, last);
	while (log_reader_skip(&reader))
	{
		CHECK_FOR_INTERRUPTS();
		simple_table_tuple_delete(access->log, &reader.slot->tts_tid,
								  access->snapshot);
		removed++;
	}
	log_reader_end(&reader);
	return removed;
}

static uint64
remove_by_executor(LogAccess *access, int64 first, int64 last)
{
	char	   *command = psprintf("DELETE FROM ONLY %s WHERE log_index"
								   " OPERATOR(pg_catalog.>=) $1 AND log_index"
								   " OPERATOR(pg_catalog.<=) $2",
								   log_table_name(&access->table));
	LogIdentity self = log_become_owner(&access->table);
	Oid			types[] = {INT8OID, INT8OID};
	Datum		values[] = {Int64GetDatum(first), Int64GetDatum(last)};
	LogAccess	after;
	bool		stays;
	uint64		removed;
	SPIPlanPtr	plan;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	plan = SPI_prepare(command, 2, types);
	removing_first = first;
	removing_last = last;
	PG_TRY();
	{
		/* what was found was committed just now, whatever the isolation level */
		if (plan == NULL ||
			SPI_execute_snapshot(plan, values, NULL, access->snapshot, InvalidSnapshot,
								 false, true, 0) != SPI_OK_DELETE)
			elog(ERROR, "could not delete from seq_log");
	}
	PG_FINALLY();
	{
		removing_first = removing_last = 0;
	}
	PG_END_TRY();
	removed = SPI_processed;
	SPI_finish();
	log_become_self(&self);

	log_access_begin(&after, 0, ACCESS_SELF);
	stays = log_has_rows(&after, first, last);
	log_access_end(&after);
	if (stays)
		ereport(ERROR,
				(errcode(ERRCODE_TRIGGERED_ACTION_EXCEPTION),
				 errmsg("a trigger on seq_log keeps entries from being removed"),
				 errdetail("The log can only begin with its base snapshot."),
				 errhint("Have triggers for DELETE fire AFTER it, or return OLD.")));
	return removed;
}

bool
truncate_is_removing(int64 log_index)
{
	return removing_last > 0 &&
		(log_index == 0 || (log_index >= removing_first && log_index <= removing_last));
}

uint64
truncate_execute(const LogTable *table, const Truncation *truncation,
				 const CursorSurvey *survey)
{
	int64		first = (int64) truncation->begin.last_applied_index + 1;
	int64		last = (int64) truncation->base.last_applied_index;
	LogAccess	access;
	uint64		removed;

	log_access_begin(&access, ACCESS_WRITE, ACCESS_LATEST);
	removed = direct_delete(access.log) ? remove_directly(&access, first, last) :
		remove_by_executor(&access, first, last);
	log_access_end(&access);
	snapshots_rebase(table, &truncation->base);
	cursors_move(survey->nquiet, survey->quiet,
				 machine_next_epoch(&truncation->base));
	return removed;
}
