/*
 * snapshot.c
 *	  seq_snapshot and the view seq_progress.
 */
#include "compat.h"

#include "access/htup_details.h"
#include "access/xlog.h"
#include "catalog/pg_type_d.h"
#include "log/attach.h"
#include "log/owner.h"
#include "log/snapshots.h"
#include "shared/database.h"
#include "sql/result.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

CALVIN_FUNCTION(seq_snapshot);
CALVIN_FUNCTION(seq_progress_info);

/* seq_snapshot() -> log_index of the state that was stored */
Datum
seq_snapshot(PG_FUNCTION_ARGS)
{
	DatabaseSlot *slot;
	PublishedState state;
	const LogTable *table;
	LogIdentity self;

	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("cannot execute seq_snapshot() during recovery"),
				 errhint("Standbys use the snapshots of the primary.")));
	PreventCommandIfReadOnly("seq_snapshot()");
	slot = attach_database();
	database_read(slot, &state);
	if (state.machine.last_applied_index == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("there is no state to take a snapshot of"),
				 errdetail("No entry has been applied yet.")));
	table = log_table_require();
	self = log_become_side_owner(table, SIDE_SNAPSHOTS);
	snapshots_store(table, &state.machine, false);
	log_become_self(&self);
	PG_RETURN_INT64((int64) state.machine.last_applied_index);
}

/*
 * (applied bigint, total bigint, rate double precision, time_left interval):
 * log indexes, entries per second.  No row unless the applier is catching up.
 */
#define PROGRESS_COLUMNS 4

Datum
seq_progress_info(PG_FUNCTION_ARGS)
{
	static const Oid types[PROGRESS_COLUMNS] = {INT8OID, INT8OID, FLOAT8OID, INTERVALOID};
	ReturnSetInfo *rsinfo = result_rows(fcinfo, PROGRESS_COLUMNS, types);
	DatabaseSlot *slot = attach_database();
	PublishedState state;
	DatabaseView view;
	uint64		applied;
	double		seconds;
	double		rate;
	double		usecs_left;
	Interval	left = {0};
	Datum		values[PROGRESS_COLUMNS];
	bool		nulls[PROGRESS_COLUMNS] = {false};

	/* where it is to arrive first, then where it is: it may arrive between */
	database_view(slot, &view);
	database_read(slot, &state);
	applied = state.machine.last_applied_index;
	if (applied >= view.catch_up_to)
		return (Datum) 0;

	seconds = (GetCurrentTimestamp() - view.workers[WORKER_APPLIER].started) / 1000000.0;
	rate = seconds > 0 && applied > view.catch_up_from ?
		(applied - view.catch_up_from) / seconds : 0;
	values[0] = Int64GetDatum((int64) applied);
	values[1] = Int64GetDatum((int64) view.catch_up_to);
	values[2] = Float8GetDatum(rate);
	/* with huge explicit log indexes it can be more than an interval holds */
	usecs_left = rate > 0 ? (view.catch_up_to - applied) / rate * USECS_PER_SEC : 0;
	nulls[3] = rate <= 0 || usecs_left >= (double) PG_INT64_MAX;
	if (!nulls[3])
		left.time = (TimeOffset) usecs_left;
	values[3] = IntervalPGetDatum(&left);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	return (Datum) 0;
}
