/*
 * submission.c
 *	  Submissions of this transaction, on their way to the inbox.
 */
#include "compat.h"

#include "access/xlog.h"
#include "log/submission.h"

void
submission_begin(const char *function)
{
	shmem_require();
	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("cannot execute %s during recovery", function),
				 errhint("Submit on the primary.")));
	PreventCommandIfReadOnly(function);
}

int64
submission_add(const uint8 *tx_class, Size size, uint64 tenant_id, bool counted)
{
	return 0;
}
