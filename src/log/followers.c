/*
 * followers.c
 *	  Who follows this log, and how far he is: the table seq_follower_positions.
 *
 * There are few of them, and each says where he is every few seconds: so one at a time
 * changes the table, and it is read as a whole.  It is of this server and its standbys,
 * and not in a dump.
 */
#include "compat.h"

#include "access/tableam.h"
#include "log/access.h"
#include "log/followers.h"
#include "log/insert.h"
#include "log/locks.h"
#include "log/memory.h"
#include "log/owner.h"
#include "log/remove.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

static void
read_row(TupleTableSlot *slot, FollowerPosition *position)
{
	const Datum *values = slot->tts_values;

	slot_getallattrs(slot);
	position->id = *DatumGetUUIDP(values[FOLLOWER_ATTR_ID - 1]);
	position->name = TextDatumGetCString(values[FOLLOWER_ATTR_NAME - 1]);
	position->log_index = (uint64) DatumGetInt64(values[FOLLOWER_ATTR_INDEX - 1]);
	position->seen_at = DatumGetTimestampTz(values[FOLLOWER_ATTR_SEEN_AT - 1]);
	position->since = DatumGetTimestampTz(values[FOLLOWER_ATTR_SINCE - 1]);
}

int
followers_list(FollowerPosition **positions)
{
	SideAccess	access;
	TableScanDesc scan;
	TupleTableSlot *slot;
	void	   *list = NULL;
	Size		size = 0;
	int			n = 0;

	side_access_begin(&access, SIDE_FOLLOWERS, AccessShareLock, ACCESS_LATEST);
	slot = table_slot_create(access.rel, NULL);
	scan = compat_table_beginscan(access.rel, access.snapshot);
	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		CHECK_FOR_INTERRUPTS();
		memory_grow(NULL, &list, &size, (Size) n + 1, sizeof(FollowerPosition));
		read_row(slot, &((FollowerPosition *) list)[n++]);
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	side_access_end(&access);
	*positions = list;
	return n;
}

/* Take one out; false if there is none, else "since" is when it came. */
static bool
remove_id(const SideAccess *access, Insert *insert, const pg_uuid_t *id,
		  TimestampTz *since)
{
	TupleTableSlot *slot = table_slot_create(access->rel, NULL);
	TableScanDesc scan = compat_table_beginscan(access->rel, access->snapshot);
	bool		found = false;

	while (!found && table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		FollowerPosition position;

		read_row(slot, &position);
		found = memcmp(&position.id, id, sizeof(*id)) == 0;
		*since = position.since;
	}
	if (found && remove_row(insert, slot, access->snapshot) == REMOVAL_GONE)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("a row of %s was changed by another transaction", FOLLOWERS_NAME),
				 errhint("Run the transaction again.")));
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	return found;
}

static void
insert_position(Insert *insert, const pg_uuid_t *id, const char *name, uint64 log_index,
				TimestampTz since)
{
	Datum	   *values = insert->slot->tts_values;

	values[FOLLOWER_ATTR_ID - 1] = UUIDPGetDatum(id);
	values[FOLLOWER_ATTR_NAME - 1] = CStringGetTextDatum(name);
	values[FOLLOWER_ATTR_INDEX - 1] = Int64GetDatum((int64) log_index);
	values[FOLLOWER_ATTR_SEEN_AT - 1] = TimestampTzGetDatum(GetCurrentTimestamp());
	values[FOLLOWER_ATTR_SINCE - 1] = TimestampTzGetDatum(since);
	for (int i = 0; i < FOLLOWER_ATTRS; i++)
		insert->slot->tts_isnull[i] = false;
	(void) insert_row(insert);
}

/* A position in place of the one there may be, or none with "name" NULL. */
static bool
change(const pg_uuid_t *id, const char *name, uint64 log_index)
{
	const LogTable *table = log_table_require();
	LogIdentity self;
	SideAccess	access;
	TimestampTz since;
	Insert		insert;
	bool		found;

	log_lock_object_for_transaction(log_side_table(table, SIDE_FOLLOWERS), InvalidOid, 0,
									ExclusiveLock, true);
	self = log_become_side_owner(table, SIDE_FOLLOWERS);
	side_access_begin(&access, SIDE_FOLLOWERS, RowExclusiveLock, ACCESS_LATEST);
	PushActiveSnapshot(access.snapshot);
	insert_begin(&insert, RelationGetRelid(access.rel));
	found = remove_id(&access, &insert, id, &since);
	if (name != NULL)
		insert_position(&insert, id, name, log_index,
						found ? since : GetCurrentTimestamp());
	insert_end(&insert);
	PopActiveSnapshot();
	side_access_end(&access);
	log_become_self(&self);
	return found;
}

void
followers_note(const pg_uuid_t *id, const char *name, uint64 log_index)
{
	(void) change(id, name, log_index);
}

bool
followers_remove(const pg_uuid_t *id)
{
	return change(id, NULL, 0);
}
