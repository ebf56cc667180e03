/*
 * identity.c
 *	  Which log this is: the table seq_identity.
 *
 * It has one row, or none as long as nothing was appended but rows with explicit
 * log_indexes, as a restore and logical replication have them: such a log is
 * somebody else's, and its identity comes with a restore, in whatever order tables
 * are restored.  The first append to a log without a row gives it a new one, even if
 * an identity was restored: that was a copy without its log, which goes its own
 * way from here.
 */
#include "compat.h"

#include "access/tableam.h"
#include "access/xact.h"
#include "log/identity.h"
#include "log/insert.h"
#include "log/owner.h"
#include "log/remove.h"
#include "shared/wakeup.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/snapmgr.h"

/* The log that is known to have an identity, which was committed before. */
static Oid	identified = InvalidOid;

/* The executor removes the row there was, for another one. */
static bool replacing = false;

bool
identity_is_replacing(void)
{
	return replacing;
}

static void
remove_old(Insert *insert, TupleTableSlot *slot, Snapshot snapshot)
{
	volatile Removal removal = REMOVAL_GONE;

	replacing = true;
	PG_TRY();
	{
		removal = remove_row(insert, slot, snapshot);
	}
	PG_FINALLY();
	{
		replacing = false;
	}
	PG_END_TRY();
	if (removal != REMOVAL_DONE)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the identity of another log could not be removed"),
				 errdetail("A trigger on %s, or another transaction, has kept it there.",
						   IDENTITY_NAME)));
}

/* With "remove", take it away. */
static bool
read_row(Relation rel, Snapshot snapshot, pg_uuid_t *identity, Insert *remove)
{
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	TableScanDesc scan = compat_table_beginscan(rel, snapshot);
	bool		found = table_scan_getnextslot(scan, ForwardScanDirection, slot);

	memset(identity, 0, sizeof(*identity));
	if (found)
	{
		bool		isnull;
		Datum		value = slot_getattr(slot, IDENTITY_ATTR_IDENTITY, &isnull);

		if (!isnull)
			*identity = *DatumGetUUIDP(value);
		if (remove != NULL)
			remove_old(remove, slot, snapshot);
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	return found;
}

bool
identity_of_log(const LogAccess *access, pg_uuid_t *identity)
{
	return read_row(access->identity, access->snapshot, identity, NULL);
}

bool
identity_now(pg_uuid_t *identity)
{
	SideAccess	access;
	bool		found;

	side_access_begin(&access, SIDE_IDENTITY, AccessShareLock, ACCESS_LATEST);
	found = read_row(access.rel, access.snapshot, identity, NULL);
	side_access_end(&access);
	return found;
}

char *
identity_text(const pg_uuid_t *identity)
{
	return DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(identity)));
}

/* Store a given one, or else a new one; with "replace" in place of the one there may be. */
static void
assign(bool replace, const pg_uuid_t *given)
{
	LogIdentity self = log_become_side_owner(log_table_require(), SIDE_IDENTITY);
	SideAccess	access;
	pg_uuid_t	identity;
	Insert		insert;
	Datum		value;

	side_access_begin(&access, SIDE_IDENTITY, RowExclusiveLock, ACCESS_SELF);
	if (!read_row(access.rel, access.snapshot, &identity, NULL) || replace)
	{
		PushActiveSnapshot(GetLatestSnapshot());
		insert_begin(&insert, RelationGetRelid(access.rel));
		(void) read_row(access.rel, GetActiveSnapshot(), &identity, &insert);
		insert.slot->tts_values[IDENTITY_ATTR_ONE - 1] = BoolGetDatum(true);
		value = given != NULL ? UUIDPGetDatum(given) :
			DirectFunctionCall1(gen_random_uuid, (Datum) 0);
		insert.slot->tts_values[IDENTITY_ATTR_IDENTITY - 1] = value;
		for (int i = 0; i < IDENTITY_ATTR_IDENTITY; i++)
			insert.slot->tts_isnull[i] = false;
		if (!insert_row(&insert))
			ereport(ERROR,
					(errcode(ERRCODE_TRIGGERED_ACTION_EXCEPTION),
					 errmsg("a trigger on %s keeps the log's identity out",
							IDENTITY_NAME)));
		insert_end(&insert);
		PopActiveSnapshot();
		wakeup_recheck_at_commit();
	}
	side_access_end(&access);
	log_become_self(&self);
}

void
identity_ensure(Oid log, bool empty)
{
	pg_uuid_t	identity;

	if (!empty && identified == log)
		return;
	if (empty || !identity_now(&identity))
	{
		assign(empty, NULL);
		/* not for sure before the commit */
		identified = InvalidOid;
	}
	else if (!wakeup_recheck_wanted())
		identified = log;
}

void
identity_adopt(const pg_uuid_t *identity)
{
	assign(false, identity);
}

void
identity_accept_restored(void)
{
	pg_uuid_t	identity;

	if (identity_now(&identity))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("this log has an identity already"),
				 errdetail("Entries were appended here, or another log was restored."),
				 errhint("Restore into a fresh database.")));
	wakeup_recheck_at_commit();
}
