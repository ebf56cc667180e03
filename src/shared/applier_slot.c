/*
 * applier_slot.c
 *	  The life of a database's applier: every transition of its slot.
 *
 *	   free, NONE
 *		|	 ^  ^
 *		|	 |	+------------------------------------------------+
 *		|	 | forget: the database is gone						 |
 *	  adopt  |												   retire: the
 *		|	 |		 start				   claim			 extension is gone
 *		v	 |	  +----------->			 +--------->			 |
 *	   WANTED -----			 STARTING ---			RUNNING -----+
 *		^	  <---+			  |						  |
 *		|	   not_started: no place for the worker,  |
 *		|	   or it ended without a claim;			  |
 *		|	   reset_starting: another launcher;	  |
 *		|	   claim, while held					  |
 *		+---------------------------------------------+
 *						leave: the process ends, however
 *
 *	  transition			 made by					  under what condition
 *	  adopt					 the session that commits	  there is none for the
 *							 CREATE EXTENSION, or the	  database, and a free one
 *							 launcher after a probe
 *	  start					 the launcher				  WANTED, no holds, not
 *														  before not_before
 *	  not_started, reset	 the launcher				  STARTING with its token
 *	  claim					 the applier				  STARTING with its token,
 *														  no holds
 *	  leave, retire			 the applier				  RUNNING
 *	  forget				 the launcher				  WANTED
 *
 * "holds" lies across all of these: while there are any, WANTED does not become
 * STARTING nor STARTING RUNNING, and RUNNING is told to stop.  It is the number
 * of transactions under way that have run a command on the whole database.
 *
 * The lock is held for each transition, so that none is seen half made.  What
 * has to be told is told after it: the launcher by its latch, sessions by the
 * condition variables.
 */
#include "compat.h"

#include "miscadmin.h"
#include "shared/applier_slot.h"
#include "shared/clock.h"
#include "shared/database.h"
#include "shared/requests.h"
#include "shared/subscription.h"
#include "utils/timestamp.h"

/* Between an end without success and the next start: doubling up to the last. */
#define FIRST_DELAY_MS 1000
#define LAST_DELAY_MS 60000

bool
applier_slot_adopt(Oid database)
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
			slot->status = APPLIER_WANTED;
			slot->holds = 0;
			slot->failures = 0;
			slot->not_before = 0;
		}
		else
			Calvin->refused = true;
	}
	LWLockRelease(Calvin->lock);
	database_wake_proc(&Calvin->launcher_proc);
	ConditionVariableBroadcast(&Calvin->databases_changed);
	return slot != NULL;
}

Oid
applier_slot_wanted(DatabaseSlot *slot, long *wait)
{
	int64		now = clock_ms();
	Oid			database = InvalidOid;

	*wait = -1;
	LWLockAcquire(Calvin->lock, LW_SHARED);
	if (OidIsValid(slot->database) && slot->status == APPLIER_WANTED &&
		slot->holds == 0)
	{
		if (slot->not_before > now)
			*wait = (long) (slot->not_before - now);
		else
			database = slot->database;
	}
	LWLockRelease(Calvin->lock);
	return database;
}

bool
applier_slot_start(DatabaseSlot *slot, Oid database, uint32 *token)
{
	bool		wanted;

	LWLockAcquire(Calvin->lock, LW_EXCLUSIVE);
	wanted = slot->database == database && slot->status == APPLIER_WANTED &&
		slot->holds == 0;
	if (wanted)
	{
		slot->status = APPLIER_STARTING;
		*token = ++slot->start_token;
	}
	LWLockRelease(Calvin->lock);
	return wanted;
}

static bool
starting_locked(const DatabaseSlot *slot, uint32 token)
{
	return slot->status == APPLIER_STARTING && slot->start_token == token;
}

void
applier_slot_not_started(DatabaseSlot *slot, Oid database, uint32 token,
						 int delay_ms)
{
	LWLockAcquire(Calvin->lock, LW_EXCLUSIVE);
	if (slot->database == database && starting_locked(slot, token))
	{
		slot->status = APPLIER_WANTED;
		slot->not_before = clock_ms() + delay_ms;
	}
	LWLockRelease(Calvin->lock);
}

void
applier_slot_reset_starting(void)
{
	LWLockAcquire(Calvin->lock, LW_EXCLUSIVE);
	for (int i = 0; i < Calvin->max_databases; i++)
		if (Calvin->databases[i].status == APPLIER_STARTING)
		{
			Calvin->databases[i].start_token++;
			Calvin->databases[i].status = APPLIER_WANTED;
		}
	LWLockRelease(Calvin->lock);
}

DatabaseSlot *
applier_slot_claim(Oid database, uint32 token)
{
	DatabaseSlot *slot;

	LWLockAcquire(Calvin->lock, LW_EXCLUSIVE);
	slot = database_find_locked(database);
	if (slot != NULL && !starting_locked(slot, token))
		slot = NULL;
	else if (slot != NULL && slot->holds > 0)
	{
		slot->status = APPLIER_WANTED;
		slot = NULL;
	}
	if (slot != NULL)
	{
		slot->status = APPLIER_RUNNING;
		slot->applier_pid = MyProcPid;
		slot->applier_started = GetCurrentTimestamp();
		pg_atomic_write_u32(&slot->activity, ACTIVITY_STARTING);
		pg_atomic_write_u32(&slot->stop, 0);
		pg_atomic_write_u32(&slot->recheck, 0);
		pg_atomic_write_u64(&slot->catch_up_to, 0);
		pg_atomic_write_u64(&slot->applier_proc, (uint64) (uintptr_t) MyProc);
	}
	LWLockRelease(Calvin->lock);
	return slot;
}

void
applier_slot_succeeded(DatabaseSlot *slot)
{
	/* the applier alone counts them while it runs */
	if (slot->failures == 0)
		return;
	LWLockAcquire(Calvin->lock, LW_EXCLUSIVE);
	slot->failures = 0;
	LWLockRelease(Calvin->lock);
}

/* Nobody runs here any more. */
static void
vacate_locked(DatabaseSlot *slot)
{
	slot->applier_pid = 0;
	pg_atomic_write_u64(&slot->applier_proc, 0);
	pg_atomic_write_u32(&slot->activity, ACTIVITY_IDLE);
}

void
applier_slot_leave(DatabaseSlot *slot, bool failed)
{
	int64		delay = 0;

	LWLockAcquire(Calvin->lock, LW_EXCLUSIVE);
	if (failed)
	{
		delay = Min(FIRST_DELAY_MS << Min(slot->failures, 6), LAST_DELAY_MS);
		slot->failures++;
	}
	vacate_locked(slot);
	slot->status = APPLIER_WANTED;
	slot->not_before = clock_ms() + delay;
	LWLockRelease(Calvin->lock);

	ConditionVariableBroadcast(&slot->progress);
	database_wake_proc(&Calvin->launcher_proc);
}

void
applier_slot_forget(DatabaseSlot *slot, Oid database)
{
	subscription_release_database(database);

	LWLockAcquire(Calvin->lock, LW_EXCLUSIVE);
	Assert(slot->database == database);
	vacate_locked(slot);
	slot->database = InvalidOid;
	slot->status = APPLIER_NONE;
	if (Calvin->refused)
		Calvin->rescan = true;
	Calvin->refused = false;
	LWLockRelease(Calvin->lock);

	/* sessions that wait for something of it look again */
	ConditionVariableBroadcast(&slot->progress);
	ConditionVariableBroadcast(&Calvin->databases_changed);
	/* the extension may have been created anew meanwhile */
	requests_post(database);
}

void
applier_slot_retire(DatabaseSlot *slot)
{
	applier_slot_forget(slot, slot->database);
}

DatabaseSlot *
applier_slot_hold(Oid database)
{
	DatabaseSlot *slot;

	LWLockAcquire(Calvin->lock, LW_EXCLUSIVE);
	slot = database_find_locked(database);
	if (slot != NULL)
	{
		slot->holds++;
		pg_atomic_write_u32(&slot->stop, 1);
	}
	LWLockRelease(Calvin->lock);
	if (slot != NULL)
		database_wake_proc(&slot->applier_proc);
	return slot;
}

void
applier_slot_release(Oid database)
{
	DatabaseSlot *slot;

	LWLockAcquire(Calvin->lock, LW_EXCLUSIVE);
	slot = database_find_locked(database);
	if (slot != NULL && slot->holds > 0)
	{
		slot->holds--;
		slot->not_before = 0;
	}
	LWLockRelease(Calvin->lock);
	/* also wakes the launcher, which looks whether it still exists */
	requests_post(database);
}

pid_t
applier_slot_pid(Oid database)
{
	DatabaseSlot *slot;
	pid_t		pid = 0;

	LWLockAcquire(Calvin->lock, LW_SHARED);
	slot = database_find_locked(database);
	if (slot != NULL)
		pid = slot->applier_pid;
	LWLockRelease(Calvin->lock);
	return pid;
}

void
applier_slot_tell_appended(void)
{
	DatabaseSlot *slot = database_mine();

	if (slot == NULL)
	{
		requests_post_mine();
		return;
	}
	pg_atomic_fetch_add_u64(&slot->appends, 1);
	database_wake_proc(&slot->applier_proc);
}

void
applier_slot_ask_to_recheck(void)
{
	DatabaseSlot *slot = database_mine();

	if (slot == NULL)
		return;
	pg_atomic_write_u32(&slot->recheck, 1);
	database_wake_proc(&slot->applier_proc);
}

bool
applier_slot_take_recheck(DatabaseSlot *slot)
{
	return pg_atomic_exchange_u32(&slot->recheck, 0) != 0;
}
