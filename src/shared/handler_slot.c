/*
 * handler_slot.c
 *	  The life of handler workers: every transition of their slots.
 *
 *	  A slot is free, or has a task: to be the worker of that number of a group's
 *	  handler, as it is defined.
 *
 *						  start				claim
 *		 publish		+------->			+------->
 *	   free ----> WANTED -		  STARTING ---		  RUNNING ----+
 *		^ ^		   ^ ^	<-------+	|					 |	  |
 *		| |		   | | not_started, |					 |	  |
 *		| |		   | | reset, claim |					 |	  |
 *		| |		   | |	 while held |	leave			 |	  |
 *		| |		   | +--------------+--------------------+	  |
 *		| +--------+----------------+						  |
 *		|	publish, stop: the task is not wanted any more	  |
 *		+-----------------------------------------------------+
 *			leave when ending: a task of which that was said, and the worker
 *			was told to stop, while it ran
 *
 *	  transition		 made by				   under what condition
 *	  publish			 the sequencer			   of that database
 *	  start				 the launcher			   WANTED, the database has a slot
 *												   without holds, not before not_before
 *	  not_started, reset the launcher			   STARTING with its token
 *	  claim				 the worker				   STARTING with its token, no holds
 *	  leave				 the worker				   RUNNING
 *	  stop				 who ends the database's   of that database
 *						 slot, or holds it
 *
 * The sequencer is who reads which handlers there are, since there is one on a primary
 * alone, from the promotion on, and one at a time in a database.  It is told by sessions
 * that commit something that may matter: a word that it takes, and its latch.
 *
 * The workers of a database that is held (worker_slot.c) are told to stop, and start no
 * sooner than the others.
 *
 * The lock is Calvin->lock, for all but the figures.
 */
#include "compat.h"

#include <math.h>

#include "miscadmin.h"
#include "shared/clock.h"
#include "shared/database.h"
#include "shared/handler_slot.h"
#include "shared/requests.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"

/*
 * Between the second end without success in a row and the next start: doubling up to
 * the last.  The first one may be for a reason that will not come again.
 */
#define FIRST_DELAY_MS 1000
#define LAST_DELAY_MS 60000

/* Rates are of about the last so many seconds. */
#define RECENT_SECONDS 10.0

typedef struct HandlerDatabase
{
	pg_atomic_uint32 told; /* anybody sets it, the sequencer takes it */
	pg_atomic_uint32 any;  /* the sequencer's */
} HandlerDatabase;

/* A task has found no slot: who leaves one has everybody look again. */
static pg_atomic_uint32 *lacking;
static HandlerDatabase *databases; /* by the number of the database's slot */
static HandlerSlot *slots;

static Size
databases_size(void)
{
	return MAXALIGN(mul_size(calvin_max_databases, sizeof(HandlerDatabase)));
}

Size
handler_slots_shmem_size(void)
{
	return add_size(add_size(MAXALIGN(sizeof(pg_atomic_uint32)), databases_size()),
					mul_size(calvin_max_handlers, sizeof(HandlerSlot)));
}

void
handler_slots_shmem_init(void)
{
	bool		found;

	lacking = ShmemInitStruct("calvin_seq handlers", handler_slots_shmem_size(), &found);
	databases = (HandlerDatabase *)
		((char *) lacking + MAXALIGN(sizeof(pg_atomic_uint32)));
	slots = (HandlerSlot *) ((char *) databases + databases_size());
	if (found)
		return;
	memset(lacking, 0, handler_slots_shmem_size());
	pg_atomic_init_u32(lacking, 0);
	for (int i = 0; i < calvin_max_databases; i++)
	{
		pg_atomic_init_u32(&databases[i].told, 0);
		pg_atomic_init_u32(&databases[i].any, 0);
	}
	for (int i = 0; i < calvin_max_handlers; i++)
	{
		pg_atomic_init_u64(&slots[i].worker.proc, 0);
		pg_atomic_init_u32(&slots[i].worker.recheck, 0);
		pg_atomic_init_u32(&slots[i].worker.stop, 0);
		pg_atomic_init_u32(&slots[i].attempt, 0);
		SpinLockInit(&slots[i].mutex);
	}
}

/*
 * Being told
 */

static HandlerDatabase *
database_of(DatabaseSlot *slot)
{
	return &databases[slot - Calvin->databases];
}

void
handler_slots_tell(DatabaseSlot *slot)
{
	pg_atomic_write_u32(&database_of(slot)->told, 1);
	database_wake_sequencer(slot);
}

void
handler_slots_tell_all(void)
{
	for (int i = 0; i < Calvin->max_databases; i++)
		if (handler_slots_any(&Calvin->databases[i]))
			handler_slots_tell(&Calvin->databases[i]);
}

bool
handler_slots_take_told(DatabaseSlot *slot)
{
	return pg_atomic_read_u32(&database_of(slot)->told) != 0 &&
		pg_atomic_exchange_u32(&database_of(slot)->told, 0) != 0;
}

bool
handler_slots_any(DatabaseSlot *slot)
{
	return pg_atomic_read_u32(&database_of(slot)->any) != 0;
}

/*
 * What is wanted
 */

static bool
same_task(const HandlerTask *a, const HandlerTask *b)
{
	/* who writes to the table can repeat a definition's number, as another role */
	return a->database == b->database && a->role == b->role && a->id == b->id &&
		a->definition == b->definition && a->number == b->number;
}

static void
free_locked(HandlerSlot *slot)
{
	/* one on its way finds that it may not claim */
	slot->worker.start_token++;
	slot->worker.status = WORKER_NONE;
	slot->task.database = InvalidOid;
	slot->ending = false;
}

static void
end_locked(HandlerSlot *slot)
{
	if (slot->worker.status != WORKER_RUNNING)
	{
		free_locked(slot);
		return;
	}
	slot->ending = true;
	pg_atomic_write_u32(&slot->worker.stop, 1);
}

static bool
has_task_locked(const HandlerTask *task)
{
	for (int i = 0; i < calvin_max_handlers; i++)
		if (!slots[i].ending && same_task(&slots[i].task, task))
			return true;
	return false;
}

/* A free slot gets a task; false if there is none. */
static bool
begin_locked(const HandlerTask *task)
{
	for (int i = 0; i < calvin_max_handlers; i++)
	{
		HandlerSlot *slot = &slots[i];

		if (OidIsValid(slot->task.database))
			continue;
		slot->task = *task;
		slot->ending = false;
		slot->worker.status = WORKER_WANTED;
		slot->worker.no_place = false;
		slot->worker.failures = 0;
		slot->worker.not_before = 0;
		slot->worker.last_error_at = 0;
		SpinLockAcquire(&slot->mutex);
		slot->recent = 0;
		slot->recent_at = GetCurrentTimestamp();
		slot->retrying = false;
		SpinLockRelease(&slot->mutex);
		return true;
	}
	return false;
}

void
handler_slots_tell_of_room(void)
{
	if (pg_atomic_read_u32(lacking) != 0 && pg_atomic_exchange_u32(lacking, 0) != 0)
		handler_slots_tell_all();
}

void
handler_slots_publish(DatabaseSlot *slot, const HandlerTask *tasks, int n, bool any)
{
	bool		lacks = false;
	bool		freed = false;

	pg_atomic_write_u32(&database_of(slot)->any, any ? 1 : 0);
	LWLockAcquire(Calvin->lock, LW_EXCLUSIVE);
	for (int i = 0; i < calvin_max_handlers; i++)
	{
		bool		wanted = false;

		if (slots[i].task.database != MyDatabaseId)
			continue;
		for (int j = 0; j < n && !wanted; j++)
			wanted = same_task(&slots[i].task, &tasks[j]);
		if (wanted)
			continue;
		end_locked(&slots[i]);
		freed |= !OidIsValid(slots[i].task.database);
	}
	for (int j = 0; j < n; j++)
		if (!has_task_locked(&tasks[j]))
			lacks |= !begin_locked(&tasks[j]);
	LWLockRelease(Calvin->lock);
	if (lacks)
		pg_atomic_write_u32(lacking, 1);
	else if (freed)
		handler_slots_tell_of_room();
	handler_slots_wake(MyDatabaseId);
	requests_wake_launcher();
}

void
handler_slots_stop_locked(Oid database, bool for_good)
{
	for (int i = 0; i < calvin_max_handlers; i++)
	{
		if (slots[i].task.database != database)
			continue;
		if (for_good)
			end_locked(&slots[i]);
		else
			pg_atomic_write_u32(&slots[i].worker.stop, 1);
	}
}

void
handler_slots_release_locked(Oid database)
{
	for (int i = 0; i < calvin_max_handlers; i++)
		if (slots[i].task.database == database)
			slots[i].worker.not_before = 0;
}

void
handler_slots_wake(Oid database)
{
	for (int i = 0; i < calvin_max_handlers; i++)
		if (slots[i].task.database == database && handler_slot_stop_asked(&slots[i]))
			database_wake_proc(&slots[i].worker.proc);
}

/*
 * The launcher
 */

/* Does the database have its slot, and nobody holds that? */
static bool
open_locked(Oid database)
{
	const DatabaseSlot *slot = database_find_locked(database);

	return slot != NULL && slot->holds == 0 && !slot->ending;
}

static bool
wanted_locked(const HandlerSlot *slot)
{
	return OidIsValid(slot->task.database) && slot->worker.status == WORKER_WANTED &&
		open_locked(slot->task.database);
}

bool
handler_slot_wanted(int number, HandlerTask *task, long *wait)
{
	HandlerSlot *slot = &slots[number];
	int64		now = clock_ms();
	bool		wanted = false;

	*wait = -1;
	LWLockAcquire(Calvin->lock, LW_SHARED);
	if (wanted_locked(slot))
	{
		wanted = slot->worker.not_before <= now;
		*task = slot->task;
		if (!wanted)
			*wait = (long) (slot->worker.not_before - now);
	}
	LWLockRelease(Calvin->lock);
	return wanted;
}

bool
handler_slot_start(int number, const HandlerTask *task, uint32 *token)
{
	HandlerSlot *slot = &slots[number];
	bool		wanted;

	LWLockAcquire(Calvin->lock, LW_EXCLUSIVE);
	wanted = wanted_locked(slot) && same_task(&slot->task, task);
	if (wanted)
	{
		slot->worker.status = WORKER_STARTING;
		*token = ++slot->worker.start_token;
	}
	LWLockRelease(Calvin->lock);
	return wanted;
}

static bool
starting_locked(const HandlerSlot *slot, uint32 token)
{
	return slot->worker.status == WORKER_STARTING && slot->worker.start_token == token;
}

void
handler_slot_not_started(int number, uint32 token, int delay_ms, bool no_place)
{
	HandlerSlot *slot = &slots[number];

	LWLockAcquire(Calvin->lock, LW_EXCLUSIVE);
	if (starting_locked(slot, token))
	{
		slot->worker.status = WORKER_WANTED;
		slot->worker.not_before = clock_ms() + delay_ms;
		slot->worker.no_place = no_place;
	}
	LWLockRelease(Calvin->lock);
}

void
handler_slots_note_place(void)
{
	LWLockAcquire(Calvin->lock, LW_EXCLUSIVE);
	for (int i = 0; i < calvin_max_handlers; i++)
		if (slots[i].worker.no_place)
			slots[i].worker.not_before = 0;
	LWLockRelease(Calvin->lock);
}

bool
handler_slots_lack_place(void)
{
	bool		any = false;

	LWLockAcquire(Calvin->lock, LW_SHARED);
	for (int i = 0; i < calvin_max_handlers && !any; i++)
		any = slots[i].worker.no_place && OidIsValid(slots[i].task.database);
	LWLockRelease(Calvin->lock);
	return any;
}

bool
handler_slots_make_room(pid_t *late)
{
	HandlerSlot *chosen = NULL;

	*late = 0;
	LWLockAcquire(Calvin->lock, LW_EXCLUSIVE);
	for (int i = 0; i < calvin_max_handlers; i++)
	{
		if (slots[i].worker.status != WORKER_RUNNING)
			continue;
		chosen = &slots[i];
		if (handler_slot_stop_asked(chosen))
		{
			*late = chosen->worker.pid;
			break;
		}
	}
	if (chosen != NULL)
		pg_atomic_write_u32(&chosen->worker.stop, 1);
	LWLockRelease(Calvin->lock);
	if (chosen != NULL)
		database_wake_proc(&chosen->worker.proc);
	return chosen != NULL;
}

void
handler_slots_reset_starting(void)
{
	LWLockAcquire(Calvin->lock, LW_EXCLUSIVE);
	for (int i = 0; i < calvin_max_handlers; i++)
		if (slots[i].worker.status == WORKER_STARTING)
		{
			slots[i].worker.start_token++;
			slots[i].worker.status = WORKER_WANTED;
		}
	LWLockRelease(Calvin->lock);
}

/*
 * The worker
 */

HandlerSlot *
handler_slot_claim(int number, uint32 token, HandlerTask *task)
{
	HandlerSlot *slot = &slots[number];
	WorkerSlot *worker = &slot->worker;
	bool		claimed = false;

	LWLockAcquire(Calvin->lock, LW_EXCLUSIVE);
	if (starting_locked(slot, token))
	{
		claimed = open_locked(slot->task.database);
		worker->status = claimed ? WORKER_RUNNING : WORKER_WANTED;
	}
	if (claimed)
	{
		*task = slot->task;
		worker->no_place = false;
		worker->pid = MyProcPid;
		worker->started = GetCurrentTimestamp();
		pg_atomic_write_u32(&worker->stop, 0);
		pg_atomic_write_u64(&worker->proc, (uint64) (uintptr_t) MyProc);
	}
	LWLockRelease(Calvin->lock);
	return claimed ? slot : NULL;
}

void
handler_slot_succeeded(HandlerSlot *slot)
{
	/* the worker alone counts them while it runs */
	if (slot->worker.failures == 0 && !slot->retrying)
		return;
	LWLockAcquire(Calvin->lock, LW_EXCLUSIVE);
	slot->worker.failures = 0;
	LWLockRelease(Calvin->lock);
	SpinLockAcquire(&slot->mutex);
	slot->retrying = false;
	SpinLockRelease(&slot->mutex);
}

/* A worker that has failed says why, unless it died of it. */
static void
note_death_locked(WorkerSlot *worker)
{
	if (worker->last_error_at >= worker->started)
		return;
	strlcpy(worker->last_error, "the worker ended, see the server log",
			sizeof(worker->last_error));
	worker->last_error_at = GetCurrentTimestamp();
}

void
handler_slot_leave(HandlerSlot *slot, bool failed)
{
	WorkerSlot *worker = &slot->worker;
	DatabaseSlot *database;
	int64		delay = 0;

	LWLockAcquire(Calvin->lock, LW_EXCLUSIVE);
	database = database_find_locked(slot->task.database);
	/* who was told to leave, and did not hear of it in a call, was ended */
	if (failed && pg_atomic_read_u32(&worker->stop) == 0)
	{
		if (worker->failures > 0)
			delay = Min(FIRST_DELAY_MS << Min(worker->failures - 1, 6), LAST_DELAY_MS);
		worker->failures++;
		note_death_locked(worker);
	}
	worker->pid = 0;
	pg_atomic_write_u64(&worker->proc, 0);
	worker->status = WORKER_WANTED;
	worker->not_before = clock_ms() + delay;
	if (slot->ending || database == NULL)
		free_locked(slot);
	LWLockRelease(Calvin->lock);

	if (database != NULL)
	{
		/* its own task may have become another one, or the role be gone */
		handler_slots_tell(database);
		ConditionVariableBroadcast(&database->progress);
	}
	handler_slots_tell_of_room();
	requests_wake_launcher();
}

bool
handler_slot_attempt(HandlerSlot *slot, int partition)
{
	return pg_atomic_exchange_u32(&slot->attempt, (uint32) (partition + 1)) != 0;
}

void
handler_slots_attempted(const HandlerSlot *own, bool *attempted, int partitions)
{
	for (int i = 0; i < calvin_max_handlers; i++)
	{
		uint32		attempt;

		if (&slots[i] == own || pg_atomic_read_u32(&slots[i].attempt) == 0)
			continue;
		LWLockAcquire(Calvin->lock, LW_SHARED);
		attempt = pg_atomic_read_u32(&slots[i].attempt);
		if (attempt > 0 && attempt <= (uint32) partitions &&
			slots[i].task.database == own->task.database &&
			slots[i].task.id == own->task.id)
			attempted[attempt - 1] = true;
		LWLockRelease(Calvin->lock);
	}
}

/* What of "recent" is left after so long. */
static double
faded(const HandlerSlot *slot, TimestampTz now)
{
	return slot->recent * exp((double) (slot->recent_at - now) /
							  (RECENT_SECONDS * USECS_PER_SEC));
}

void
handler_slot_count(HandlerSlot *slot, int handled)
{
	TimestampTz now = GetCurrentTimestamp();
	double		recent;

	/* nobody else writes it */
	recent = faded(slot, now) + handled;
	SpinLockAcquire(&slot->mutex);
	slot->recent = recent;
	slot->recent_at = now;
	SpinLockRelease(&slot->mutex);
}

void
handler_slot_report(HandlerSlot *slot, const char *message, bool retrying)
{
	WorkerSlot *worker = &slot->worker;

	LWLockAcquire(Calvin->lock, LW_EXCLUSIVE);
	database_copy_error(worker->last_error, message);
	worker->last_error_at = GetCurrentTimestamp();
	LWLockRelease(Calvin->lock);
	SpinLockAcquire(&slot->mutex);
	slot->retrying = retrying;
	SpinLockRelease(&slot->mutex);
}

/*
 * Looking
 */

int
handler_slots_pids(Oid database, pid_t *pids, int max)
{
	int			n = 0;

	LWLockAcquire(Calvin->lock, LW_SHARED);
	for (int i = 0; i < calvin_max_handlers; i++)
	{
		if (slots[i].task.database != database ||
			slots[i].worker.status != WORKER_RUNNING)
			continue;
		if (n < max)
			pids[n] = slots[i].worker.pid;
		n++;
	}
	LWLockRelease(Calvin->lock);
	return n;
}

bool
handler_slots_full(void)
{
	bool		full = true;

	LWLockAcquire(Calvin->lock, LW_SHARED);
	for (int i = 0; i < calvin_max_handlers && full; i++)
		full = OidIsValid(slots[i].task.database);
	LWLockRelease(Calvin->lock);
	return full;
}

static double
rate_of(HandlerSlot *slot, TimestampTz now)
{
	HandlerSlot copy;

	SpinLockAcquire(&slot->mutex);
	copy.recent = slot->recent;
	copy.recent_at = slot->recent_at;
	SpinLockRelease(&slot->mutex);
	return faded(&copy, now) / RECENT_SECONDS;
}

int
handler_slots_view(Oid database, HandlerView *views)
{
	TimestampTz now = GetCurrentTimestamp();
	int			n = 0;

	LWLockAcquire(Calvin->lock, LW_SHARED);
	for (int i = 0; i < calvin_max_handlers; i++)
	{
		HandlerSlot *slot = &slots[i];
		const WorkerSlot *worker = &slot->worker;
		HandlerView *view = &views[n];
		const DatabaseSlot *holder;

		if (slot->task.database != database)
			continue;
		n++;
		holder = database_find_locked(database);
		view->task = slot->task;
		view->ending = slot->ending;
		view->status = worker->status;
		view->no_place = worker->no_place;
		view->held = holder != NULL && holder->holds > 0;
		view->retrying = slot->retrying || worker->failures > 0;
		view->pid = worker->pid;
		view->attempt = (int) pg_atomic_read_u32(&slot->attempt) - 1;
		view->rate = rate_of(slot, now);
		view->last_error_at = worker->last_error_at;
		memcpy(view->last_error, worker->last_error, sizeof(view->last_error));
	}
	LWLockRelease(Calvin->lock);
	return n;
}
