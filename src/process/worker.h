/*
 * worker.h
 *	  The extension's background workers, and how commands make them yield.
 */
#ifndef CALVIN_PROCESS_WORKER_H
#define CALVIN_PROCESS_WORKER_H

#include "compat.h"

#include "postmaster/bgworker.h"

#define LAUNCHER_NAME "calvin_seq launcher"
#define APPLIER_NAME "calvin_seq applier"
#define PROBE_NAME "calvin_seq probe"

/* In bgw_extra: what a worker has to prove that it is the one asked for. */
typedef struct WorkerArgs
{
	Oid			database;
	uint32		token;
} WorkerArgs;

StaticAssertDecl(sizeof(WorkerArgs) <= BGW_EXTRALEN, "fits into bgw_extra");

/* Entry points, found by name in the library. */
extern PGDLLEXPORT void calvin_seq_launcher_main(Datum arg);
extern PGDLLEXPORT void calvin_seq_applier_main(Datum arg);
extern PGDLLEXPORT void calvin_seq_probe_main(Datum arg);

/* Called once by _PG_init(), the first two only when preloading. */
extern void launcher_init(void);
extern void hooks_init(void);
extern void applier_init(void);

/* Fill in what all our workers have in common. */
extern void worker_describe(BackgroundWorker *worker, const char *type,
							const char *function);

/* How long to wait for a worker place before asking again. */
#define NO_WORKER_RETRY_MS 5000

/*
 * Ask the postmaster for a worker with these arguments; false if there is no
 * place for it.  The handle is in TopMemoryContext.
 */
extern bool worker_start(const char *type, const char *function, Oid database,
						 uint32 token, BackgroundWorkerHandle **handle);

/* Is the worker behind a handle gone?  Frees the handle if so. */
extern bool worker_ended(BackgroundWorkerHandle **handle);

/*
 * After connecting: the settings we rely on, and application_name as
 * pg_stat_activity shows it.
 */
extern void worker_settle(const char *name);

#endif							/* CALVIN_PROCESS_WORKER_H */
