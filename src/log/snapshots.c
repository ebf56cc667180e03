/*
 * snapshots.c
 *	  Snapshots of the state machine: the table seq_snapshots.
 *
 * A snapshot saves the applier reading the log from its start after a
 * restart, no more: the log alone determines the state.  The primary's
 * applier stores them; standbys get them with the log.
 */
#include "compat.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "commands/trigger.h"
#include "log/insert.h"
#include "log/reader.h"
#include "log/snapshots.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

CALVIN_FUNCTION(seq_snapshots_before_insert);

/* A walk over the snapshots, newest first. */
typedef struct SnapshotWalk
{
	Relation	rel;
	Relation	index;
	TupleTableSlot *slot;
	IndexScanDesc scan;
} SnapshotWalk;

static void
walk_begin(SnapshotWalk *walk, const LogTable *table, Snapshot snapshot)
{
	ScanKeyData key;
	Oid			primary_key;

	walk->rel = log_open_side_table(table, SIDE_SNAPSHOTS, AccessShareLock,
									&primary_key);
	walk->index = index_open(primary_key, AccessShareLock);
	walk->slot = table_slot_create(walk->rel, NULL);
	walk->scan = log_begin_scan(walk->rel, walk->index, snapshot, 1);
	ScanKeyInit(&key, 1, BTGreaterStrategyNumber, F_INT8GT, Int64GetDatum(0));
	index_rescan(walk->scan, &key, 1, NULL, 0);
}

static bool
walk_next(SnapshotWalk *walk)
{
	if (!index_getnext_slot(walk->scan, BackwardScanDirection, walk->slot))
		return false;
	slot_getsomeattrs(walk->slot, SNAPSHOT_ATTR_TAKEN_AT);
	return true;
}

static void
walk_end(SnapshotWalk *walk)
{
	index_endscan(walk->scan);
	ExecDropSingleTupleTableSlot(walk->slot);
	index_close(walk->index, AccessShareLock);
	table_close(walk->rel, AccessShareLock);
}

static bool
is_in_log(const LogTable *table, Snapshot snapshot, int64 log_index)
{
	LogReader	reader;
	bool		found;

	log_reader_begin_by_index(&reader, table, snapshot, log_index, log_index);
	found = log_reader_skip(&reader);
	log_reader_end(&reader);
	return found;
}

/* The state that a row speaks of; false if it is not for us. */
static bool
read_state(const TupleTableSlot *slot, MachineState *state)
{
	char	   *digest;
	char	   *end;

	if (DatumGetInt32(slot->tts_values[SNAPSHOT_ATTR_VERSION - 1]) !=
		MACHINE_DIGEST_VERSION)
		return false;
	digest = TextDatumGetCString(slot->tts_values[SNAPSHOT_ATTR_DIGEST - 1]);
	state->digest = strtoull(digest, &end, 16);
	if (*end != '\0' || end == digest)
		return false;
	state->last_applied_index =
		(uint64) DatumGetInt64(slot->tts_values[SNAPSHOT_ATTR_INDEX - 1]);
	state->last_applied_epoch = slot->tts_isnull[SNAPSHOT_ATTR_EPOCH - 1] ?
		MACHINE_NO_EPOCH :
		(uint64) DatumGetInt64(slot->tts_values[SNAPSHOT_ATTR_EPOCH - 1]);
	return true;
}

/*
 * BEFORE INSERT FOR EACH ROW on seq_snapshots: while a dump is restored, the
 * applier may have stored a snapshot of the same entry already.  The log
 * determines the state, so one is as good as the other.
 */
Datum
seq_snapshots_before_insert(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	const LogTable *table;
	SnapshotWalk walk;
	bool		isnull;
	Datum		log_index;
	bool		exists = false;

	if (!CALLED_AS_TRIGGER(fcinfo) ||
		!TRIGGER_FIRED_BEFORE(trigger->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigger->tg_event) ||
		!TRIGGER_FIRED_BY_INSERT(trigger->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("seq_snapshots_before_insert() was not called by its trigger")));
	table = log_table_require();
	log_index = heap_getattr(trigger->tg_trigtuple, SNAPSHOT_ATTR_INDEX,
							 RelationGetDescr(trigger->tg_relation), &isnull);
	if (isnull || RelationGetRelid(trigger->tg_relation) !=
		log_side_table(table, SIDE_SNAPSHOTS))
		return PointerGetDatum(trigger->tg_trigtuple);

	/* whoever else stores one shall have committed, or wait */
	LockRelationOid(RelationGetRelid(trigger->tg_relation), ShareRowExclusiveLock);
	walk_begin(&walk, table, SnapshotSelf);
	while (!exists && walk_next(&walk))
		exists = DatumGetInt64(walk.slot->tts_values[SNAPSHOT_ATTR_INDEX - 1]) ==
			DatumGetInt64(log_index);
	walk_end(&walk);
	return PointerGetDatum(exists ? NULL : trigger->tg_trigtuple);
}

bool
snapshots_latest(const LogTable *table, Snapshot snapshot, MachineState *state)
{
	SnapshotWalk walk;
	bool		found = false;

	walk_begin(&walk, table, snapshot);
	while (!found && walk_next(&walk))
	{
		MachineState candidate;

		if (read_state(walk.slot, &candidate) &&
			is_in_log(table, snapshot, (int64) candidate.last_applied_index))
		{
			*state = candidate;
			found = true;
		}
	}
	walk_end(&walk);
	return found;
}

/* Remove all but the newest ones; true if "log_index" is among those. */
static bool
prune(const LogTable *table, int64 log_index)
{
	SnapshotWalk walk;
	int			kept = 0;
	bool		exists = false;

	walk_begin(&walk, table, SnapshotSelf);
	while (walk_next(&walk))
	{
		if (DatumGetInt64(walk.slot->tts_values[SNAPSHOT_ATTR_INDEX - 1]) == log_index)
			exists = true;
		/* one place is for the snapshot to be stored */
		if (++kept >= SNAPSHOTS_KEPT)
			simple_table_tuple_delete(walk.rel, &walk.slot->tts_tid,
									  GetActiveSnapshot());
	}
	walk_end(&walk);
	return exists;
}

void
snapshots_store(const LogTable *table, const MachineState *state, bool nowait)
{
	Insert		insert;
	TupleTableSlot *slot;
	Oid			relid = log_side_table(table, SIDE_SNAPSHOTS);

	/* against itself: two at a time would remove the same rows */
	if (!nowait)
		LockRelationOid(relid, ShareRowExclusiveLock);
	else if (!ConditionalLockRelationOid(relid, ShareRowExclusiveLock))
		return;
	PushActiveSnapshot(GetLatestSnapshot());
	if (!prune(table, (int64) state->last_applied_index))
	{
		insert_begin(&insert, relid, false);
		slot = insert.slot;
		slot->tts_values[SNAPSHOT_ATTR_INDEX - 1] =
			Int64GetDatum((int64) state->last_applied_index);
		slot->tts_values[SNAPSHOT_ATTR_EPOCH - 1] =
			Int64GetDatum((int64) state->last_applied_epoch);
		slot->tts_values[SNAPSHOT_ATTR_DIGEST - 1] =
			CStringGetTextDatum(psprintf("%016llx", (unsigned long long) state->digest));
		slot->tts_values[SNAPSHOT_ATTR_VERSION - 1] =
			Int32GetDatum(MACHINE_DIGEST_VERSION);
		slot->tts_values[SNAPSHOT_ATTR_TAKEN_AT - 1] =
			TimestampTzGetDatum(GetCurrentTimestamp());
		for (int i = 0; i < SNAPSHOT_ATTR_TAKEN_AT; i++)
			slot->tts_isnull[i] = false;
		slot->tts_isnull[SNAPSHOT_ATTR_EPOCH - 1] =
			state->last_applied_epoch == MACHINE_NO_EPOCH;
		(void) insert_row(&insert);
		insert_end(&insert);
	}
	PopActiveSnapshot();
}
