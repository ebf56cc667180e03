/*
 * followers.c
 *	  Who follows this log, and how far he is: the table seq_follower_positions.
 *
 * There are few of them, and each says where he is every few seconds: so the table is
 * read as a whole.  It is of this server and its standbys, and not in a dump.
 *
 * Locks, to the end of the transaction, on the table as an object:
 *	one for each follower, for who changes his row.  Who notes a position does not wait
 *		for it: another one has just done so.
 *	the fence: shared by who notes a position that is new, or less than before;
 *		for himself who truncates.  So he is seen by the one who truncates, or sees what
 *		that has left.  A position that goes forward is nobody's concern.
 */
#include "compat.h"

#include "access/tableam.h"
#include "common/hashfn.h"
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

/* Parts of the object that is locked. */
#define LOCK_FOLLOWER 0
#define LOCK_FENCE 1

static bool
lock_follower(const pg_uuid_t *id, bool wait)
{
	Oid			number = hash_bytes((const unsigned char *) id, sizeof(*id));

	return log_lock_object_for_transaction(log_side_table(log_table_require(), SIDE_FOLLOWERS),
										   number, LOCK_FOLLOWER, ExclusiveLock, wait);
}

static bool
lock_fence(LOCKMODE mode, bool wait)
{
	return log_lock_object_for_transaction(log_side_table(log_table_require(), SIDE_FOLLOWERS),
										   InvalidOid, LOCK_FENCE, mode, wait);
}

bool
followers_fence(bool wait)
{
	return lock_fence(ExclusiveLock, wait);
}

/* Take one out; false if there is none, else *before is what it was. */
static bool
remove_id(const SideAccess *access, Insert *insert, const pg_uuid_t *id,
		  FollowerPosition *before)
{
	TupleTableSlot *slot = table_slot_create(access->rel, NULL);
	TableScanDesc scan = compat_table_beginscan(access->rel, access->snapshot);
	bool		found = false;

	while (!found && table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		read_row(slot, before);
		found = memcmp(&before->id, id, sizeof(*id)) == 0;
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
	FollowerPosition before;
	Insert		insert;
	bool		found;

	self = log_become_side_owner(table, SIDE_FOLLOWERS);
	side_access_begin(&access, SIDE_FOLLOWERS, RowExclusiveLock, ACCESS_LATEST);
	PushActiveSnapshot(access.snapshot);
	insert_begin(&insert, RelationGetRelid(access.rel));
	found = remove_id(&access, &insert, id, &before);
	if (name != NULL && (!found || log_index < before.log_index))
		(void) lock_fence(ShareLock, true);
	if (name != NULL)
		insert_position(&insert, id, name, log_index,
						found ? before.since : GetCurrentTimestamp());
	insert_end(&insert);
	PopActiveSnapshot();
	side_access_end(&access);
	log_become_self(&self);
	return found;
}

bool
followers_note(const pg_uuid_t *id, const char *name, uint64 log_index)
{
	if (!lock_follower(id, false))
		return false;
	(void) change(id, name, log_index);
	return true;
}

bool
followers_remove(const pg_uuid_t *id)
{
	(void) lock_follower(id, true);
	return change(id, NULL, 0);
}
