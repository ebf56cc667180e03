/*
 * worker.h
 *	  The extension's background workers, and how commands make them yield.
 */
#ifndef CALVIN_PROCESS_WORKER_H
#define CALVIN_PROCESS_WORKER_H

#include "compat.h"

#include "postmaster/bgworker.h"
#include "shared/shmem.h"

/* What is said of a worker to the postmaster, to the server and to the log. */
typedef struct WorkerType
{
	const char *name;			   /* backend type and application_name */
	const char *function;		   /* entry point, found by name in the library */
	const char *synchronous_commit; /* whatever a database says */
	const char *without;		   /* what there being no place for it means */
	bool		refused;		   /* the last one asked for had no place */
	bool		warned;			   /* of that */
} WorkerType;

extern WorkerType worker_launcher;
extern WorkerType worker_probe;
extern WorkerType worker_types[WORKER_KINDS]; /* of a database's */
extern WorkerType worker_handler;

/* In bgw_extra: what a worker has to prove that it is the one asked for. */
typedef struct WorkerArgs
{
	Oid			database;
	uint32		token;
	Oid			role;	/* of a handler, */
	int			number; /* and that of its slot */
} WorkerArgs;

StaticAssertDecl(sizeof(WorkerArgs) <= BGW_EXTRALEN, "fits into bgw_extra");

/* Entry points, found by name in the library. */
extern PGDLLEXPORT void calvin_seq_launcher_main(Datum arg);
extern PGDLLEXPORT void calvin_seq_applier_main(Datum arg);
extern PGDLLEXPORT void calvin_seq_sequencer_main(Datum arg);
extern PGDLLEXPORT void calvin_seq_probe_main(Datum arg);
extern PGDLLEXPORT void calvin_seq_handler_main(Datum arg);

/* Called once by _PG_init(), the first two only when preloading. */
extern void launcher_init(void);
extern void hooks_init(void);
extern void applier_init(void);

/* Fill in what all our workers have in common. */
extern void worker_describe(BackgroundWorker *worker, const WorkerType *type);

/* How long to wait after a worker that did not begin before asking again. */
#define NO_WORKER_RETRY_MS 5000

/*
 * Ask the postmaster for a worker with these arguments; false if there is no
 * place for it.  The handle is in TopMemoryContext.  A handler is asked to leave its
 * place to another type of worker, and a sequencer to all but a handler.
 */
extern bool worker_start(WorkerType *type, const WorkerArgs *args,
						 BackgroundWorkerHandle **handle);

/* When to try again after there was no place, in ms. */
extern int	worker_retry_ms(void);

/*
 * May there be too few places?  Because one was refused lately, or because
 * max_worker_processes would not do if all databases had their workers.
 */
extern bool worker_places_short(void);

/* Is the worker behind a handle gone?  Frees the handle if so. */
extern bool worker_ended(BackgroundWorkerHandle **handle);

/*
 * After connecting: the settings we rely on, and application_name as
 * pg_stat_activity shows it.
 */
extern void worker_settle(const WorkerType *type);

#endif							/* CALVIN_PROCESS_WORKER_H */
