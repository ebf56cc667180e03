/*
 * handler_slot.c
 *	  The workers that run handlers: every transition of their slots.
 *
 *	  A slot is one worker of a definition:
 *
 *			  sync				  start				  claim
 *		FREE -------> WANTED -------------> STARTING -------> RUNNING
 *		 ^ ^			|  ^ <------------------+				 |
 *		 | |	sync,	|  |	not_started, reset_starting		 |
 *		 | +------------+  +-------------------------------------+
 *		 |		forget		 leave								 |
 *		 +-------------------------------------------------------+
 *						leave, when it was given up
 *
 *	  transition			made by				under what condition
 *	  sync					the sequencer		by what the definitions are
 *	  start					the launcher		WANTED, its database not held, no
 *												standby, not before not_before
 *	  not_started, reset	the launcher		STARTING with its token
 *	  claim					the worker			STARTING with its token, not held
 *	  leave					the worker			RUNNING
 *	  forget				who ends the slot	of that database
 *							of the database
 *
 * A worker that runs in a slot that is given up is told to stop, and the slot is free
 * when it has left.  One that is STARTING then finds another token.
 *
 * All of it is under the lock of the slots but the words to stop and of the counters,
 * which are written by the worker, the first by who gives a slot up, and read by anyone.
 */
#include "compat.h"

#include "access/xlog.h"
#include "miscadmin.h"
#include "shared/clock.h"
#include "shared/database.h"
#include "shared/handler_slot.h"
#include "shared/requests.h"
#include "storage/latch.h"
#include "storage/shmem.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

/* Between an end in failure and the next start: doubling up to the last. */
#define FIRST_DELAY_MS 1000
#define LAST_DELAY_MS 60000

/* The rate is that of this long, and of what came of the next such time. */
#define RATE_MS 10000

typedef struct HandlerSlot
{
	bool		in_use;
	bool		given_up;	/* free when the worker has left */
	Oid			database;
	HandlerWanted wanted;
	int			number;		/* of the definition's workers, from 0 */
	WorkerStatus status;
	bool		no_place;
	uint32		token;
	int			failures;
	int64		not_before;
	pid_t		pid;
	PGPROC	   *proc;
	TimestampTz last_error_at;
	char		last_error[CALVIN_ERROR_LEN];

	pg_atomic_uint32 stop;
	pg_atomic_uint64 processed;
	pg_atomic_uint64 failed;
	pg_atomic_uint64 rate_since; /* clock_ms() of the window's beginning, */
	pg_atomic_uint64 rate_count; /* what came in it, */
	pg_atomic_uint64 rate_before; /* and in the one before */
} HandlerSlot;

int			calvin_max_handlers = 8;

static HandlerSlot *slots;
static pg_atomic_uint32 *changed; /* of each database slot: look at the definitions */

void
handler_slots_define_settings(void)
{
	DefineCustomIntVariable("calvin_seq.max_handlers",
							"Workers that run handlers at the same time.",
							"In all databases together; each takes one of max_worker_processes.",
							&calvin_max_handlers,
							8, 0, 1024,
							PGC_POSTMASTER, 0,
							NULL, NULL, NULL);
}

static Size
slots_size(void)
{
	return MAXALIGN(mul_size(calvin_max_handlers, sizeof(HandlerSlot)));
}

Size
handler_slots_shmem_size(void)
{
	return add_size(slots_size(),
					mul_size(calvin_max_databases, sizeof(pg_atomic_uint32)));
}

void
handler_slots_shmem_init(void)
{
	bool		found;

	slots = ShmemInitStruct("calvin_seq handlers", handler_slots_shmem_size(), &found);
	changed = (pg_atomic_uint32 *) ((char *) slots + slots_size());
	if (found)
		return;
	memset(slots, 0, slots_size());
	for (int i = 0; i < calvin_max_handlers; i++)
	{
		pg_atomic_init_u32(&slots[i].stop, 0);
		pg_atomic_init_u64(&slots[i].processed, 0);
		pg_atomic_init_u64(&slots[i].failed, 0);
		pg_atomic_init_u64(&slots[i].rate_since, 0);
		pg_atomic_init_u64(&slots[i].rate_count, 0);
		pg_atomic_init_u64(&slots[i].rate_before, 0);
	}
	for (int i = 0; i < calvin_max_databases; i++)
		pg_atomic_init_u32(&changed[i], 1);
}

/* The worker sees it when it is woken. */
static void
stop_locked(HandlerSlot *slot)
{
	pg_atomic_write_u32(&slot->stop, 1);
	if (slot->proc != NULL)
		SetLatch(&slot->proc->procLatch);
}

static void
give_up_locked(HandlerSlot *slot)
{
	if (slot->status == WORKER_RUNNING)
	{
		slot->given_up = true;
		stop_locked(slot);
		return;
	}
	slot->token++;
	slot->in_use = false;
	slot->status = WORKER_NONE;
}

static HandlerSlot *
find_locked(Oid database, uint64 definition, int number)
{
	for (int i = 0; i < calvin_max_handlers; i++)
		if (slots[i].in_use && !slots[i].given_up && slots[i].database == database &&
			slots[i].wanted.definition == definition && slots[i].number == number)
			return &slots[i];
	return NULL;
}

/* False: all are taken. */
static bool
take_free_locked(Oid database, const HandlerWanted *wanted, int number)
{
	for (int i = 0; i < calvin_max_handlers; i++)
	{
		HandlerSlot *slot = &slots[i];

		if (slot->in_use)
			continue;
		slot->in_use = true;
		slot->given_up = false;
		slot->database = database;
		slot->wanted = *wanted;
		slot->number = number;
		slot->status = WORKER_WANTED;
		slot->no_place = false;
		slot->failures = 0;
		slot->not_before = 0;
		slot->last_error_at = 0;
		pg_atomic_write_u64(&slot->processed, 0);
		pg_atomic_write_u64(&slot->failed, 0);
		pg_atomic_write_u64(&slot->rate_since, 0);
		pg_atomic_write_u64(&slot->rate_count, 0);
		pg_atomic_write_u64(&slot->rate_before, 0);
		return true;
	}
	return false;
}

static bool
is_wanted(const HandlerSlot *slot, int n, const HandlerWanted *wanted)
{
	for (int i = 0; i < n; i++)
		if (wanted[i].definition == slot->wanted.definition &&
			slot->number < wanted[i].workers)
			return true;
	return false;
}

int
handler_slots_sync(Oid database, int n, const HandlerWanted *wanted)
{
	int			lacking = 0;

	LWLockAcquire(Calvin->lock, LW_EXCLUSIVE);
	for (int i = 0; i < calvin_max_handlers; i++)
		if (slots[i].in_use && slots[i].database == database &&
			!is_wanted(&slots[i], n, wanted))
			give_up_locked(&slots[i]);
	for (int i = 0; i < n; i++)
		for (int w = 0; w < wanted[i].workers; w++)
			if (find_locked(database, wanted[i].definition, w) == NULL &&
				!take_free_locked(database, &wanted[i], w))
				lacking++;
	LWLockRelease(Calvin->lock);
	requests_wake_launcher();
	return lacking;
}

static void
note_changed_locked(int number)
{
	pg_atomic_write_u32(&changed[number], 1);
}

void
handler_slots_note_changed(Oid database)
{
	DatabaseSlot *slot;

	LWLockAcquire(Calvin->lock, LW_SHARED);
	slot = database_find_locked(database);
	if (slot != NULL)
		note_changed_locked((int) (slot - Calvin->databases));
	LWLockRelease(Calvin->lock);
	if (slot != NULL)
		database_wake_sequencer(slot);
}

void
handler_slots_note_all_changed(void)
{
	for (int i = 0; i < Calvin->max_databases; i++)
	{
		note_changed_locked(i);
		database_wake_sequencer(&Calvin->databases[i]);
	}
}

bool
handler_slots_take_changed(DatabaseSlot *slot)
{
	pg_atomic_uint32 *word = &changed[slot - Calvin->databases];

	return pg_atomic_read_u32(word) != 0 && pg_atomic_exchange_u32(word, 0) != 0;
}

bool
handler_slots_any(Oid database)
{
	bool		any = false;

	LWLockAcquire(Calvin->lock, LW_SHARED);
	for (int i = 0; i < calvin_max_handlers && !any; i++)
		any = slots[i].in_use && slots[i].database == database;
	LWLockRelease(Calvin->lock);
	return any;
}

static bool
held_locked(Oid database)
{
	const DatabaseSlot *slot = database_find_locked(database);

	return slot == NULL || slot->holds > 0 || slot->ending;
}

bool
handler_slots_start(int number, HandlerArgs *args, long *wait)
{
	HandlerSlot *slot = &slots[number];
	int64		now = clock_ms();
	bool		start = false;

	*wait = -1;
	LWLockAcquire(Calvin->lock, LW_EXCLUSIVE);
	if (slot->in_use && slot->status == WORKER_WANTED && !held_locked(slot->database))
	{
		start = slot->not_before <= now;
		if (!start)
			*wait = (long) (slot->not_before - now);
	}
	if (start)
	{
		slot->status = WORKER_STARTING;
		args->database = slot->database;
		args->role = slot->wanted.role;
		args->slot = number;
		args->token = ++slot->token;
	}
	LWLockRelease(Calvin->lock);
	return start;
}

static bool
starting_locked(const HandlerSlot *slot, const HandlerArgs *args)
{
	return slot->in_use && slot->status == WORKER_STARTING &&
		slot->token == args->token;
}

void
handler_slots_not_started(const HandlerArgs *args, int delay_ms, bool no_place)
{
	HandlerSlot *slot = &slots[args->slot];

	LWLockAcquire(Calvin->lock, LW_EXCLUSIVE);
	if (starting_locked(slot, args))
	{
		slot->status = WORKER_WANTED;
		slot->not_before = clock_ms() + delay_ms;
		slot->no_place = no_place;
	}
	LWLockRelease(Calvin->lock);
}

void
handler_slots_reset_starting(void)
{
	LWLockAcquire(Calvin->lock, LW_EXCLUSIVE);
	for (int i = 0; i < calvin_max_handlers; i++)
		if (slots[i].in_use && slots[i].status == WORKER_STARTING)
		{
			slots[i].token++;
			slots[i].status = WORKER_WANTED;
		}
	LWLockRelease(Calvin->lock);
}

bool
handler_slots_claim(const HandlerArgs *args, HandlerWanted *mine)
{
	HandlerSlot *slot = &slots[args->slot];
	bool		claimed;

	LWLockAcquire(Calvin->lock, LW_EXCLUSIVE);
	claimed = starting_locked(slot, args);
	if (claimed && held_locked(slot->database))
	{
		slot->status = WORKER_WANTED;
		claimed = false;
	}
	if (claimed)
	{
		slot->status = WORKER_RUNNING;
		slot->no_place = false;
		slot->pid = MyProcPid;
		slot->proc = MyProc;
		pg_atomic_write_u32(&slot->stop, 0);
		*mine = slot->wanted;
	}
	LWLockRelease(Calvin->lock);
	return claimed;
}

void
handler_slots_leave(int number, bool failed)
{
	HandlerSlot *slot = &slots[number];
	DatabaseSlot *database;
	int64		delay = 0;

	LWLockAcquire(Calvin->lock, LW_EXCLUSIVE);
	if (failed)
	{
		delay = Min(FIRST_DELAY_MS << Min(slot->failures, 6), LAST_DELAY_MS);
		slot->failures++;
	}
	slot->pid = 0;
	slot->proc = NULL;
	slot->status = slot->given_up ? WORKER_NONE : WORKER_WANTED;
	slot->not_before = clock_ms() + delay;
	if (slot->given_up)
		slot->in_use = false;
	database = database_find_locked(slot->database);
	/* a place is free: somebody may lack one */
	if (slot->given_up)
		for (int i = 0; i < Calvin->max_databases; i++)
			note_changed_locked(i);
	LWLockRelease(Calvin->lock);
	/* commands that need the database alone wait for it */
	if (database != NULL)
		ConditionVariableBroadcast(&database->progress);
	if (slot->given_up)
		for (int i = 0; i < Calvin->max_databases; i++)
			database_wake_sequencer(&Calvin->databases[i]);
	requests_wake_launcher();
}

void
handler_slots_count(int number, uint64 processed, uint64 failed)
{
	HandlerSlot *slot = &slots[number];
	uint64		now = (uint64) clock_ms();
	uint64		since = pg_atomic_read_u64(&slot->rate_since);

	pg_atomic_fetch_add_u64(&slot->processed, processed);
	pg_atomic_fetch_add_u64(&slot->failed, failed);
	if (now - since >= RATE_MS)
	{
		pg_atomic_write_u64(&slot->rate_before, now - since < 2 * RATE_MS ?
							pg_atomic_read_u64(&slot->rate_count) : 0);
		pg_atomic_write_u64(&slot->rate_count, 0);
		pg_atomic_write_u64(&slot->rate_since, now);
	}
	pg_atomic_fetch_add_u64(&slot->rate_count, processed);
	/* whatever went wrong before is over; the worker alone counts while it runs */
	if (processed > 0 && slot->failures > 0)
	{
		LWLockAcquire(Calvin->lock, LW_EXCLUSIVE);
		slot->failures = 0;
		LWLockRelease(Calvin->lock);
	}
}

/* The window before counts for as much of it as the present one lacks. */
static double
rate_of(HandlerSlot *slot)
{
	double		age = (double) ((uint64) clock_ms() -
								pg_atomic_read_u64(&slot->rate_since));
	double		count = (double) pg_atomic_read_u64(&slot->rate_count);
	double		before = (double) pg_atomic_read_u64(&slot->rate_before);

	if (age >= 2 * RATE_MS)
		return 0;
	if (age < RATE_MS)
		count += before * (RATE_MS - age) / RATE_MS;
	else
		count *= (2 * RATE_MS - age) / RATE_MS;
	return count * 1000 / RATE_MS;
}

void
handler_slots_report_error(int number, const char *message)
{
	HandlerSlot *slot = &slots[number];
	TimestampTz now = GetCurrentTimestamp();

	LWLockAcquire(Calvin->lock, LW_EXCLUSIVE);
	strlcpy(slot->last_error, message, sizeof(slot->last_error));
	slot->last_error_at = now;
	LWLockRelease(Calvin->lock);
}

bool
handler_slots_stop_asked(int number)
{
	return pg_atomic_read_u32(&slots[number].stop) != 0;
}

void
handler_slots_stop(Oid database)
{
	LWLockAcquire(Calvin->lock, LW_EXCLUSIVE);
	for (int i = 0; i < calvin_max_handlers; i++)
		if (slots[i].in_use && slots[i].database == database)
			stop_locked(&slots[i]);
	LWLockRelease(Calvin->lock);
}

pid_t
handler_slots_running(Oid database, int *next)
{
	pid_t		pid = 0;

	LWLockAcquire(Calvin->lock, LW_SHARED);
	for (; *next < calvin_max_handlers && pid == 0; (*next)++)
		if (slots[*next].in_use && slots[*next].database == database)
			pid = slots[*next].pid;
	LWLockRelease(Calvin->lock);
	return pid;
}

void
handler_slots_forget_locked(Oid database)
{
	for (int i = 0; i < calvin_max_handlers; i++)
		if (slots[i].in_use && slots[i].database == database)
			give_up_locked(&slots[i]);
}

bool
handler_slots_view(int number, HandlerView *view)
{
	HandlerSlot *slot = &slots[number];
	bool		mine;

	LWLockAcquire(Calvin->lock, LW_SHARED);
	mine = slot->in_use && !slot->given_up && slot->database == MyDatabaseId;
	if (mine)
	{
		view->definition = slot->wanted.definition;
		view->status = slot->status;
		view->no_place = slot->no_place;
		view->pid = slot->pid;
		view->last_error_at = slot->last_error_at;
		memcpy(view->last_error, slot->last_error, sizeof(view->last_error));
	}
	LWLockRelease(Calvin->lock);
	if (!mine)
		return false;
	view->processed = pg_atomic_read_u64(&slot->processed);
	view->failed = pg_atomic_read_u64(&slot->failed);
	view->rate = rate_of(slot);
	return true;
}
