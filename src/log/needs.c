/*
 * needs.c
 *	  Who needs the log, and who removes its beginning: one of the two sees the
 *	  other.
 *
 * A truncation raises the fence to the last epoch that goes, and then looks, once:
 * first at the live subscriptions' floors, then at the cursors, those that are
 * being stored included.  Who subscribes or stores a cursor publishes his floor,
 * or writes his row, and then looks whether a fence was raised since he began.
 * So whoever the look has missed knows that he may have been, waits for the
 * truncation's end, and finds out what has become of the log.
 *
 * Whoever waits for a truncation holds nothing that it waits for: one that has
 * stored a cursor in the same transaction fails rather than wait.
 */
#include "compat.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_extension.h"
#include "log/access.h"
#include "log/base.h"
#include "log/locks.h"
#include "log/needs.h"
#include "miscadmin.h"
#include "shared/fence.h"
#include "storage/lock.h"
#include "utils/memutils.h"

/* One that this transaction has raised. */
typedef struct Fence
{
	struct Fence *outer;
	DatabaseSlot *database;
	SubTransactionId subid;
	uint64		through;
} Fence;

static Fence *fences = NULL;

/* The fence is as high as the highest of those that remain. */
static void
forget_innermost(void)
{
	DatabaseSlot *database = fences->database;
	uint64		epochs = 0;

	/* the transaction's memory goes by itself */
	fences = fences->outer;
	for (const Fence *fence = fences; fence != NULL; fence = fence->outer)
		epochs = Max(epochs, fence->through + 1);
	fence_lower(database, epochs);
}

/*
 * Others see what has been committed by the time this is called, and the lock
 * is released after it.
 */
static void
at_xact_event(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_PREPARE:
			if (fences != NULL)
				ereport(ERROR,
						(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						 errmsg("cannot PREPARE a transaction that has truncated seq_log"),
						 errdetail("When it is committed, others may need what it has removed."),
						 errhint("Truncate in a transaction of its own.")));
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			while (fences != NULL)
				forget_innermost();
			break;
		default:
			break;
	}
}

static void
at_subxact_event(SubXactEvent event, SubTransactionId subid,
				 SubTransactionId parent, void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB)
		while (fences != NULL && fences->subid == subid)
			forget_innermost();
	if (event == SUBXACT_EVENT_COMMIT_SUB)
		for (Fence *fence = fences; fence != NULL; fence = fence->outer)
			if (fence->subid == subid)
				fence->subid = parent;
}

void
needs_lock_truncation(void)
{
	log_lock_for_transaction(LOG_LOCK_TRUNCATION, ExclusiveLock);
}

bool
needs_try_lock_truncation(void)
{
	return log_try_lock_for_transaction(LOG_LOCK_TRUNCATION, ExclusiveLock);
}

void
needs_fence(DatabaseSlot *database, uint64 through)
{
	static bool registered = false;
	Fence	   *fence;

	if (!registered)
	{
		RegisterXactCallback(at_xact_event, NULL);
		RegisterSubXactCallback(at_subxact_event, NULL);
		registered = true;
	}
	fence = MemoryContextAlloc(TopTransactionContext, sizeof(Fence));
	fence->outer = fences;
	fence->database = database;
	fence->subid = GetCurrentSubTransactionId();
	fence->through = through;
	fences = fence;
	fence_raise(database, through);
}

void
needs_unfence(void)
{
	forget_innermost();
}

void
needs_begin(LogNeed *need, DatabaseSlot *database)
{
	need->database = database;
	need->raised = database == NULL ? 0 : fence_raised(database);
	/* whatever is read of the log from now on is not older than that */
	pg_memory_barrier();
}

bool
needs_fenced(const LogNeed *need, uint64 epoch)
{
	/* what this transaction has removed itself is gone for it */
	return fences == NULL && need->database != NULL &&
		fence_covers(need->database, epoch);
}

void
needs_wait(const LogNeed *need, uint64 epoch)
{
	/* a standby's own fence is never raised; locks come with the log there */
	while (needs_fenced(need, epoch) && !RecoveryInProgress())
		log_wait_for_lock(LOG_LOCK_TRUNCATION, ShareLock);
}

bool
needs_settled(const LogNeed *need, uint64 epoch)
{
	/* before it is looked at, what was made known has to be there */
	pg_memory_barrier();
	return need->database == NULL ||
		(need->raised == fence_raised(need->database) &&
		 !needs_fenced(need, epoch));
}

void
needs_require(uint64 epoch, const char *name)
{
	LogAccess	access;

	log_access_begin(&access, ACCESS_SNAPSHOTS, ACCESS_LATEST);
	base_require_epoch(&access, epoch, name);
	log_access_end(&access);
}
