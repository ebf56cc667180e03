/*
 * base.c
 *	  Where the log begins: what to tell those who need what was truncated.
 */
#include "compat.h"

#include "log/base.h"
#include "log/reader.h"
#include "log/snapshots.h"

/* The first batch behind the base, or the base's successor if there is none. */
static uint64
first_epoch_kept(const LogTable *table, Snapshot snapshot, uint64 base_epoch)
{
	LogReader	reader;
	uint64		epoch = base_epoch + 1;
	bool		isnull;

	log_reader_begin_by_epoch(&reader, table, snapshot, (int64) epoch,
							  PG_INT64_MAX);
	if (log_reader_skip(&reader))
		epoch = (uint64) DatumGetInt64(slot_getattr(reader.slot, LOG_ATTR_EPOCH,
													&isnull));
	log_reader_end(&reader);
	return epoch;
}

void
base_require_epoch(const LogTable *table, Snapshot snapshot, uint64 epoch,
				   const char *consumer)
{
	MachineState base;
	uint64		kept;

	if (!snapshots_base(table, snapshot, &base) ||
		base.last_applied_epoch == MACHINE_NO_EPOCH ||
		epoch > base.last_applied_epoch)
		return;
	kept = first_epoch_kept(table, snapshot, base.last_applied_epoch);
	if (consumer == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("epoch " UINT64_FORMAT " was truncated from the log", epoch),
				 errdetail("The first epoch kept is " UINT64_FORMAT ".", kept)));
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("subscription \"%s\" needs epoch " UINT64_FORMAT ", which was truncated from the log",
					consumer, epoch),
			 errdetail("The first epoch kept is " UINT64_FORMAT ".", kept),
			 errhint("What is missing cannot be had any more. Subscribe with from_epoch => " UINT64_FORMAT " to go on behind it.",
					 kept)));
}
