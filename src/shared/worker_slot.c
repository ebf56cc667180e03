/*
 * worker_slot.c
 *	  The life of a database's workers: every transition of its slot.
 *
 *	  A slot:
 *
 *			 adopt					   forget, retire
 *	   free -------> of a database -------------------> ending ------> free
 *														when no worker runs,
 *														perhaps at once
 *
 *	  Each of its two workers, the applier and the sequencer, by itself:
 *
 *	   NONE <-----------------------------------------------------+
 *		|	 ^													  |
 *		|	 | forget, retire of the other one,					  | retire, or
 *	  adopt  | from WANTED and STARTING							  | leave when
 *		|	 |		 start				   claim			  | ending
 *		v	 |	  +----------->			 +--------->			  |
 *	   WANTED -----			 STARTING ---			RUNNING ------+
 *		^	  <---+			  |						  |
 *		|	   not_started, no_place: no place for	  |
 *		|	   the worker, or it ended without a	  |
 *		|	   claim; reset_starting: another		  |
 *		|	   launcher; claim, while held			  |
 *		+---------------------------------------------+
 *						leave: the process ends, however
 *
 *	  transition			 made by					  under what condition
 *	  adopt					 the session that commits	  there is none for the
 *							 CREATE EXTENSION, or the	  database, and a free one
 *							 launcher after a probe
 *	  start					 the launcher				  WANTED, no holds, not
 *														  before not_before; the
 *														  sequencer: no standby
 *	  not_started, no_place, the launcher				  STARTING with its token
 *	  reset
 *	  claim					 the worker					  STARTING with its token,
 *														  no holds
 *	  leave, retire			 the worker					  RUNNING
 *	  forget				 the launcher				  of that database
 *
 * A slot may not be given to another database while a worker of the last one
 * writes into it.  So who finds the extension or the database gone says that
 * the slot is ending: a worker that runs is told to stop, none is started, and
 * the last one to leave frees the slot.
 *
 * A sequencer that runs is also told to stop where places for workers are too
 * few and an applier has none: make_room, by the launcher.
 *
 * The handlers of a database (handler_slot.c) end with its slot, and are held with it.
 *
 * "holds" lies across all of these: while there are any, WANTED does not become
 * STARTING nor STARTING RUNNING, and RUNNING is told to stop.  It is the number
 * of transactions under way that have run a command on the whole database.
 *
 * The lock is held for each transition, so that none is seen half made.  What
 * has to be told is told after it: workers and the launcher by their latches,
 * sessions by the condition variables.
 */
#include "compat.h"

#include "miscadmin.h"
#include "shared/bound.h"
#include "shared/clock.h"
#include "shared/database.h"
#include "shared/handler_slot.h"
#include "shared/requests.h"
#include "shared/subscription.h"
#include "shared/worker_slot.h"
#include "utils/timestamp.h"

/* Between an end without success and the next start: doubling up to the last. */
#define FIRST_DELAY_MS 1000
#define LAST_DELAY_MS 60000

bool
worker_slot_adopt(Oid database)
{
	DatabaseSlot *slot;

	LWLockAcquire(Calvin->lock, LW_EXCLUSIVE);
	slot = database_find_locked(database);
	if (slot == NULL)
	{
		slot = database_find_locked(InvalidOid);
		if (slot != NULL)
		{
			database_begin_locked(slot, database);
			slot->holds = 0;
			slot->ending = false;
			for (int i = 0; i < WORKER_KINDS; i++)
			{
				slot->workers[i].status = WORKER_WANTED;
				slot->workers[i].no_place = false;
				slot->workers[i].failures = 0;
				slot->workers[i].not_before = 0;
			}
		}
		else
			Calvin->refused = true;
	}
	LWLockRelease(Calvin->lock);
	requests_wake_launcher();
	ConditionVariableBroadcast(&Calvin->databases_changed);
	return slot != NULL;
}

static bool
wanted_locked(const DatabaseSlot *slot, WorkerKind kind)
{
	return OidIsValid(slot->database) && slot->holds == 0 &&
		slot->workers[kind].status == WORKER_WANTED;
}

Oid
worker_slot_wanted(DatabaseSlot *slot, WorkerKind kind, long *wait)
{
	int64		now = clock_ms();
	Oid			database = InvalidOid;

	*wait = -1;
	LWLockAcquire(Calvin->lock, LW_SHARED);
	if (wanted_locked(slot, kind))
	{
		int64		not_before = slot->workers[kind].not_before;

		if (not_before > now)
			*wait = (long) (not_before - now);
		else
			database = slot->database;
	}
	LWLockRelease(Calvin->lock);
	return database;
}

bool
worker_slot_any_wanted(WorkerKind kind)
{
	bool		any = false;

	LWLockAcquire(Calvin->lock, LW_SHARED);
	for (int i = 0; i < Calvin->max_databases && !any; i++)
		any = wanted_locked(&Calvin->databases[i], kind);
	LWLockRelease(Calvin->lock);
	return any;
}

bool
worker_slot_start(DatabaseSlot *slot, WorkerKind kind, Oid database,
				  uint32 *token)
{
	WorkerSlot *worker = &slot->workers[kind];
	bool		wanted;

	LWLockAcquire(Calvin->lock, LW_EXCLUSIVE);
	wanted = slot->database == database && wanted_locked(slot, kind);
	if (wanted)
	{
		worker->status = WORKER_STARTING;
		*token = ++worker->start_token;
	}
	LWLockRelease(Calvin->lock);
	return wanted;
}

static bool
starting_locked(const WorkerSlot *worker, uint32 token)
{
	return worker->status == WORKER_STARTING && worker->start_token == token;
}

static void
not_started(DatabaseSlot *slot, WorkerKind kind, Oid database, uint32 token,
			int delay_ms, bool no_place)
{
	WorkerSlot *worker = &slot->workers[kind];

	LWLockAcquire(Calvin->lock, LW_EXCLUSIVE);
	if (slot->database == database && starting_locked(worker, token))
	{
		worker->status = WORKER_WANTED;
		worker->not_before = clock_ms() + delay_ms;
		worker->no_place = no_place;
	}
	LWLockRelease(Calvin->lock);
}

void
worker_slot_not_started(DatabaseSlot *slot, WorkerKind kind, Oid database,
						uint32 token, int delay_ms)
{
	not_started(slot, kind, database, token, delay_ms, false);
}

void
worker_slot_no_place(DatabaseSlot *slot, WorkerKind kind, Oid database,
					 uint32 token)
{
	not_started(slot, kind, database, token, 0, true);
}

bool
worker_slot_make_room(pid_t *late)
{
	DatabaseSlot *chosen = NULL;

	*late = 0;
	LWLockAcquire(Calvin->lock, LW_EXCLUSIVE);
	for (int i = 0; i < Calvin->max_databases; i++)
	{
		WorkerSlot *worker = &Calvin->databases[i].workers[WORKER_SEQUENCER];

		if (worker->status != WORKER_RUNNING)
			continue;
		chosen = &Calvin->databases[i];
		if (pg_atomic_read_u32(&worker->stop) != 0)
		{
			*late = worker->pid;
			break;
		}
	}
	if (chosen != NULL)
		pg_atomic_write_u32(&chosen->workers[WORKER_SEQUENCER].stop, 1);
	LWLockRelease(Calvin->lock);
	if (chosen != NULL)
		database_wake_sequencer(chosen);
	return chosen != NULL;
}

void
worker_slot_reset_starting(void)
{
	LWLockAcquire(Calvin->lock, LW_EXCLUSIVE);
	for (int i = 0; i < Calvin->max_databases; i++)
		for (int k = 0; k < WORKER_KINDS; k++)
		{
			WorkerSlot *worker = &Calvin->databases[i].workers[k];

			if (worker->status == WORKER_STARTING)
			{
				worker->start_token++;
				worker->status = WORKER_WANTED;
			}
		}
	LWLockRelease(Calvin->lock);
}

DatabaseSlot *
worker_slot_claim(Oid database, WorkerKind kind, uint32 token)
{
	DatabaseSlot *slot;

	LWLockAcquire(Calvin->lock, LW_EXCLUSIVE);
	slot = database_find_locked(database);
	if (slot != NULL && !starting_locked(&slot->workers[kind], token))
		slot = NULL;
	else if (slot != NULL && slot->holds > 0)
	{
		slot->workers[kind].status = WORKER_WANTED;
		slot = NULL;
	}
	if (slot != NULL)
	{
		WorkerSlot *worker = &slot->workers[kind];

		worker->status = WORKER_RUNNING;
		worker->no_place = false;
		worker->pid = MyProcPid;
		worker->started = GetCurrentTimestamp();
		pg_atomic_write_u32(&worker->stop, 0);
		pg_atomic_write_u32(&worker->recheck, 0);
		pg_atomic_write_u64(&worker->proc, (uint64) (uintptr_t) MyProc);
		if (kind == WORKER_APPLIER)
		{
			pg_atomic_write_u32(&slot->activity, ACTIVITY_STARTING);
			pg_atomic_write_u64(&slot->catch_up_to, 0);
		}
	}
	LWLockRelease(Calvin->lock);
	return slot;
}

void
worker_slot_succeeded(DatabaseSlot *slot, WorkerKind kind)
{
	/* the worker alone counts them while it runs */
	if (slot->workers[kind].failures == 0)
		return;
	LWLockAcquire(Calvin->lock, LW_EXCLUSIVE);
	slot->workers[kind].failures = 0;
	LWLockRelease(Calvin->lock);
}

/* This process does not run here any more. */
static void
vacate_locked(DatabaseSlot *slot, WorkerKind kind)
{
	slot->workers[kind].pid = 0;
	pg_atomic_write_u64(&slot->workers[kind].proc, 0);
	if (kind == WORKER_APPLIER)
		pg_atomic_write_u32(&slot->activity, ACTIVITY_IDLE);
}

/*
 * Nobody is started in an ending slot, and who runs is told to stop; without
 * anybody it is free, and the database's subscriptions end.  That is one step:
 * who subscribes finds either both or neither.  Returns whether it is free.
 */
static bool
end_locked(DatabaseSlot *slot)
{
	bool		running = false;

	slot->ending = true;
	handler_slots_stop_locked(slot->database, true);
	for (int i = 0; i < WORKER_KINDS; i++)
	{
		WorkerSlot *worker = &slot->workers[i];

		if (worker->status == WORKER_RUNNING)
		{
			running = true;
			pg_atomic_write_u32(&worker->stop, 1);
			continue;
		}
		/* one on its way finds that it may not claim */
		worker->start_token++;
		worker->status = WORKER_NONE;
	}
	if (running)
		return false;
	subscription_release_database_locked(slot->database);
	slot->database = InvalidOid;
	slot->ending = false;
	if (Calvin->refused)
		Calvin->rescan = true;
	Calvin->refused = false;
	return true;
}

/* What there is to tell of a slot that is ending, or else free. */
static void
tell_of_end(DatabaseSlot *slot, Oid database, bool is_free)
{
	/* sessions that wait for something of it look again */
	ConditionVariableBroadcast(&slot->progress);
	handler_slots_wake(database);
	/* of handlers that did not run just now nobody else tells */
	handler_slots_tell_of_room();
	if (!is_free)
	{
		for (int i = 0; i < WORKER_KINDS; i++)
			database_wake(slot, (WorkerKind) i);
		return;
	}
	ConditionVariableBroadcast(&Calvin->databases_changed);
	/* the extension may have been created anew meanwhile */
	requests_post(database);
}

void
worker_slot_leave(DatabaseSlot *slot, WorkerKind kind, bool failed)
{
	WorkerSlot *worker = &slot->workers[kind];
	Oid			database;
	int64		delay = 0;
	bool		ending;
	bool		is_free = false;

	LWLockAcquire(Calvin->lock, LW_EXCLUSIVE);
	database = slot->database;
	ending = slot->ending;
	if (failed)
	{
		delay = Min(FIRST_DELAY_MS << Min(worker->failures, 6), LAST_DELAY_MS);
		worker->failures++;
	}
	vacate_locked(slot, kind);
	worker->status = WORKER_WANTED;
	worker->not_before = clock_ms() + delay;
	if (ending)
		is_free = end_locked(slot);
	LWLockRelease(Calvin->lock);

	if (ending)
		tell_of_end(slot, database, is_free);
	else
	{
		ConditionVariableBroadcast(&slot->progress);
		requests_wake_launcher();
	}
}

void
worker_slot_forget(DatabaseSlot *slot, Oid database)
{
	bool		is_free;

	LWLockAcquire(Calvin->lock, LW_EXCLUSIVE);
	if (slot->database != database)
	{
		LWLockRelease(Calvin->lock);
		return;
	}
	is_free = end_locked(slot);
	LWLockRelease(Calvin->lock);
	tell_of_end(slot, database, is_free);
}

void
worker_slot_retire(DatabaseSlot *slot, WorkerKind kind)
{
	Oid			database;
	bool		is_free;

	LWLockAcquire(Calvin->lock, LW_EXCLUSIVE);
	database = slot->database;
	vacate_locked(slot, kind);
	slot->workers[kind].status = WORKER_NONE;
	is_free = end_locked(slot);
	LWLockRelease(Calvin->lock);
	tell_of_end(slot, database, is_free);
}

void
worker_slot_begin_anew(DatabaseSlot *slot)
{
	LWLockAcquire(Calvin->lock, LW_EXCLUSIVE);
	subscription_release_database_locked(slot->database);
	pg_atomic_fetch_add_u32(&slot->subs_changed, 1);
	database_reset_locked(slot);
	LWLockRelease(Calvin->lock);
	ConditionVariableBroadcast(&slot->progress);
}

DatabaseSlot *
worker_slot_hold(Oid database)
{
	DatabaseSlot *slot;

	LWLockAcquire(Calvin->lock, LW_EXCLUSIVE);
	slot = database_find_locked(database);
	if (slot != NULL)
	{
		slot->holds++;
		for (int i = 0; i < WORKER_KINDS; i++)
			pg_atomic_write_u32(&slot->workers[i].stop, 1);
		handler_slots_stop_locked(database, false);
	}
	LWLockRelease(Calvin->lock);
	if (slot != NULL)
	{
		for (int i = 0; i < WORKER_KINDS; i++)
			database_wake(slot, (WorkerKind) i);
		handler_slots_wake(database);
	}
	return slot;
}

void
worker_slot_release(Oid database)
{
	DatabaseSlot *slot;

	LWLockAcquire(Calvin->lock, LW_EXCLUSIVE);
	slot = database_find_locked(database);
	if (slot != NULL && slot->holds > 0)
	{
		slot->holds--;
		/* if it was dropped, the next one of this OID may have the same log's */
		bound_reset(slot);
		for (int i = 0; i < WORKER_KINDS; i++)
			slot->workers[i].not_before = 0;
		handler_slots_release_locked(database);
	}
	LWLockRelease(Calvin->lock);
	/* also wakes the launcher, which looks whether it still exists */
	requests_post(database);
}

pid_t
worker_slot_pid(Oid database, WorkerKind kind)
{
	DatabaseSlot *slot;
	pid_t		pid = 0;

	LWLockAcquire(Calvin->lock, LW_SHARED);
	slot = database_find_locked(database);
	if (slot != NULL)
		pid = slot->workers[kind].pid;
	LWLockRelease(Calvin->lock);
	return pid;
}

void
worker_slot_tell_appended(void)
{
	DatabaseSlot *slot = database_mine();

	if (slot == NULL)
	{
		requests_post_mine();
		return;
	}
	pg_atomic_fetch_add_u64(&slot->appends, 1);
	database_wake_applier(slot);
}

void
worker_slot_ask_to_recheck(void)
{
	DatabaseSlot *slot = database_mine();

	if (slot == NULL)
		return;
	for (int i = 0; i < WORKER_KINDS; i++)
	{
		pg_atomic_write_u32(&slot->workers[i].recheck, 1);
		database_wake(slot, (WorkerKind) i);
	}
}

bool
worker_slot_take_recheck(DatabaseSlot *slot, WorkerKind kind)
{
	return pg_atomic_exchange_u32(&slot->workers[kind].recheck, 0) != 0;
}
