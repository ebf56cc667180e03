/*
 * truncate.c
 *	  seq_truncate, in both forms.
 */
#include "compat.h"

#include "access/xlog.h"
#include "consumer/truncation.h"
#include "log/attach.h"
#include "miscadmin.h"
#include "sql/args.h"

CALVIN_FUNCTION(seq_truncate);
CALVIN_FUNCTION(seq_truncate_unneeded);

static void
refuse_read_only(void)
{
	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("cannot execute seq_truncate() during recovery"),
				 errhint("Truncate on the primary: standbys follow.")));
	PreventCommandIfReadOnly("seq_truncate()");
}

/* seq_truncate(before_epoch, force) -> how many entries were removed */
Datum
seq_truncate(PG_FUNCTION_ARGS)
{
	uint64		before_epoch = arg_epoch(PG_GETARG_INT64(0));
	bool		force = PG_GETARG_BOOL(1);

	refuse_read_only();
	PG_RETURN_INT64((int64) truncation_before(attach_database(), before_epoch, force));
}

/* seq_truncate() -> how many entries were removed */
Datum
seq_truncate_unneeded(PG_FUNCTION_ARGS)
{
	refuse_read_only();
	PG_RETURN_INT64((int64) truncation_unneeded(attach_database()));
}
