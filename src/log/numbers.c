/*
 * numbers.c
 *	  Submission numbers: reserved in blocks by the sequence seq_submission_numbers.
 *
 * Its last value is the end of what was reserved.  Like every sequence's it is kept
 * whatever becomes of the transaction, and is in the write-ahead log before the
 * commit of whoever uses a number of the block.  It is not nextval() that is called,
 * which would change what lastval() returns to the user.
 */
#include "compat.h"

#include "log/locks.h"
#include "log/numbers.h"
#include "log/owner.h"
#include "shared/submitters.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"

/* The sequence's last value, 0 before the first. */
static int64
last_value(Oid sequence)
{
	LOCAL_FCINFO(fcinfo, 1);
	Datum		value;

	InitFunctionCallInfoData(*fcinfo, NULL, 1, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = ObjectIdGetDatum(sequence);
	fcinfo->args[0].isnull = false;
	value = pg_sequence_last_value(fcinfo);
	return fcinfo->isnull ? 0 : DatumGetInt64(value);
}

void
numbers_reserve(DatabaseSlot *slot)
{
	const LogTable *table = log_table_require();
	Oid			sequence = get_relname_relid(NUMBERS_NAME, table->schema);
	LogIdentity self;
	int64		reserved;

	if (!OidIsValid(sequence))
		shape_report_altered(NUMBERS_NAME, "It was not found in the extension's schema.");
	self = log_become_relation_owner(sequence);
	log_lock_briefly(LOG_LOCK_NUMBERS);
	reserved = last_value(sequence);
	(void) DirectFunctionCall2(setval_oid, ObjectIdGetDatum(sequence),
							   Int64GetDatum(reserved + SUBMISSION_BLOCK));
	log_unlock(LOG_LOCK_NUMBERS);
	log_become_self(&self);
	submitters_add_numbers(slot, (uint64) reserved + 1, SUBMISSION_BLOCK);
}
