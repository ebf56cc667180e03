/*
 * sequence.c
 *	  From the inbox into the log: what the sequencer does.
 */
#include "compat.h"

#include "access/xact.h"
#include "log/access.h"
#include "log/sequence.h"
#include "shared/database.h"

SequencingNext
sequence_some(struct DatabaseSlot *slot, long *wait_ms)
{
	LogAccess	access;
	bool		ours;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	ours = log_access_try_begin(&access, 0, ACCESS_LATEST);
	if (ours)
	{
		ours = database_bind(slot, access.table.log);
		log_access_end(&access);
	}
	CommitTransactionCommand();
	return ours ? SEQUENCE_IDLE : SEQUENCE_GONE;
}

void
sequence_forget(void)
{
}
