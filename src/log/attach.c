/*
 * attach.c
 *	  From a session to the shared memory of its database's log.
 *
 * A slot is there from the commit of CREATE EXTENSION on.  It may still be
 * that of an earlier seq_log, dropped a moment ago, until that one's applier
 * has noticed; and on a standby it comes when the launcher has found the
 * extension.  Both pass by themselves, so they are waited for.
 */
#include "compat.h"

#include "log/attach.h"
#include "log/identity.h"
#include "log/table.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "shared/clock.h"
#include "shared/database.h"
#include "shared/requests.h"
#include "shared/waits.h"

#define PATIENCE_MS 10000

/*
 * The state of a database that was dropped may still be there for another one
 * with its OIDs, until the applier has noticed.
 */
static bool
speaks_of_log(DatabaseSlot *slot)
{
	static uint64 known[2] = {0, 0}; /* the log's identity, as last seen */
	uint64		bound[2];
	pg_uuid_t	identity;

	database_get_identity(slot, bound);
	if ((bound[0] == 0 && bound[1] == 0) ||
		memcmp(bound, known, sizeof(bound)) == 0)
		return true;
	if (!identity_now(&identity))
		return false;
	memcpy(known, &identity, sizeof(known));
	return memcmp(bound, known, sizeof(bound)) == 0;
}

static void
report_absent(const LogTable *table, bool full)
{
	if (full)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("no calvin_seq applier for this database"),
				 errdetail("All %d places are taken by other databases.",
						   Calvin->max_databases),
				 errhint("Raise calvin_seq.max_databases (now %d) and restart the server.",
						 Calvin->max_databases)));
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("no calvin_seq applier for this database yet"),
			 table->created_here ?
			 errdetail("It is started when the transaction with CREATE EXTENSION has committed.") :
			 errdetail("It did not get ready within %d seconds.", PATIENCE_MS / 1000),
			 errhint("Try again in a moment; if this stays, see the server log.")));
}

DatabaseSlot *
attach_database(void)
{
	const LogTable *table;
	int64		until;
	DatabaseSlot *slot;
	bool		full;

	shmem_require();
	table = log_table_require();
	slot = database_serving(table->log, &full);
	if (slot != NULL && speaks_of_log(slot))
		return slot;

	if (!table->created_here)
		requests_post_mine();
	until = clock_ms() + PATIENCE_MS;
	ConditionVariablePrepareToSleep(&Calvin->databases_changed);
	for (;;)
	{
		long		left;

		slot = database_serving(table->log, &full);
		if (slot != NULL && speaks_of_log(slot))
			break;
		left = (long) (until - clock_ms());
		if (full || table->created_here || left <= 0)
			report_absent(table, full);
		(void) ConditionVariableTimedSleep(&Calvin->databases_changed, left,
										   wait_event(WAIT_ATTACH));
	}
	ConditionVariableCancelSleep();
	return slot;
}
