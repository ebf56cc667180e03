/*
 * following.c
 *	  Whether this log is another server's, and whose: the table seq_following.
 *
 * It has one row, or none.  With one, nothing may be appended but what the source
 * has, under the same log_index.  Whoever appends finds that out under the append
 * lock, which is held by whoever changes the row; in shared memory if calvin_seq
 * is preloaded and somebody has looked at the table before (shared/follower.c).
 */
#include "compat.h"

#include "access/tableam.h"
#include "log/access.h"
#include "log/following.h"
#include "log/hint.h"
#include "log/insert.h"
#include "log/owner.h"
#include "log/remove.h"
#include "replication/logicalworker.h"
#include "shared/database.h"
#include "shared/follower.h"
#include "shared/pause.h"
#include "shared/wakeup.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

static FollowingMode
mode_of(const char *name)
{
	if (strcmp(name, FOLLOWING_MODE_PULL) == 0)
		return FOLLOWING_PULL;
	return strcmp(name, FOLLOWING_MODE_FED) == 0 ? FOLLOWING_FED : FOLLOWING_RESTORED;
}

static const char *
name_of(FollowingMode mode)
{
	switch (mode)
	{
		case FOLLOWING_PULL:
			return FOLLOWING_MODE_PULL;
		case FOLLOWING_FED:
			return FOLLOWING_MODE_FED;
		case FOLLOWING_RESTORED:
			break;
	}
	return FOLLOWING_MODE_RESTORED;
}

static void
read_columns(TupleTableSlot *slot, Following *following)
{
	const Datum *values = slot->tts_values;
	const bool *nulls = slot->tts_isnull;

	slot_getallattrs(slot);
	following->id = *DatumGetUUIDP(values[FOLLOWING_ATTR_ID - 1]);
	following->mode = mode_of(TextDatumGetCString(values[FOLLOWING_ATTR_MODE - 1]));
	following->source = TextDatumGetCString(values[FOLLOWING_ATTR_SOURCE - 1]);
	following->conninfo = nulls[FOLLOWING_ATTR_CONNINFO - 1] ? NULL :
		TextDatumGetCString(values[FOLLOWING_ATTR_CONNINFO - 1]);
	following->since = DatumGetTimestampTz(values[FOLLOWING_ATTR_SINCE - 1]);
	following->first_base = nulls[FOLLOWING_ATTR_FIRST_BASE - 1] ? 0 :
		DatumGetInt64(values[FOLLOWING_ATTR_FIRST_BASE - 1]);
}

static bool
read_row(const SideAccess *access, Following *following, ItemPointer place)
{
	TupleTableSlot *slot = table_slot_create(access->rel, NULL);
	TableScanDesc scan = compat_table_beginscan(access->rel, access->snapshot);
	bool		found = table_scan_getnextslot(scan, ForwardScanDirection, slot);

	if (found && following != NULL)
		read_columns(slot, following);
	if (found && place != NULL)
		*place = slot->tts_tid;
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	return found;
}

bool
following_find(Following *following)
{
	SideAccess	access;
	bool		found;

	side_access_begin(&access, SIDE_FOLLOWING, AccessShareLock, ACCESS_LATEST);
	found = read_row(&access, following, NULL);
	side_access_end(&access);
	return found;
}

static void
remove_at(Insert *insert, const ItemPointerData *place, Snapshot snapshot)
{
	TupleTableSlot *row = table_slot_create(insert->rel, NULL);

	row->tts_tid = *place;
	if (remove_row(insert, row, snapshot) != REMOVAL_DONE)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("%s was changed by another transaction", FOLLOWING_NAME),
				 errhint("Run the transaction again.")));
	ExecDropSingleTupleTableSlot(row);
}

/* In place of the row there may be, if it is not NULL; false: there was none. */
static bool
change(const Following *following)
{
	LogIdentity self = log_become_side_owner(log_table_require(), SIDE_FOLLOWING);
	SideAccess	access;
	ItemPointerData place;
	Insert		insert;
	Datum	   *values;
	bool		found;

	side_access_begin(&access, SIDE_FOLLOWING, RowExclusiveLock, ACCESS_LATEST);
	found = read_row(&access, NULL, &place);
	PushActiveSnapshot(access.snapshot);
	/* nothing of others' is to have a say in whether this log goes its own way */
	insert_begin_known(&insert, RelationGetRelid(access.rel), true);
	insert.direct_removal = true;
	if (found)
		remove_at(&insert, &place, access.snapshot);
	if (following != NULL)
	{
		values = insert.slot->tts_values;
		values[FOLLOWING_ATTR_ONE - 1] = BoolGetDatum(true);
		values[FOLLOWING_ATTR_ID - 1] = UUIDPGetDatum(&following->id);
		values[FOLLOWING_ATTR_MODE - 1] = CStringGetTextDatum(name_of(following->mode));
		values[FOLLOWING_ATTR_SOURCE - 1] = CStringGetTextDatum(following->source);
		if (following->conninfo != NULL)
			values[FOLLOWING_ATTR_CONNINFO - 1] = CStringGetTextDatum(following->conninfo);
		values[FOLLOWING_ATTR_SINCE - 1] = TimestampTzGetDatum(following->since);
		values[FOLLOWING_ATTR_FIRST_BASE - 1] = Int64GetDatum(following->first_base);
		for (int i = 0; i < FOLLOWING_ATTRS; i++)
			insert.slot->tts_isnull[i] = false;
		insert.slot->tts_isnull[FOLLOWING_ATTR_CONNINFO - 1] = following->conninfo == NULL;
		(void) insert_row(&insert);
	}
	insert_end(&insert);
	PopActiveSnapshot();
	side_access_end(&access);
	log_become_self(&self);
	wakeup_follower_at_commit();
	return found;
}

void
following_put(const Following *following)
{
	(void) change(following);
}

bool
following_remove(void)
{
	bool		found = change(NULL);

	CommandCounterIncrement();
	return found;
}

pg_noreturn static void
report(const Following *following, const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
			 errmsg("%s: this database follows %s", what, following->source),
			 following->mode == FOLLOWING_RESTORED ?
			 errdetail("It was restored from the dump of a follower, and nobody has said whether it is to follow as well.") :
			 errdetail("Its log is a copy of the one there, and nothing else."),
			 following->mode == FOLLOWING_RESTORED ?
			 errhint_for_role("Call seq_follow() to have it follow, or seq_unfollow() to have a log of its own that begins as that one.") :
			 errhint_for_role("Do it there, or end it here by seq_unfollow().")));
}

/* Is there a row?  What is known of that is in shared memory, if anything. */
static bool
follows(DatabaseSlot *slot, Following *following)
{
	uint64		word = 0;

	if (slot != NULL && follower_gate(slot, &word) == GATE_OPEN)
		return false;
	if (following_find(following))
		return true;
	PAUSE_POINT("following: looked");
	if (slot != NULL)
		follower_found_open(slot, word);
	return false;
}

bool
following_follows(Following *following)
{
	return follows(database_mine(), following);
}

void
following_refuse_row(bool is_explicit)
{
	Following	following;

	if (!follows(database_mine(), &following))
		return;
	/* a restore under way, or logical replication */
	if (is_explicit && (following.mode == FOLLOWING_RESTORED ||
						(following.mode == FOLLOWING_FED && IsLogicalWorker())))
		return;
	report(&following, "cannot append to the log");
}

void
following_refuse(const char *function)
{
	Following	following;

	if (follows(database_mine(), &following))
		report(&following, psprintf("cannot execute %s", function));
}

void
following_refuse_submission(DatabaseSlot *slot)
{
	Following	following;
	uint64		word;
	FollowerGate gate = follower_gate(slot, &word);

	if (gate == GATE_OPEN)
		return;
	if (follows(slot, &following))
		report(&following, "cannot submit");
	if (gate == GATE_CLOSING)
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("cannot submit: this database is about to follow another one"),
				 errdetail("Somebody has called seq_follow(), and not committed yet.")));
}
