/*
 * database.c
 *	  Database slots: finding them, publishing and reading their state.
 *
 * The published state becomes visible in one step (whole.h); the applier is the
 * only one who writes it.
 */
#include "compat.h"

#include "miscadmin.h"
#include "shared/database.h"
#include "shared/whole.h"
#include "storage/latch.h"
#include "utils/timestamp.h"

DatabaseSlot *
database_find_locked(Oid database)
{
	for (int i = 0; i < Calvin->max_databases; i++)
		if (Calvin->databases[i].database == database)
			return &Calvin->databases[i];
	return NULL;
}

DatabaseSlot *
database_mine(void)
{
	static DatabaseSlot *mine = NULL;

	if (Calvin == NULL || !OidIsValid(MyDatabaseId))
		return NULL;

	/* reading the Oid without the lock is fine: it cannot be half written */
	if (mine != NULL && mine->database == MyDatabaseId)
		return mine;
	LWLockAcquire(Calvin->lock, LW_SHARED);
	mine = database_find_locked(MyDatabaseId);
	LWLockRelease(Calvin->lock);
	return mine;
}

static void
write_published(DatabaseSlot *slot, const PublishedState *state)
{
	whole_write(&slot->version, slot->published, PUBLISHED_WORDS, state);
}

void
database_publish(DatabaseSlot *slot, const PublishedState *state)
{
	write_published(slot, state);
	ConditionVariableBroadcast(&slot->progress);
}

bool
database_adopt(Oid database)
{
	DatabaseSlot *slot;

	LWLockAcquire(Calvin->lock, LW_EXCLUSIVE);
	slot = database_find_locked(database);
	if (slot == NULL)
	{
		slot = database_find_locked(InvalidOid);
		if (slot != NULL)
		{
			PublishedState fresh = {0};

			machine_init(&fresh.machine);
			write_published(slot, &fresh);
			slot->database = database;
			slot->log_relid = InvalidOid;
			slot->status = APPLIER_WANTED;
			slot->holds = 0;
			slot->failures = 0;
			slot->not_before = 0;
			slot->last_error_at = 0;
			slot->last_error[0] = '\0';
			slot->baseline = fresh;
			slot->routed_through = 0;
			pg_atomic_write_u64(&slot->wake_until, 0);
			histogram_rebase(&slot->latency, &slot->latency_baseline);
		}
		else
			Calvin->refused = true;
	}
	LWLockRelease(Calvin->lock);
	database_wake_proc(&Calvin->launcher_proc);
	ConditionVariableBroadcast(&Calvin->databases_changed);
	return slot != NULL;
}

void
database_forget(DatabaseSlot *slot)
{
	Oid			database;

	LWLockAcquire(Calvin->lock, LW_EXCLUSIVE);
	database = slot->database;
	slot->database = InvalidOid;
	slot->status = APPLIER_NONE;
	slot->applier_pid = 0;
	pg_atomic_write_u64(&slot->applier_proc, 0);
	if (Calvin->refused)
		Calvin->rescan = true;
	Calvin->refused = false;
	LWLockRelease(Calvin->lock);

	/* sessions that wait for something of it look again */
	ConditionVariableBroadcast(&slot->progress);
	ConditionVariableBroadcast(&Calvin->databases_changed);
	/* the extension may have been created anew meanwhile */
	database_request(database);
}

void
database_read(DatabaseSlot *slot, PublishedState *state)
{
	whole_read(&slot->version, slot->published, PUBLISHED_WORDS, state);
}

void
database_wake_until(DatabaseSlot *slot, uint64 epoch)
{
	uint64		known = pg_atomic_read_u64(&slot->wake_until);

	/* a full barrier, also where nothing is to be raised */
	pg_memory_barrier();
	while (known < epoch &&
		   !pg_atomic_compare_exchange_u64(&slot->wake_until, &known, epoch))
		continue;
	pg_memory_barrier();
}

void
database_wake_proc(pg_atomic_uint64 *proc)
{
	PGPROC	   *target = (PGPROC *) (uintptr_t) pg_atomic_read_u64(proc);

	/* a PGPROC is never freed: at worst a stranger wakes once for nothing */
	if (target != NULL)
		SetLatch(&target->procLatch);
}

/*
 * The launcher may have missed this database, because it took no connections
 * when it looked.  Without a free slot there is no use in asking.
 */
void
database_request_mine(void)
{
	bool		room;

	if (Calvin == NULL)
		return;
	LWLockAcquire(Calvin->lock, LW_SHARED);
	room = database_find_locked(InvalidOid) != NULL;
	LWLockRelease(Calvin->lock);
	if (room)
		database_request(MyDatabaseId);
}

void
database_wake_applier(void)
{
	DatabaseSlot *slot = database_mine();

	if (slot == NULL)
	{
		database_request_mine();
		return;
	}
	pg_atomic_fetch_add_u64(&slot->appends, 1);
	database_wake_proc(&slot->applier_proc);
}

void
database_report_error(DatabaseSlot *slot, const char *message)
{
	TimestampTz now = GetCurrentTimestamp();

	LWLockAcquire(Calvin->lock, LW_EXCLUSIVE);
	strlcpy(slot->last_error, message, sizeof(slot->last_error));
	slot->last_error_at = now;
	LWLockRelease(Calvin->lock);
}

void
database_request(Oid database)
{
	LWLockAcquire(Calvin->lock, LW_EXCLUSIVE);
	if (OidIsValid(database) && Calvin->nrequests < CALVIN_MAX_REQUESTS)
		Calvin->requests[Calvin->nrequests++] = database;
	else
		Calvin->rescan = true;
	LWLockRelease(Calvin->lock);
	database_wake_proc(&Calvin->launcher_proc);
}
