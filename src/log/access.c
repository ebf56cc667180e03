/*
 * access.c
 *	  The one way to the extension's tables: locked first, then looked up, then
 *	  a snapshot.
 *
 * On a primary the lock on a table keeps its indexes: REINDEX CONCURRENTLY, the
 * only command that replaces them without a stronger one, waits for us before
 * it stops maintaining the old ones.  A standby is not waited for.  So what was
 * looked up is compared once more behind the snapshot: whatever the snapshot
 * sees that an old index lacks was committed after the exchange, of which we
 * have been told by then.
 */
#include "compat.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/indexing.h"
#include "catalog/pg_class.h"
#include "log/access.h"
#include "miscadmin.h"
#include "shared/pause.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/snapmgr.h"

static void
close_relation(Relation *rel, LOCKMODE mode)
{
	if (*rel != NULL)
		relation_close(*rel, mode);
	*rel = NULL;
}

/* Release what was opened, in whatever order it has come. */
static void
close_all(LogAccess *access)
{
	close_relation(&access->identity_by_key, AccessShareLock);
	close_relation(&access->identity, AccessShareLock);
	close_relation(&access->snapshots_by_index, AccessShareLock);
	close_relation(&access->snapshots, AccessShareLock);
	close_relation(&access->by_ack, AccessShareLock);
	close_relation(&access->by_epoch, AccessShareLock);
	close_relation(&access->by_index, AccessShareLock);
	close_relation(&access->log,
				   access->flags & ACCESS_WRITE ? NoLock : AccessShareLock);
}

static bool
open_side(SideTable side, LOCKMODE mode, Relation *rel, Relation *by_key)
{
	const LogTable *table = log_table_require();
	Oid			key;

	*rel = try_relation_open(log_side_table(table, side), mode);
	if (*rel == NULL)
		return false;
	/* it may have become another one while we waited */
	if (log_side_table(log_table_require(), side) == RelationGetRelid(*rel) &&
		shape_check_side(*rel, side, &key))
		*by_key = try_relation_open(key, AccessShareLock);
	return *by_key != NULL;
}

/* False: something has changed, or gone, while we looked. */
static bool
open_all(LogAccess *access, const LogTable *table)
{
	bool		write = (access->flags & ACCESS_WRITE) != 0;

	access->log = try_relation_open(table->log,
									write ? RowExclusiveLock : AccessShareLock);
	if (access->log == NULL)
		return false;
	/* with the lock we were told what has become of it */
	table = log_table_find();
	if (table == NULL || table->log != RelationGetRelid(access->log))
		return false;
	access->table = *table;
	access->by_index = try_relation_open(access->table.log_pkey, AccessShareLock);
	access->by_epoch = try_relation_open(access->table.epoch_index, AccessShareLock);
	access->by_ack = try_relation_open(access->table.ack_index, AccessShareLock);
	if (access->by_index == NULL || access->by_epoch == NULL ||
		access->by_ack == NULL)
		return false;
	if ((access->flags & ACCESS_SNAPSHOTS) &&
		!open_side(SIDE_SNAPSHOTS, AccessShareLock, &access->snapshots,
				   &access->snapshots_by_index))
		return false;
	return !(access->flags & ACCESS_IDENTITY) ||
		open_side(SIDE_IDENTITY, AccessShareLock, &access->identity,
				  &access->identity_by_key);
}

/* Are table and indexes still those that were opened? */
static bool
is_unchanged(const LogAccess *access)
{
	const LogTable *table;

	AcceptInvalidationMessages();
	table = log_table_find();
	return table != NULL && table->log == access->table.log &&
		table->log_pkey == access->table.log_pkey &&
		table->epoch_index == access->table.epoch_index &&
		table->ack_index == access->table.ack_index;
}

/*
 * Has a table got new contents that a snapshot cannot see?  Some commands keep
 * old row versions when they rewrite it, but that cannot be told from here.
 */
static bool
was_rewritten(Relation rel, Snapshot snapshot)
{
	Relation	catalog = table_open(RelationRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		same;

	ScanKeyInit(&key, Anum_pg_class_oid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(RelationGetRelid(rel)));
	scan = systable_beginscan(catalog, ClassOidIndexId, true, snapshot, 1, &key);
	tuple = systable_getnext(scan);
	same = HeapTupleIsValid(tuple) &&
		((Form_pg_class) GETSTRUCT(tuple))->relfilenode == rel->rd_rel->relfilenode;
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return !same;
}

/*
 * A table, wherever it was rewritten.  An index made anew has what the primary's
 * snapshots can see, which a standby's old ones go beyond.
 */
static bool
must_be_seen(Relation rel)
{
	return rel != NULL &&
		(rel->rd_rel->relkind != RELKIND_INDEX || RecoveryInProgress());
}

/* What the running statement sees, or more if that is gone with a rewrite. */
static Snapshot
statement_snapshot(const Relation *rels, int n)
{
	Snapshot	statement = GetActiveSnapshot();
	bool		rewritten = false;

	for (int i = 0; i < n; i++)
		rewritten |= must_be_seen(rels[i]) && was_rewritten(rels[i], statement);
	if (!rewritten)
		return statement;
	if (IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not serialize access: the log was rewritten by another command"),
				 errdetail("The table has new contents, of which this transaction's snapshot may see nothing."),
				 errhint("Run the transaction again.")));
	return GetLatestSnapshot();
}

static Snapshot
take_snapshot(AccessSnapshot kind, const Relation *rels, int n)
{
	switch (kind)
	{
		case ACCESS_SELF:
			return SnapshotSelf;
		case ACCESS_STATEMENT:
			return RegisterSnapshot(statement_snapshot(rels, n));
		case ACCESS_LATEST:
			break;
	}
	return RegisterSnapshot(GetLatestSnapshot());
}

static void
release_snapshot(Snapshot snapshot)
{
	if (snapshot != SnapshotSelf)
		UnregisterSnapshot(snapshot);
}

bool
log_access_try_begin(LogAccess *access, int flags, AccessSnapshot kind)
{
	memset(access, 0, sizeof(*access));
	access->flags = flags;
	for (;;)
	{
		const LogTable *table = log_table_find();

		if (table == NULL)
			return false;
		PAUSE_POINT("access: before locking");
		if (open_all(access, table))
		{
			const Relation rels[] = {access->log, access->by_index,
									 access->by_epoch, access->by_ack,
									 access->snapshots, access->snapshots_by_index};

			PAUSE_POINT("access: before the snapshot");
			access->snapshot = take_snapshot(kind, rels, lengthof(rels));
			if (is_unchanged(access))
				return true;
			release_snapshot(access->snapshot);
		}
		close_all(access);
		CHECK_FOR_INTERRUPTS();
		log_table_forget();
	}
}

void
log_access_begin(LogAccess *access, int flags, AccessSnapshot kind)
{
	if (!log_access_try_begin(access, flags, kind))
		/* raises the error */
		(void) log_table_require();
}

void
log_access_end(LogAccess *access)
{
	release_snapshot(access->snapshot);
	close_all(access);
}

void
side_access_begin(SideAccess *access, SideTable side, LOCKMODE mode,
				  AccessSnapshot kind)
{
	access->mode = mode;
	access->rel = NULL;
	access->by_key = NULL;
	for (;;)
	{
		Oid			key;

		if (open_side(side, mode, &access->rel, &access->by_key))
		{
			const Relation rels[] = {access->rel, access->by_key};

			access->snapshot = take_snapshot(kind, rels, lengthof(rels));
			AcceptInvalidationMessages();
			if (shape_check_side(access->rel, side, &key) &&
				key == RelationGetRelid(access->by_key))
				return;
			release_snapshot(access->snapshot);
		}
		close_relation(&access->by_key, AccessShareLock);
		close_relation(&access->rel, mode);
		CHECK_FOR_INTERRUPTS();
	}
}

bool
side_access_serializable(const SideAccess *access, TupleTableSlot *row)
{
	return !IsolationUsesXactSnapshot() ||
		table_tuple_satisfies_snapshot(access->rel, row, GetTransactionSnapshot());
}

void
access_push_snapshot(void)
{
	PushActiveSnapshot(GetLatestSnapshot());
}

void
side_access_refresh(SideAccess *access)
{
	release_snapshot(access->snapshot);
	access->snapshot = RegisterSnapshot(GetLatestSnapshot());
}

void
side_access_end(SideAccess *access)
{
	release_snapshot(access->snapshot);
	close_relation(&access->by_key, AccessShareLock);
	/* what was changed stays locked */
	close_relation(&access->rel,
				   access->mode > AccessShareLock ? NoLock : AccessShareLock);
}
