/*
 * handler_slot.h
 *	  The workers that run handlers: what is wanted, and what runs.
 */
#ifndef CALVIN_SHARED_HANDLER_SLOT_H
#define CALVIN_SHARED_HANDLER_SLOT_H

#include "compat.h"

#include "shared/shmem.h"

/* A definition, as one worker of it needs it. */
typedef struct HandlerWanted
{
	uint64		definition; /* another one each time it is made */
	uint64		group;
	Oid			role;
	int			workers;
} HandlerWanted;

/* In bgw_extra. */
typedef struct HandlerArgs
{
	Oid			database;
	Oid			role;
	int			slot;
	uint32		token;
} HandlerArgs;

/* A slot as it is shown. */
typedef struct HandlerView
{
	uint64		definition;
	WorkerStatus status;
	bool		no_place;
	pid_t		pid;
	uint64		processed;	/* transactions, since it was wanted */
	uint64		failed;		/* attempts */
	double		rate;		/* transactions a second, lately */
	TimestampTz last_error_at;	/* 0: none */
	char		last_error[CALVIN_ERROR_LEN];
} HandlerView;

/* Shared memory and settings; called by shmem.c. */
extern void handler_slots_define_settings(void);
extern Size handler_slots_shmem_size(void);
extern void handler_slots_shmem_init(void);

/* How many there are, in all databases. */
extern int	calvin_max_handlers;

/*
 * The sequencer: these are to run in a database, and nothing else.  Slots of others are
 * given up, workers that run told to stop.  Returns how many workers found no slot.
 */
extern int	handler_slots_sync(Oid database, int n, const HandlerWanted *wanted);

/* Somebody has changed what is to run: the sequencer shall look at the definitions. */
extern void handler_slots_note_changed(Oid database);
extern void handler_slots_note_all_changed(void);
extern bool handler_slots_take_changed(DatabaseSlot *slot);

/* Has a database any? */
extern bool handler_slots_any(Oid database);

/*
 * The launcher: the worker to be started in a slot now; false, and the time in ms until
 * it is to be, -1 if that is not known.
 */
extern bool handler_slots_start(int number, HandlerArgs *args, long *wait);

/* It will not claim; the next one is wanted after a while. */
extern void handler_slots_not_started(const HandlerArgs *args, int delay_ms,
									  bool no_place);

/* A launcher begins: see worker_slot_reset_starting(). */
extern void handler_slots_reset_starting(void);

/* The worker takes its place; false: it is not wanted any more. */
extern bool handler_slots_claim(const HandlerArgs *args, HandlerWanted *mine);

/* It ends, and another one is to follow, later each time it "failed". */
extern void handler_slots_leave(int number, bool failed);

/* What it worked off, and what went wrong. */
extern void handler_slots_count(int number, uint64 processed, uint64 failed);
extern void handler_slots_report_error(int number, const char *message);
extern bool handler_slots_stop_asked(int number);

/*
 * All workers of a database are told to stop, and until it is over none is started:
 * with the database's slot being held.  The pid of one that runs, 0 if there is none.
 */
extern void handler_slots_stop(Oid database);
extern pid_t handler_slots_running(Oid database, int *next);

/* The database, or the extension in it, is gone; the lock is held. */
extern void handler_slots_forget_locked(Oid database);

/* One slot of this database, for views; false: it is not. */
extern bool handler_slots_view(int number, HandlerView *view);

#endif							/* CALVIN_SHARED_HANDLER_SLOT_H */
