/*
 * database.c
 *	  Database slots: finding them, publishing and reading their state.
 *
 * The published state is a sequence lock.  Its writer, the applier, makes
 * "version" odd, writes the words and makes it even again; a reader copies
 * the words and starts over if the version was odd or has moved.  The writer
 * cannot fail in between, so a reader never waits longer than the few stores
 * take (a crash there restarts the whole server, and with it the memory).
 */
#include "compat.h"

#include "miscadmin.h"
#include "shared/database.h"
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
	const uint64 *words = (const uint64 *) state;
	uint64		version = pg_atomic_read_u64(&slot->version);

	Assert(version % 2 == 0);
	pg_atomic_write_u64(&slot->version, version + 1);
	pg_write_barrier();
	for (size_t i = 0; i < PUBLISHED_WORDS; i++)
		pg_atomic_write_u64(&slot->published[i], words[i]);
	pg_write_barrier();
	pg_atomic_write_u64(&slot->version, version + 2);
}

/* The state of a log of which nothing was applied. */
static void
reset_state_locked(DatabaseSlot *slot)
{
	PublishedState fresh = {0};

	machine_init(&fresh.machine);
	write_published(slot, &fresh);
	memset(slot->identity, 0, sizeof(slot->identity));
	slot->baseline = fresh;
	slot->routed_through = 0;
	histogram_rebase(&slot->latency, &slot->latency_baseline);
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
			reset_state_locked(slot);
			slot->database = database;
			slot->log_relid = InvalidOid;
			slot->status = APPLIER_WANTED;
			slot->holds = 0;
			slot->failures = 0;
			slot->not_before = 0;
			slot->last_error_at = 0;
			slot->last_error[0] = '\0';
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
	uint64	   *words = (uint64 *) state;
	uint64		version;

	for (;;)
	{
		version = pg_atomic_read_u64(&slot->version);
		pg_read_barrier();
		if (version % 2 == 0)
		{
			for (size_t i = 0; i < PUBLISHED_WORDS; i++)
				words[i] = pg_atomic_read_u64(&slot->published[i]);
			pg_read_barrier();
			if (pg_atomic_read_u64(&slot->version) == version)
				return;
		}
		pg_spin_delay();
	}
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
database_recheck(void)
{
	DatabaseSlot *slot = database_mine();

	if (slot != NULL)
		pg_atomic_write_u32(&slot->recheck, 1);
}

void
database_get_identity(DatabaseSlot *slot, uint64 identity[2])
{
	LWLockAcquire(Calvin->lock, LW_SHARED);
	memcpy(identity, slot->identity, sizeof(slot->identity));
	LWLockRelease(Calvin->lock);
}

void
database_set_identity(DatabaseSlot *slot, const uint64 identity[2])
{
	LWLockAcquire(Calvin->lock, LW_EXCLUSIVE);
	memcpy(slot->identity, identity, sizeof(slot->identity));
	LWLockRelease(Calvin->lock);
}

void
database_begin_anew(DatabaseSlot *slot)
{
	LWLockAcquire(Calvin->lock, LW_EXCLUSIVE);
	reset_state_locked(slot);
	LWLockRelease(Calvin->lock);
	ConditionVariableBroadcast(&slot->progress);
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
