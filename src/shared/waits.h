/*
 * waits.h
 *	  What our processes wait for, by name in pg_stat_activity.
 *
 * Until 16 the server knows one name for all extensions, 'Extension'; there the query
 * column says what a worker waits for.
 */
#ifndef CALVIN_SHARED_WAITS_H
#define CALVIN_SHARED_WAITS_H

#include "compat.h"

typedef enum CalvinWait
{
	WAIT_APPLIED,	 /* seq_wait_for_epoch() and its like: until it is applied */
	WAIT_APPLIER,	 /* the applier: for log entries */
	WAIT_ATTACH,	 /* a session: until the workers of its database are there */
	WAIT_COMPLETION, /* seq_wait_for_completion() */
	WAIT_EPOCH,		 /* the sequencer: a moment, for more to come into an epoch */
	WAIT_FETCH,		 /* seq_fetch(): for something to come */
	WAIT_FLUSH,		 /* the applier: a moment, for others to flush the log */
	WAIT_HANDLER,	 /* a handler: for something to come */
	WAIT_HOLD_OFF,	 /* a command on a database: until its workers have left */
	WAIT_LAUNCHER,	 /* the launcher: for databases to come and go */
	WAIT_RECEIVE,	 /* seq_receive(): for something to come */
	WAIT_RETRY,		 /* a worker: to try again after an error */
	WAIT_SEQUENCER,	 /* the sequencer: for submissions */
	WAIT_SOURCE,	 /* a follower's worker: for its source */
	WAIT_SUBMISSION, /* seq_submission(): until it is in the log */
	WAITS
} CalvinWait;

/* For WaitLatch() and the like. */
extern uint32 wait_event(CalvinWait wait);

#endif							/* CALVIN_SHARED_WAITS_H */
