/*
 * source.c
 *	  The connection of a follower to its source: libpq, without ever waiting in it.
 *
 * A host that does not answer is given up after connect_timeout, and the next attempts
 * leave out one or more: libpq by itself goes on only from one that refuses, and comes
 * to all of them while it looks for a standby, say.
 * A source that is source->silent for calvin_seq.follower_timeout is taken for gone.
 *
 * What libpq does wait for is the name server, so hosts are better addresses where
 * that can be slow.
 */
#include "compat.h"

#include "process/conninfo.h"
#include "process/source.h"
#include "shared/clock.h"
#include "shared/settings.h"
#include "storage/fd.h"
#include "storage/latch.h"

#define CONNECT_TIMEOUT_S 5

bool
source_is_open(const Source *source)
{
	return source->conn != NULL;
}

void
source_close(Source *source)
{
	if (source->conn == NULL)
		return;
	PQclear(source->last);
	source->last = NULL;
	PQfinish(source->conn);
	source->conn = NULL;
	ReleaseExternalFD();
}

const char *
source_host(Source *source)
{
	const char *name = source->conn == NULL ? NULL : PQhost(source->conn);
	const char *port = source->conn == NULL ? NULL : PQport(source->conn);

	snprintf(source->host, sizeof(source->host), "%s:%s", name == NULL ? "" : name, port == NULL ? "" : port);
	return source->host;
}

char *
source_error(Source *source)
{
	char	   *text;

	if (source->silent)
		return psprintf("no answer from %s", source_host(source));
	if (source->conn == NULL)
		return pstrdup("out of memory, or of file descriptors");
	text = pstrdup(PQerrorMessage(source->conn));
	for (size_t len = strlen(text); len > 0 && text[len - 1] == '\n';)
		text[--len] = '\0';
	for (char *c = text; *c != '\0'; c++)
		if (*c == '\n' || *c == '\t')
			*c = ' ';
	return text;
}

/* Nobody has asked for what a source has to say besides. */
static void
ignore_notice(void *arg, const char *message)
{
}

void
source_heard(Source *source)
{
	if (source->connected)
		source->deadline = clock_ms() + (int64) calvin_follower_timeout;
}

/* For each host its time begins anew. */
static void
watch_host(Source *source)
{
	const char *now = source_host(source);

	if (strcmp(source->tried, now) == 0)
		return;
	strlcpy(source->tried, now, sizeof(source->tried));
	source->deadline = clock_ms() + source->connect_ms;
}

/* Leave out other hosts next time: one of those that are left may not answer. */
static SourceStatus
not_connected(Source *source)
{
	if (source->turn > 0)
		source->turn++;
	return SOURCE_FAILED;
}

static SourceStatus
start(Source *source, const char *conninfo, bool primary)
{
	ConninfoParams params;

	source_close(source);
	source->silent = source->connected = source->unsent = false;
	source->tried[0] = '\0';
	conninfo_params(conninfo, source->turn, primary, &params);
	source->connect_ms = 1000 * conninfo_number(conninfo, "connect_timeout", CONNECT_TIMEOUT_S);
	if (source->connect_ms <= 0)
		source->connect_ms = 1000 * CONNECT_TIMEOUT_S;
	if (!AcquireExternalFD())
		return SOURCE_FAILED;
	source->conn = PQconnectStartParams(params.keywords, params.values, false);
	if (source->conn == NULL)
	{
		ReleaseExternalFD();
		return SOURCE_FAILED;
	}
	PQsetNoticeProcessor(source->conn, ignore_notice, NULL);
	if (PQstatus(source->conn) == CONNECTION_BAD)
		return not_connected(source);
	source->polling = PGRES_POLLING_WRITING;
	watch_host(source);
	return SOURCE_WAITS;
}

SourceStatus
source_start(Source *source, const char *conninfo)
{
	return start(source, conninfo, false);
}

SourceStatus
source_start_primary(Source *source, const char *conninfo)
{
	return start(source, conninfo, true);
}

SourceStatus
source_connect(Source *source)
{
	source->polling = PQconnectPoll(source->conn);
	watch_host(source);
	switch (source->polling)
	{
		case PGRES_POLLING_OK:
			if (PQsetnonblocking(source->conn, 1) != 0)
				return SOURCE_FAILED;
			source->connected = true;
			source_heard(source);
			return SOURCE_READY;
		case PGRES_POLLING_FAILED:
			return not_connected(source);
		default:
			return SOURCE_WAITS;
	}
}

static bool
flush(Source *source)
{
	int			left = PQflush(source->conn);

	source->unsent = left > 0;
	return left >= 0;
}

SourceStatus
source_send(Source *source, const char *sql)
{
	if (PQsendQuery(source->conn, sql) != 1 || !flush(source))
		return SOURCE_FAILED;
	source_heard(source);
	return SOURCE_READY;
}

static bool
take_input(Source *source)
{
	return (!source->unsent || flush(source)) && PQconsumeInput(source->conn) == 1;
}

SourceStatus
source_result(Source *source, PGresult **result)
{
	*result = NULL;
	if (!take_input(source))
		return SOURCE_FAILED;
	if (PQisBusy(source->conn))
		return SOURCE_WAITS;
	*result = PQgetResult(source->conn);
	return SOURCE_READY;
}

SourceStatus
source_row(Source *source, char **message, int *size)
{
	*message = NULL;
	*size = PQgetCopyData(source->conn, message, 1);
	if (*size == 0)
	{
		if (!take_input(source))
			return SOURCE_FAILED;
		*size = PQgetCopyData(source->conn, message, 1);
	}
	if (*size == 0)
		return SOURCE_WAITS;
	return *size == -2 ? SOURCE_FAILED : SOURCE_READY;
}

SourceStatus
source_results(Source *source, PGresult **last)
{
	for (;;)
	{
		PGresult   *result;
		SourceStatus status = source_result(source, &result);

		if (status == SOURCE_WAITS)
			return status;
		if (status == SOURCE_FAILED || result == NULL)
		{
			*last = source->last;
			source->last = NULL;
			return status;
		}
		PQclear(source->last);
		source->last = result;
	}
}

/*
 * Whoever has a role of the name that we connect as may not have us call what he has
 * made, and no timeout of that role's is for us.
 */
SourceStatus
source_settle(Source *source)
{
	return source_send(source,
					   "SET search_path = ''; SET statement_timeout = 0; SET lock_timeout = 0;"
					   " SET idle_in_transaction_session_timeout = 0; SET work_mem = '16MB';"
					   " SET datestyle = 'ISO'; SET default_transaction_isolation = 'read committed';"
					   " SELECT n.nspname FROM pg_catalog.pg_extension e"
					   " JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) e.extnamespace"
					   " WHERE e.extname OPERATOR(pg_catalog.=) 'calvin_seq'");
}

void
source_wait(const Source *source, SourceWait *wait)
{
	wait->socket = PQsocket(source->conn);
	if (!source->connected)
		wait->events = source->polling == PGRES_POLLING_READING ? WL_SOCKET_READABLE : WL_SOCKET_WRITEABLE;
	else
		wait->events = WL_SOCKET_READABLE | (source->unsent ? WL_SOCKET_WRITEABLE : 0);
	wait->ms = (long) Max(source->deadline - clock_ms(), 0);
}

bool
source_is_silent(Source *source)
{
	source->silent = clock_ms() >= source->deadline;
	if (source->silent && !source->connected)
		source->turn++;
	return source->silent;
}
