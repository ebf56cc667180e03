/*
 * source.h
 *	  The connection of a follower to its source: libpq, without ever waiting in it.
 *
 * Each call does what can be done now.  What the caller has to wait for then, and
 * until when, is told by source_wait().  There is one connection a process.
 */
#ifndef CALVIN_PROCESS_SOURCE_H
#define CALVIN_PROCESS_SOURCE_H

#include "compat.h"

#include "libpq-fe.h"

typedef enum SourceStatus
{
	SOURCE_WAITS,
	SOURCE_READY,
	SOURCE_FAILED /* see source_error(); the connection is no good any more */
} SourceStatus;

typedef struct SourceWait
{
	pgsocket	socket;
	int			events; /* WL_SOCKET_* */
	long		ms;		/* until its time is over */
} SourceWait;

/* Begin to connect; "turn" as in conninfo.h. */
extern SourceStatus source_start(const char *conninfo, int turn);
extern SourceStatus source_connect(void);

/* Begin a command; those before are over. */
extern SourceStatus source_send(const char *sql);

/* Ready: a result, the caller's to clear, or NULL behind the last one. */
extern SourceStatus source_result(PGresult **result);

/* Ready: a message of COPY, the caller's to PQfreemem(), or NULL behind the last one. */
extern SourceStatus source_row(char **message, int *size);

/* What is there to wait for; and that there was something to be read. */
extern void source_wait(SourceWait *wait);
extern void source_heard(void);

/* Was nothing heard for too long?  Then it has failed. */
extern bool source_is_silent(void);

/* "host:port" that it is connected to, or tries. */
extern const char *source_host(void);

/* What went wrong last, in one line; palloc'd. */
extern char *source_error(void);

extern void source_close(void);
extern bool source_is_open(void);

#endif							/* CALVIN_PROCESS_SOURCE_H */
