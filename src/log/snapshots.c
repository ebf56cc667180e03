/*
 * snapshots.c
 *	  Snapshots of the state machine: the table seq_snapshots.
 *
 * A snapshot saves the applier reading the log from its start after a
 * restart, no more: the log alone determines the state.  The primary's
 * applier stores them; standbys get them with the log.
 *
 * The base is the exception: it stands for the entries that were truncated,
 * and without it nobody knows the state that the log begins with.  There is
 * one at most, and every entry of the log is behind it.
 */
#include "compat.h"

#include "access/genam.h"
#include "access/stratnum.h"
#include "access/tableam.h"
#include "log/identity.h"
#include "log/insert.h"
#include "log/locks.h"
#include "log/owner.h"
#include "log/reader.h"
#include "log/remove.h"
#include "log/snapshots.h"
#include "log/step.h"
#include "shared/wakeup.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* A walk over the snapshots, newest first. */
typedef struct SnapshotWalk
{
	TupleTableSlot *slot;
	IndexScanDesc scan;
} SnapshotWalk;

static void
walk_begin(SnapshotWalk *walk, Relation rel, Relation by_index, Snapshot snapshot)
{
	ScanKeyData key;

	walk->slot = table_slot_create(rel, NULL);
	walk->scan = compat_index_beginscan(rel, by_index, snapshot, 1);
	ScanKeyInit(&key, 1, BTGreaterStrategyNumber, F_INT8GT, Int64GetDatum(0));
	index_rescan(walk->scan, &key, 1, NULL, 0);
}

static bool
walk_next(SnapshotWalk *walk)
{
	if (!index_getnext_slot(walk->scan, BackwardScanDirection, walk->slot))
		return false;
	slot_getsomeattrs(walk->slot, SNAPSHOT_ATTR_IDENTITY);
	return true;
}

static void
walk_end(SnapshotWalk *walk)
{
	index_endscan(walk->scan);
	ExecDropSingleTupleTableSlot(walk->slot);
}

static inline uint64
walk_index(const SnapshotWalk *walk)
{
	return (uint64) DatumGetInt64(walk->slot->tts_values[SNAPSHOT_ATTR_INDEX - 1]);
}

static inline bool
walk_is_base(const SnapshotWalk *walk)
{
	return !walk->slot->tts_isnull[SNAPSHOT_ATTR_BASE - 1] &&
		DatumGetBool(walk->slot->tts_values[SNAPSHOT_ATTR_BASE - 1]);
}

/* Two columns as MachineState has them, 0 if they are null. */
static uint64
read_last_entry(const TupleTableSlot *slot)
{
	if (slot->tts_isnull[SNAPSHOT_ATTR_LENGTH - 1] ||
		slot->tts_isnull[SNAPSHOT_ATTR_CRC - 1])
		return 0;
	return (uint64) DatumGetInt64(slot->tts_values[SNAPSHOT_ATTR_LENGTH - 1]) << 32 |
		(uint64) (uint32) DatumGetInt64(slot->tts_values[SNAPSHOT_ATTR_CRC - 1]);
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
	state->last_entry = read_last_entry(slot);
	return true;
}

/* A base that is restored: it has to fit the log, and the applier waits for it. */
static void
accept_base(int64 log_index, int32 version)
{
	LogAccess	access;
	int64		first;

	log_access_begin(&access, 0, ACCESS_SELF);
	first = log_first_index(&access);
	log_access_end(&access);
	if (version != MACHINE_DIGEST_VERSION)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("the base snapshot is not of digest version %d",
						MACHINE_DIGEST_VERSION),
				 errdetail("The state that the log begins with could not be continued.")));
	if (first > 0 && first <= log_index)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the base snapshot is of log_index " INT64_FORMAT ", but the log begins at " INT64_FORMAT,
						log_index, first),
				 errdetail("It stands for entries that were truncated from the beginning of the log."),
				 errhint("Restore log and snapshots of one dump into an empty log.")));
	wakeup_applier_at_commit();
}

bool
snapshots_accept_restored(int64 log_index, bool is_base, int32 version)
{
	SideAccess	access;
	SnapshotWalk walk;
	bool		exists = false;

	/* whoever else stores one shall have committed, or wait */
	snapshots_lock(log_table_require());
	side_access_begin(&access, SIDE_SNAPSHOTS, AccessShareLock, ACCESS_SELF);
	walk_begin(&walk, access.rel, access.by_key, access.snapshot);
	while (!exists && walk_next(&walk))
		exists = walk_index(&walk) == (uint64) log_index;
	walk_end(&walk);
	side_access_end(&access);
	if (!exists && is_base)
		accept_base(log_index, version);
	return !exists;
}

/*
 * Is a snapshot one of this log?  It has to name the identity that the log has,
 * if any, and the entry that is in the log.
 */
static bool
is_of_log(const LogAccess *access, const TupleTableSlot *slot,
		  const MachineState *state)
{
	pg_uuid_t	identity;
	bool		unnamed = slot->tts_isnull[SNAPSHOT_ATTR_IDENTITY - 1];

	if (slot->tts_isnull[SNAPSHOT_ATTR_LENGTH - 1] ||
		slot->tts_isnull[SNAPSHOT_ATTR_CRC - 1])
		return false;
	if (!identity_of_log(access, &identity))
	{
		if (!unnamed)
			return false;
	}
	else if (!unnamed &&
			 memcmp(DatumGetUUIDP(slot->tts_values[SNAPSHOT_ATTR_IDENTITY - 1]),
					&identity, sizeof(identity)) != 0)
		return false;
	return log_has_entry(access, state->last_applied_index, state->last_entry);
}

bool
snapshots_latest(const LogAccess *access, uint64 through, MachineState *state)
{
	SnapshotWalk walk;
	bool		found = false;

	walk_begin(&walk, access->snapshots, access->snapshots_by_index,
			   access->snapshot);
	while (!found && walk_next(&walk))
	{
		MachineState candidate;

		if (walk_index(&walk) <= through &&
			read_state(walk.slot, &candidate) &&
			(walk_is_base(&walk) || is_of_log(access, walk.slot, &candidate)))
		{
			*state = candidate;
			found = true;
		}
	}
	walk_end(&walk);
	return found;
}

bool
snapshots_base(const LogAccess *access, MachineState *state)
{
	SnapshotWalk walk;
	bool		found = false;

	walk_begin(&walk, access->snapshots, access->snapshots_by_index,
			   access->snapshot);
	while (!found && walk_next(&walk))
	{
		if (!walk_is_base(&walk))
			continue;
		found = true;
		if (!read_state(walk.slot, state))
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("the base snapshot at log_index " UINT64_FORMAT " cannot be used",
							walk_index(&walk)),
					 errdetail("Its digest is not one of version %d.",
							   MACHINE_DIGEST_VERSION)));
	}
	walk_end(&walk);
	return found;
}

void
snapshots_begin(const LogAccess *access, MachineState *state)
{
	if (!snapshots_base(access, state))
		machine_init(state);
}

/*
 * Remove the row a walk is at; false if "nowait" and somebody has it locked, or if
 * a trigger keeps it in.
 */
static bool
remove_at(Insert *insert, SnapshotWalk *walk, bool nowait)
{
	if (nowait)
		return remove_row_nowait(insert, walk->slot, GetActiveSnapshot()) == REMOVAL_DONE;
	switch (remove_row(insert, walk->slot, GetActiveSnapshot()))
	{
		case REMOVAL_DONE:
			return true;
		case REMOVAL_KEPT:
			return false;
		case REMOVAL_GONE:
			break;
	}
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("a snapshot of the state was changed by another transaction"),
			 errhint("Run the transaction again.")));
	pg_unreachable();
}

/*
 * Remove snapshots up to a log_index and, of those behind it, all but the
 * newest, but not the base unless it is among the first; true if "log_index"
 * is among those that stay.  With "nowait" so does, until the next time, what
 * somebody has locked.
 */
static bool
prune(Insert *insert, uint64 through, uint64 log_index, bool nowait)
{
	SideAccess	access;
	SnapshotWalk walk;
	int			kept = 0;
	bool		exists = false;

	/* the caller has it locked, to the end of the transaction */
	side_access_begin(&access, SIDE_SNAPSHOTS, AccessShareLock, ACCESS_SELF);
	walk_begin(&walk, access.rel, access.by_key, access.snapshot);
	while (walk_next(&walk))
	{
		bool		goes;

		if (walk_index(&walk) <= through)
			goes = true;
		else
			/* one place is for the snapshot to be stored */
			goes = !walk_is_base(&walk) && ++kept >= SNAPSHOTS_KEPT;
		if (goes)
			goes = remove_at(insert, &walk, nowait);
		if (!goes && walk_index(&walk) == log_index)
			exists = true;
	}
	walk_end(&walk);
	side_access_end(&access);
	return exists;
}

static void
insert_state(Insert *insert, const MachineState *state, bool base)
{
	TupleTableSlot *slot = insert->slot;
	Datum	   *values = slot->tts_values;
	pg_uuid_t	identity;
	bool		identified = identity_now(&identity);

	values[SNAPSHOT_ATTR_INDEX - 1] =
		Int64GetDatum((int64) state->last_applied_index);
	values[SNAPSHOT_ATTR_EPOCH - 1] =
		Int64GetDatum((int64) state->last_applied_epoch);
	values[SNAPSHOT_ATTR_DIGEST - 1] =
		CStringGetTextDatum(psprintf("%016llx", (unsigned long long) state->digest));
	values[SNAPSHOT_ATTR_VERSION - 1] = Int32GetDatum(MACHINE_DIGEST_VERSION);
	values[SNAPSHOT_ATTR_TAKEN_AT - 1] =
		TimestampTzGetDatum(GetCurrentTimestamp());
	values[SNAPSHOT_ATTR_BASE - 1] = BoolGetDatum(base);
	values[SNAPSHOT_ATTR_LENGTH - 1] = Int64GetDatum((int64) (state->last_entry >> 32));
	values[SNAPSHOT_ATTR_CRC - 1] = Int64GetDatum((int64) (uint32) state->last_entry);
	values[SNAPSHOT_ATTR_IDENTITY - 1] = UUIDPGetDatum(&identity);
	for (int i = 0; i < SNAPSHOT_ATTR_IDENTITY; i++)
		slot->tts_isnull[i] = false;
	slot->tts_isnull[SNAPSHOT_ATTR_IDENTITY - 1] = !identified;
	slot->tts_isnull[SNAPSHOT_ATTR_EPOCH - 1] =
		state->last_applied_epoch == MACHINE_NO_EPOCH;
	/* without any other one the log is read from its beginning, but for the base */
	if (!insert_row(insert) && base)
		ereport(ERROR,
				(errcode(ERRCODE_TRIGGERED_ACTION_EXCEPTION),
				 errmsg("a trigger on %s keeps the base snapshot out", SNAPSHOTS_NAME)));
}

void
snapshots_lock(const LogTable *table)
{
	log_lock_table_for_transaction(log_side_table(table, SIDE_SNAPSHOTS),
								   ShareRowExclusiveLock);
}

void
snapshots_store(const LogTable *table, const MachineState *state, bool nowait)
{
	Oid			relid = log_side_table(table, SIDE_SNAPSHOTS);
	Insert		insert;

	/* against itself: two at a time would remove the same rows */
	if (!nowait)
		snapshots_lock(table);
	else if (!log_try_lock_table_for_transaction(relid, ShareRowExclusiveLock))
		return;
	PushActiveSnapshot(GetLatestSnapshot());
	insert_begin(&insert, relid);
	if (!prune(&insert, 0, state->last_applied_index, nowait))
		insert_state(&insert, state, false);
	insert_end(&insert);
	PopActiveSnapshot();
}

void
snapshots_rebase(const LogTable *table, const MachineState *state)
{
	LogIdentity self = log_become_side_owner(table, SIDE_SNAPSHOTS);
	Insert		insert;

	PushActiveSnapshot(GetLatestSnapshot());
	insert_begin(&insert, log_side_table(table, SIDE_SNAPSHOTS));
	(void) prune(&insert, state->last_applied_index, 0, false);
	insert_state(&insert, state, true);
	insert_end(&insert);
	PopActiveSnapshot();
	log_become_self(&self);
}
