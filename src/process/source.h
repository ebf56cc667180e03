/*
 * source.h
 *	  A connection of a follower to its source: libpq, without ever waiting in it.
 *
 * Each call does what can be done now.  What the caller has to wait for then, and
 * until when, is told by source_wait().
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

/* All zeros: closed.  It is source.c's. */
typedef struct Source
{
	PGconn	   *conn;
	PGresult   *last; /* of source_results() */
	PostgresPollingStatusType polling;
	bool		connected;
	bool		unsent;	  /* something is left to be flushed */
	bool		silent;	  /* that was found */
	int64		deadline; /* as clock_ms() tells time */
	int			connect_ms;
	char		tried[300]; /* the host that the deadline is for */
	int			passed;		/* so many were tried before it */
	char		host[300];
} Source;

typedef struct SourceWait
{
	pgsocket	socket; /* PGINVALID_SOCKET: none */
	int			events; /* WL_SOCKET_* */
	long		ms;		/* until its time is over; -1: never */
} SourceWait;

/* Begin to connect; "turn" as in conninfo.h. */
extern SourceStatus source_start(Source *source, const char *conninfo, int turn);

/* The same, to so many of the hosts at most. */
extern SourceStatus source_start_some(Source *source, const char *conninfo, int turn,
									  int most);

/* The same, to a server that is no standby. */
extern SourceStatus source_start_primary(Source *source, const char *conninfo, int turn);

/* It waits for each host no longer than that. */
extern void source_hurry(Source *source, int ms);

/* Go on with it, when what was waited for has come. */
extern SourceStatus source_connect(Source *source);

/* Begin a command; those before are over. */
extern SourceStatus source_send(Source *source, const char *sql);

/*
 * The first one: settings, and as its last result the extension's schema, which is read
 * by source_schema(), quoted: palloc'd, NULL if that is no name.
 */
extern SourceStatus source_settle(Source *source);
extern char *source_schema(const PGresult *result);

/* Ready: a result, the caller's to clear, or NULL behind the last one. */
extern SourceStatus source_result(Source *source, PGresult **result);

/*
 * Ready: the last of all results, or the first one of COPY, which nobody has asked for
 * and which never ends.  The caller's to clear, also if it has failed.
 */
extern SourceStatus source_results(Source *source, PGresult **last);

/* Ready: a message of COPY, the caller's to PQfreemem(), or NULL behind the last one. */
extern SourceStatus source_row(Source *source, char **message, int *size);

/* What is there to wait for; and that there was something to be read. */
extern void source_wait(const Source *source, SourceWait *wait);
extern void source_heard(Source *source);

/* Was nothing heard for too long?  Then it has failed. */
extern bool source_is_silent(Source *source);

/*
 * The value at a column of a result, which has to be one row of so many columns.
 * False if it is not, or is null; of a number also if it is none from 0 to 2^63-1.
 */
extern bool source_value(const PGresult *result, int columns, int column, const char **value);
extern bool source_number(const PGresult *result, int columns, int column, uint64 *value);

/*
 * What a server says, in one line and in this database's encoding, whatever it was;
 * palloc'd.
 */
extern char *source_text(const char *said);

/* "host:port" that it is connected to, or tries. */
extern const char *source_host(Source *source);

/* What went wrong last, in one line; palloc'd. */
extern char *source_error(Source *source);

extern void source_close(Source *source);
extern bool source_is_open(const Source *source);

#endif							/* CALVIN_PROCESS_SOURCE_H */
