/*
 * handler_slot.h
 *	  The life of handler workers: every transition of their slots.
 */
#ifndef CALVIN_SHARED_HANDLER_SLOT_H
#define CALVIN_SHARED_HANDLER_SLOT_H

#include "compat.h"

#include "shared/shmem.h"
#include "storage/spin.h"

/* What a worker of a group does: one of "workers" with a number from 0 on. */
typedef struct HandlerTask
{
	Oid			database; /* InvalidOid: the slot is free */
	Oid			role;
	NameData	name; /* of the group */
	uint64		id;
	uint64		definition;
	int			number;
} HandlerTask;

/*
 * One handler worker.  handler_slot.c alone writes it: the task, "ending" and "worker"
 * as a database's workers are, under the lock in exclusive mode; the figures under the
 * mutex, by the worker, read by anyone.
 */
typedef struct HandlerSlot
{
	HandlerTask task;
	bool		ending;		/* free when the worker has left */
	WorkerSlot	worker;

	slock_t		mutex;
	double		recent;		/* transactions handled, each fading away with time, */
	TimestampTz recent_at;	/* as of then */
	bool		retrying;	/* something other than a call has failed */

	pg_atomic_uint32 attempt; /* the worker's: partition that it attempts + 1, or 0 */
} HandlerSlot;

/* Shared memory; called by shmem.c. */
extern Size handler_slots_shmem_size(void);
extern void handler_slots_shmem_init(void);

/* Something is different about a database's handlers: its sequencer shall look. */
extern void handler_slots_tell(DatabaseSlot *slot);

/* The same for the databases that have any. */
extern void handler_slots_tell_all(void);
extern bool handler_slots_take_told(DatabaseSlot *slot);

/* Does a database have any, as its sequencer has found last? */
extern bool handler_slots_any(DatabaseSlot *slot);

/*
 * The sequencer: what is wanted in its database from now on; "any": there are handlers,
 * wanted or not.  Who has another task is told to stop.
 */
extern void handler_slots_publish(DatabaseSlot *slot, const HandlerTask *tasks, int n,
								  bool any);

/*
 * The launcher: is a worker to be started in a slot now?  Else the time in ms until it
 * is, -1 if that is not known.
 */
extern bool handler_slot_wanted(int number, HandlerTask *task, long *wait);

/* The launcher asks for the worker that may claim with *token; false: not wanted any more. */
extern bool handler_slot_start(int number, const HandlerTask *task, uint32 *token);

/* That worker will not claim; "no_place": since all of max_worker_processes are taken. */
extern void handler_slot_not_started(int number, uint32 token, int delay_ms,
									 bool no_place);

/* The launcher: a process has ended, so there may be a place for who had none. */
extern void handler_slots_note_place(void);

/* Has any had none when it was last tried? */
extern bool handler_slots_lack_place(void);

/*
 * The launcher: somebody who matters more has no place.  One handler is told to stop;
 * false if there is none.  If one was told before, and has not left, *late is its pid.
 */
extern bool handler_slots_make_room(pid_t *late);

/* A launcher begins: workers that one before it has asked for find another token. */
extern void handler_slots_reset_starting(void);

/* The worker: NULL if it is not wanted any more. */
extern HandlerSlot *handler_slot_claim(int number, uint32 token, HandlerTask *task);
extern void handler_slot_leave(HandlerSlot *slot, bool failed);

/* It works: failures before do not count any more. */
extern void handler_slot_succeeded(HandlerSlot *slot);

/*
 * What a worker attempts, by itself and with a note of it, is no business of others, until
 * what has become of it is noted as well.  -1: nothing; was there anything before?
 */
extern bool handler_slot_attempt(HandlerSlot *slot, int partition);

/* Which partitions are attempted by other workers of the same group. */
extern void handler_slots_attempted(const HandlerSlot *own, bool *attempted,
									int partitions);

/* What a worker has handled, and what has gone wrong. */
extern void handler_slot_count(HandlerSlot *slot, int handled);
extern void handler_slot_report(HandlerSlot *slot, const char *message, bool retrying);

static inline bool
handler_slot_stop_asked(HandlerSlot *slot)
{
	return pg_atomic_read_u32(&slot->worker.stop) != 0;
}

/*
 * The workers of a database shall stop, as the transaction that holds them off wants or
 * since it is gone; the lock is held.  They are woken afterwards.
 */
extern void handler_slots_stop_locked(Oid database, bool for_good);
extern void handler_slots_wake(Oid database);

/* Slots may be free that others have lacked: they look again. */
extern void handler_slots_tell_of_room(void);

/* The database is held no more: they may start at once; the lock is held. */
extern void handler_slots_release_locked(Oid database);

/* Those of a database that run: how many, and the pids of so many. */
extern int	handler_slots_pids(Oid database, pid_t *pids, int max);

/* Has every slot a task? */
extern bool handler_slots_full(void);

/* What is shown of a slot. */
typedef struct HandlerView
{
	HandlerTask task;
	WorkerStatus status;
	bool		ending; /* of a task that is not wanted any more */
	bool		no_place;
	bool		held;
	bool		retrying;
	pid_t		pid;
	int			attempt; /* partition, or -1 */
	double		rate; /* transactions a second */
	TimestampTz last_error_at; /* 0: none */
	char		last_error[CALVIN_ERROR_LEN];
} HandlerView;

/* All of a database, as many as calvin_seq.max_handlers at most. */
extern int	handler_slots_view(Oid database, HandlerView *views);

#endif							/* CALVIN_SHARED_HANDLER_SLOT_H */
