/*
 * database.c
 *	  Database slots: finding them, publishing and reading their state.
 *
 * The published state becomes visible in one step (whole.h); the applier is the
 * only one who writes it.
 */
#include "compat.h"

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "shared/admission.h"
#include "shared/bound.h"
#include "shared/database.h"
#include "shared/follower.h"
#include "shared/submitters.h"
#include "shared/traffic.h"
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

bool
database_has_slot(Oid database)
{
	bool		found;

	LWLockAcquire(Calvin->lock, LW_SHARED);
	found = database_find_locked(database) != NULL;
	LWLockRelease(Calvin->lock);
	return found;
}

static bool
bind_locked(DatabaseSlot *slot, Oid log)
{
	if (!OidIsValid(slot->log_relid))
		slot->log_relid = log;
	return slot->log_relid == log;
}

bool
database_bind(DatabaseSlot *slot, Oid log)
{
	bool		ours;

	LWLockAcquire(Calvin->lock, LW_EXCLUSIVE);
	ours = bind_locked(slot, log);
	LWLockRelease(Calvin->lock);
	return ours;
}

DatabaseSlot *
database_serving(Oid log, bool *full)
{
	DatabaseSlot *slot;

	LWLockAcquire(Calvin->lock, LW_SHARED);
	slot = database_find_locked(MyDatabaseId);
	if (slot != NULL && !OidIsValid(slot->log_relid))
	{
		/* what is done to a fresh slot from now on is meant for this log */
		LWLockRelease(Calvin->lock);
		LWLockAcquire(Calvin->lock, LW_EXCLUSIVE);
		slot = database_find_locked(MyDatabaseId);
		if (slot != NULL)
			(void) bind_locked(slot, log);
	}
	*full = slot == NULL && database_find_locked(InvalidOid) == NULL;
	if (slot != NULL && slot->log_relid != log)
		slot = NULL;
	LWLockRelease(Calvin->lock);
	return slot;
}

static void
write_published(DatabaseSlot *slot, const PublishedState *state)
{
	whole_write(&slot->version, slot->published, PUBLISHED_WORDS, state);
}

void
database_reset_locked(DatabaseSlot *slot)
{
	PublishedState fresh = {0};

	machine_init(&fresh.machine);
	write_published(slot, &fresh);
	memset(slot->identity, 0, sizeof(slot->identity));
	slot->baseline = fresh;
	slot->routed_through = 0;
	pg_atomic_write_u64(&slot->wake_until, 0);
	pg_atomic_write_u64(&slot->fence, 0);
	histogram_rebase(&slot->latency, &slot->latency_baseline);
	traffic_reset_locked(slot);
}

void
database_begin_locked(DatabaseSlot *slot, Oid database)
{
	database_reset_locked(slot);
	bound_reset(slot);
	submitters_begin_locked(slot);
	admission_begin_locked(slot);
	follower_reset(slot);
	slot->database = database;
	slot->log_relid = InvalidOid;
	for (int i = 0; i < WORKER_KINDS; i++)
	{
		slot->workers[i].last_error_at = 0;
		slot->workers[i].last_error[0] = '\0';
	}
}

void
database_publish(DatabaseSlot *slot, const PublishedState *state)
{
	write_published(slot, state);
	ConditionVariableBroadcast(&slot->progress);
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

void
database_wake(DatabaseSlot *slot, WorkerKind kind)
{
	database_wake_proc(&slot->workers[kind].proc);
}

void
database_recheck(void)
{
	DatabaseSlot *slot = database_mine();

	if (slot != NULL)
		for (int i = 0; i < WORKER_KINDS; i++)
			pg_atomic_write_u32(&slot->workers[i].recheck, 1);
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
database_copy_error(char copy[CALVIN_ERROR_LEN], const char *message)
{
	int			len = pg_mbcliplen(message, (int) Min(strlen(message), INT_MAX),
								   CALVIN_ERROR_LEN - 1);

	memcpy(copy, message, len);
	copy[len] = '\0';
}

void
database_report_error(DatabaseSlot *slot, WorkerKind kind, const char *message)
{
	WorkerSlot *worker = &slot->workers[kind];
	TimestampTz now = GetCurrentTimestamp();

	LWLockAcquire(Calvin->lock, LW_EXCLUSIVE);
	database_copy_error(worker->last_error, message);
	worker->last_error_at = now;
	LWLockRelease(Calvin->lock);
}

static void
view_worker_locked(const WorkerSlot *worker, WorkerView *view)
{
	view->status = worker->status;
	view->no_place = worker->no_place;
	view->pid = worker->pid;
	view->started = worker->started;
	view->last_error_at = worker->last_error_at;
	memcpy(view->last_error, worker->last_error, sizeof(view->last_error));
}

void
database_view(DatabaseSlot *slot, DatabaseView *view)
{
	LWLockAcquire(Calvin->lock, LW_SHARED);
	view->held = slot->holds > 0;
	for (int i = 0; i < WORKER_KINDS; i++)
		view_worker_locked(&slot->workers[i], &view->workers[i]);
	view->activity = (ApplierActivity) pg_atomic_read_u32(&slot->activity);
	view->catch_up_from = pg_atomic_read_u64(&slot->catch_up_from);
	view->catch_up_to = pg_atomic_read_u64(&slot->catch_up_to);
	LWLockRelease(Calvin->lock);
}

void
database_note_latency(DatabaseSlot *slot, int64 usecs)
{
	histogram_add(&slot->latency, usecs);
}

void
database_metrics(DatabaseSlot *slot, MachineCounters *counters,
				 int n, const double *fractions, double *quantiles)
{
	PublishedState baseline;
	PublishedState state;
	uint64	   *now = (uint64 *) &state.counters;
	const uint64 *then = (const uint64 *) &baseline.counters;

	LWLockAcquire(Calvin->lock, LW_SHARED);
	memcpy(&baseline, &slot->baseline, sizeof(baseline));
	LWLockRelease(Calvin->lock);
	database_read(slot, &state);
	for (size_t i = 0; i < sizeof(MachineCounters) / sizeof(uint64); i++)
		now[i] -= then[i];
	*counters = state.counters;
	for (int i = 0; i < n; i++)
		quantiles[i] = histogram_quantile(&slot->latency,
										  &slot->latency_baseline,
										  fractions[i]);
}

void
database_reset_metrics(DatabaseSlot *slot)
{
	PublishedState state;

	database_read(slot, &state);
	LWLockAcquire(Calvin->lock, LW_EXCLUSIVE);
	slot->baseline = state;
	histogram_rebase(&slot->latency, &slot->latency_baseline);
	LWLockRelease(Calvin->lock);
}
