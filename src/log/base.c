/*
 * base.c
 *	  Where the log begins: what to tell those who need what was truncated.
 */
#include "compat.h"

#include "log/base.h"
#include "log/reader.h"
#include "log/snapshots.h"
#include "wire/wire.h"

/* The first batch behind the base, or the base's successor if there is none. */
static uint64
first_epoch_kept(const LogAccess *access, uint64 base_epoch)
{
	LogReader	reader;
	uint64		epoch = base_epoch + 1;
	bool		isnull;

	log_reader_begin_by_epoch(&reader, access, (int64) epoch,
							  PG_INT64_MAX);
	if (log_reader_skip(&reader))
		epoch = (uint64) DatumGetInt64(slot_getattr(reader.slot, LOG_ATTR_EPOCH,
													&isnull));
	log_reader_end(&reader);
	return epoch;
}

static bool
lacks_base(const LogAccess *access)
{
	MachineState base;

	return log_first_index(access) > 1 &&
		!snapshots_base(access, &base);
}

/*
 * A log that begins above log_index 1, and whose base is not there: nobody can
 * tell whether there were batches before its first one.  An old snapshot that
 * shows of the log what its own transaction appended is no such case.
 */
static void
require_beginning(const LogAccess *access, uint64 epoch)
{
	LogReader	reader;
	LogAccess	latest;
	bool		behind_a_batch;
	bool		lacking;

	if (epoch > WIRE_MAX_EPOCH)
		return;
	log_reader_begin_by_epoch(&reader, access, 0, (int64) epoch);
	behind_a_batch = log_reader_skip(&reader);
	log_reader_end(&reader);
	if (behind_a_batch || !lacks_base(access))
		return;
	log_access_begin(&latest, ACCESS_SNAPSHOTS, ACCESS_LATEST);
	lacking = lacks_base(&latest);
	log_access_end(&latest);
	if (lacking)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the log begins above log_index 1, and its base snapshot is not there"),
				 errdetail("It begins at log_index " INT64_FORMAT ". Whether epoch " UINT64_FORMAT " was truncated is not known.",
						   log_first_index(access), epoch),
				 errhint("Restore seq_snapshots from the same dump as seq_log.")));
}

void
base_require_epoch(const LogAccess *access, uint64 epoch,
				   const char *consumer)
{
	MachineState base;
	uint64		kept;

	if (!snapshots_base(access, &base))
	{
		require_beginning(access, epoch);
		return;
	}
	if (base.last_applied_epoch == MACHINE_NO_EPOCH ||
		epoch > base.last_applied_epoch)
		return;
	kept = first_epoch_kept(access, base.last_applied_epoch);
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
