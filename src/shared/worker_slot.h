/*
 * worker_slot.h
 *	  The life of a database's workers: every transition of its slot.
 */
#ifndef CALVIN_SHARED_WORKER_SLOT_H
#define CALVIN_SHARED_WORKER_SLOT_H

#include "compat.h"

#include "shared/shmem.h"

/*
 * Make sure that a database with the extension has a slot, and wake the
 * launcher.  False if all slots are taken.
 */
extern bool worker_slot_adopt(Oid database);

/*
 * The launcher: the database of a slot whose worker is to be started now, or
 * InvalidOid and the time in ms until it is, -1 if that is not known.
 */
extern Oid	worker_slot_wanted(DatabaseSlot *slot, WorkerKind kind, long *wait);

/* Is there a database without a worker of that kind, and nothing against one? */
extern bool worker_slot_any_wanted(WorkerKind kind);

/* The launcher asks for the worker that may claim with *token; false: not wanted any more. */
extern bool worker_slot_start(DatabaseSlot *slot, WorkerKind kind, Oid database,
							  uint32 *token);

/* That worker will not claim; the next one is wanted after a while. */
extern void worker_slot_not_started(DatabaseSlot *slot, WorkerKind kind,
									Oid database, uint32 token, int delay_ms);

/* Likewise, since all of max_worker_processes are taken: for views. */
extern void worker_slot_no_place(DatabaseSlot *slot, WorkerKind kind,
								 Oid database, uint32 token);

/*
 * The launcher: somebody who matters more than a sequencer has no place.  One
 * sequencer that runs is told to stop; false if there is none.  If one was told
 * before and has not left, that is it, and *late its pid.
 */
extern bool worker_slot_make_room(pid_t *late);

/*
 * A launcher begins.  One before it may have asked for workers that never came,
 * or come only now: they find another token and leave.
 */
extern void worker_slot_reset_starting(void);

/*
 * The launcher: the database of a slot is gone.  The slot is free as soon as
 * nothing runs in it, perhaps at once.
 */
extern void worker_slot_forget(DatabaseSlot *slot, Oid database);

/*
 * A worker takes the place that the launcher made for it; NULL if somebody has
 * changed his mind since.
 */
extern DatabaseSlot *worker_slot_claim(Oid database, WorkerKind kind,
									   uint32 token);

/* The worker is connected and has looked at its tables: what failed is over. */
extern void worker_slot_succeeded(DatabaseSlot *slot, WorkerKind kind);

/*
 * The worker ends, and another one is to follow; later each time it "failed"
 * without having succeeded.  Called in before_shmem_exit.
 */
extern void worker_slot_leave(DatabaseSlot *slot, WorkerKind kind, bool failed);

/*
 * The state is that of another log: back to that of a fresh slot, and the
 * database's subscriptions end, in one step.  The applier's only.
 */
extern void worker_slot_begin_anew(DatabaseSlot *slot);

/*
 * The worker ends since the extension is gone from its database.  The other one
 * is told to leave too; with the last of them subscriptions end, and the slot
 * is free.  Called in before_shmem_exit.
 */
extern void worker_slot_retire(DatabaseSlot *slot, WorkerKind kind);

/*
 * A command needs the database without connections: the workers are asked to
 * leave, and none is started until as many releases.  NULL, and nothing to be
 * released, without a slot.
 */
extern DatabaseSlot *worker_slot_hold(Oid database);
extern void worker_slot_release(Oid database);

/* Pid of a database's worker, 0 if there is none now. */
extern pid_t worker_slot_pid(Oid database, WorkerKind kind);

/* Tell this database's applier that the log got longer. */
extern void worker_slot_tell_appended(void);

/* This database's workers shall look whether the extension is still their own. */
extern void worker_slot_ask_to_recheck(void);

/* The worker: was it asked to?  That deals with it. */
extern bool worker_slot_take_recheck(DatabaseSlot *slot, WorkerKind kind);

static inline bool
worker_slot_recheck_asked(DatabaseSlot *slot, WorkerKind kind)
{
	return pg_atomic_read_u32(&slot->workers[kind].recheck) != 0;
}

/* The worker: does a command, or the slot's end, need it to leave? */
static inline bool
worker_slot_stop_asked(DatabaseSlot *slot, WorkerKind kind)
{
	return pg_atomic_read_u32(&slot->workers[kind].stop) != 0;
}

/* The applier, for seq_state and seq_progress. */
static inline void
worker_slot_set_activity(DatabaseSlot *slot, ApplierActivity activity)
{
	pg_atomic_write_u32(&slot->activity, activity);
}

static inline void
worker_slot_set_catch_up(DatabaseSlot *slot, uint64 from, uint64 to)
{
	pg_atomic_write_u64(&slot->catch_up_from, from);
	pg_atomic_write_u64(&slot->catch_up_to, to);
}

#endif							/* CALVIN_SHARED_WORKER_SLOT_H */
