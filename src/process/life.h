/*
 * life.h
 *	  What the workers of a database have in common: begin, serve, retry, end.
 *
 * A process is one worker, so all of this speaks of this process.
 */
#ifndef CALVIN_PROCESS_LIFE_H
#define CALVIN_PROCESS_LIFE_H

#include "compat.h"

#include "shared/shmem.h"

/*
 * Claim the place that the launcher made, connect to the database and settle.
 * Returns the database's slot; ends the process if it is not wanted any more.
 * Handlers of signals other than SIGTERM and SIGINT are set before.  In
 * TopMemoryContext afterwards.
 */
extern DatabaseSlot *life_begin(WorkerKind kind);

/* Interrupts, commands that need us to leave, changed settings. */
extern void life_serve_signals(void);

/* The extension was dropped, perhaps made anew: this process is done. */
pg_noreturn extern void life_retire(void);

/*
 * After an error, with the place it jumped to as the exception stack: report
 * and remember it, and be as if there had never been a transaction.
 */
extern void life_clean_up(void);

/* The same for an error that is to be expected, of which nothing is said. */
extern void life_clean_up_quietly(void);

/* Then wait a little, longer each time; less if the extension was altered. */
extern void life_rest(void);

/* There was a step forward: errors between such are no reason to wait ever longer. */
extern void life_progressed(void);

/* Whatever went wrong before is over, for the launcher too. */
extern void life_succeeded(void);

#endif							/* CALVIN_PROCESS_LIFE_H */
