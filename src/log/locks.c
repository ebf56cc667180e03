/*
 * locks.c
 *	  Heavyweight locks that live as long as what was done under them.
 *
 * The server charges a lock to CurrentResourceOwner, which within a portal is
 * the portal's.  A cursor whose FETCH fails loses its locks with the savepoint
 * that is rolled back, while rows that its earlier FETCHes wrote stay with the
 * transaction.  So what protects rows is charged to the (sub)transaction, as
 * the rows are.
 */
#include "compat.h"

#include "access/xact.h"
#include "catalog/pg_extension.h"
#include "log/locks.h"
#include "log/table.h"
#include "storage/lmgr.h"
#include "utils/resowner.h"

/* Have the (sub)transaction charged; returns who was before. */
static ResourceOwner
charge_transaction(void)
{
	ResourceOwner before = CurrentResourceOwner;

	CurrentResourceOwner = CurTransactionResourceOwner;
	return before;
}

static void
make_tag(LOCKTAG *tag, uint16 subid)
{
	SET_LOCKTAG_OBJECT(*tag, MyDatabaseId, ExtensionRelationId,
					   log_table_require()->extension, subid);
}

void
log_wait_for_lock(uint16 subid, LOCKMODE mode)
{
	LOCKTAG		tag;

	make_tag(&tag, subid);
	(void) LockAcquire(&tag, mode, false, false);
	(void) LockRelease(&tag, mode, false);
}

void
log_lock_briefly(uint16 subid)
{
	LOCKTAG		tag;

	make_tag(&tag, subid);
	(void) LockAcquire(&tag, ExclusiveLock, false, false);
}

void
log_unlock(uint16 subid)
{
	LOCKTAG		tag;

	make_tag(&tag, subid);
	(void) LockRelease(&tag, ExclusiveLock, false);
}

static bool
lock_for_transaction(uint16 subid, LOCKMODE mode, bool wait)
{
	LOCKTAG		tag;
	ResourceOwner before;
	LockAcquireResult result = LOCKACQUIRE_NOT_AVAIL;

	make_tag(&tag, subid);
	before = charge_transaction();
	PG_TRY();
	{
		result = LockAcquire(&tag, mode, false, !wait);
	}
	PG_FINALLY();
	{
		CurrentResourceOwner = before;
	}
	PG_END_TRY();
	return result != LOCKACQUIRE_NOT_AVAIL;
}

void
log_lock_for_transaction(uint16 subid, LOCKMODE mode)
{
	(void) lock_for_transaction(subid, mode, true);
}

bool
log_try_lock_for_transaction(uint16 subid, LOCKMODE mode)
{
	return lock_for_transaction(subid, mode, false);
}

void
log_lock_table_for_transaction(Oid relid, LOCKMODE mode)
{
	ResourceOwner before = charge_transaction();

	PG_TRY();
	{
		LockRelationOid(relid, mode);
	}
	PG_FINALLY();
	{
		CurrentResourceOwner = before;
	}
	PG_END_TRY();
}

bool
log_try_lock_table_for_transaction(Oid relid, LOCKMODE mode)
{
	ResourceOwner before = charge_transaction();
	bool		locked = false;

	PG_TRY();
	{
		locked = ConditionalLockRelationOid(relid, mode);
	}
	PG_FINALLY();
	{
		CurrentResourceOwner = before;
	}
	PG_END_TRY();
	return locked;
}

bool
log_lock_object_for_transaction(Oid class, Oid object, uint16 subid, LOCKMODE mode,
								bool wait)
{
	ResourceOwner before = charge_transaction();
	LockAcquireResult result = LOCKACQUIRE_NOT_AVAIL;
	LOCKTAG		tag;

	SET_LOCKTAG_OBJECT(tag, MyDatabaseId, class, object, subid);
	PG_TRY();
	{
		result = LockAcquire(&tag, mode, false, !wait);
	}
	PG_FINALLY();
	{
		CurrentResourceOwner = before;
	}
	PG_END_TRY();
	return result != LOCKACQUIRE_NOT_AVAIL;
}

static LOCKTAG held;
static bool is_held = false;

/* A transaction that is rolled back has the server release those of the session too. */
static void
at_xact_event(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_ABORT)
		is_held = false;
}

void
log_hold_object(Oid class, Oid object, uint16 subid)
{
	static bool registered = false;

	Assert(!is_held);
	if (!registered)
	{
		RegisterXactCallback(at_xact_event, NULL);
		registered = true;
	}
	SET_LOCKTAG_OBJECT(held, MyDatabaseId, class, object, subid);
	(void) LockAcquire(&held, ExclusiveLock, true, false);
	is_held = true;
}

void
log_release_held_object(void)
{
	if (!is_held)
		return;
	is_held = false;
	(void) LockRelease(&held, ExclusiveLock, true);
}

void
log_unlock_object(Oid class, Oid object, uint16 subid, LOCKMODE mode)
{
	ResourceOwner before = charge_transaction();
	LOCKTAG		tag;

	SET_LOCKTAG_OBJECT(tag, MyDatabaseId, class, object, subid);
	(void) LockRelease(&tag, mode, false);
	CurrentResourceOwner = before;
}

bool
log_object_is_locked(Oid class, Oid object, uint16 subid, LOCKMODE mode)
{
	LOCKTAG		tag;
	int			n;

	SET_LOCKTAG_OBJECT(tag, MyDatabaseId, class, object, subid);
	pfree(GetLockConflicts(&tag, mode, &n));
	return n > 0;
}
