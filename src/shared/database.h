/*
 * database.h
 *	  Database slots: finding them, publishing and reading their state.
 */
#ifndef CALVIN_SHARED_DATABASE_H
#define CALVIN_SHARED_DATABASE_H

#include "compat.h"

#include "shared/shmem.h"

/* The slot of a database, or NULL.  The caller holds the lock. */
extern DatabaseSlot *database_find_locked(Oid database);

/* A free slot becomes a database's, with nothing applied. */
extern void database_begin_locked(DatabaseSlot *slot, Oid database);

/*
 * The slot of this session's database, or NULL.  Takes the lock, unless the
 * slot found by the last call still serves.
 */
extern DatabaseSlot *database_mine(void);

extern bool database_has_slot(Oid database);

/*
 * The slot of this session's database if it is for this seq_log, or for none
 * so far: then it is from here on.  Otherwise NULL, and whether there is none
 * and none can be had.
 */
extern DatabaseSlot *database_serving(Oid log, bool *full);

/* The same for the applier, which has its slot; false: it is for another log. */
extern bool database_bind(DatabaseSlot *slot, Oid log);

/* Only the applier publishes; it also wakes who waits for progress. */
extern void database_publish(DatabaseSlot *slot, const PublishedState *state);
extern void database_read(DatabaseSlot *slot, PublishedState *state);

/*
 * Who stands before an epoch that is to be read from the log is to be woken when
 * more is applied.  Whoever calls this has published where he stands, and reads
 * the state again afterwards, before he waits.
 */
extern void database_wake_until(DatabaseSlot *slot, uint64 epoch);

/* The applier's only: how long an entry took from append to fan-out. */
extern void database_note_latency(DatabaseSlot *slot, int64 usecs);

/* Both workers shall look at the extension's tables anew, when they are woken. */
extern void database_recheck(void);

/*
 * The identity of the log that a slot's state speaks of, zeros if it has none:
 * both words, as the log layer has them.
 */
extern void database_get_identity(DatabaseSlot *slot, uint64 identity[2]);
extern void database_set_identity(DatabaseSlot *slot,
								  const uint64 identity[2]);

/*
 * The state of a log of which nothing was applied; the lock is held, and the
 * database's subscriptions are released under it as well.
 */
extern void database_reset_locked(DatabaseSlot *slot);

/* For views: as much of a message as fits, in whole characters. */
extern void database_copy_error(char copy[CALVIN_ERROR_LEN], const char *message);

/* Remember an error of a worker, for views. */
extern void database_report_error(DatabaseSlot *slot, WorkerKind kind,
								  const char *message);

/* What is shown of a worker. */
typedef struct WorkerView
{
	WorkerStatus status;
	bool		no_place;	   /* all of max_worker_processes were taken lately */
	pid_t		pid;		   /* 0: none */
	TimestampTz started;
	TimestampTz last_error_at; /* 0: none */
	char		last_error[CALVIN_ERROR_LEN];
} WorkerView;

/* What is shown of a slot, of one moment. */
typedef struct DatabaseView
{
	bool		held; /* by a command on the whole database */
	WorkerView	workers[WORKER_KINDS];
	ApplierActivity activity;
	uint64		catch_up_from;
	uint64		catch_up_to;
} DatabaseView;

extern void database_view(DatabaseSlot *slot, DatabaseView *view);

/*
 * Counters since the last reset (or the slot's beginning), and quantiles of the
 * latency, -1 for none.
 */
extern void database_metrics(DatabaseSlot *slot, MachineCounters *counters,
							 int n, const double *fractions, double *quantiles);
extern void database_reset_metrics(DatabaseSlot *slot);

/* Set the latch of a process published in one of our proc words. */
extern void database_wake_proc(pg_atomic_uint64 *proc);

/*
 * Set the latch of a database's worker, if there is one.  What it shall find
 * then has been written before, where the next worker finds it too.
 */
extern void database_wake(DatabaseSlot *slot, WorkerKind kind);

static inline void
database_wake_applier(DatabaseSlot *slot)
{
	database_wake(slot, WORKER_APPLIER);
}

static inline void
database_wake_sequencer(DatabaseSlot *slot)
{
	database_wake(slot, WORKER_SEQUENCER);
}

#endif							/* CALVIN_SHARED_DATABASE_H */
