/*
 * source.c
 *	  The connection of a follower to its source: libpq, without ever waiting in it.
 *
 * A host that does not answer is given up after connect_timeout, and the next attempt
 * begins with the one after it: libpq by itself goes on only from one that refuses.
 * A source that is silent for calvin_seq.follower_timeout is taken for gone.
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

static PGconn *conn = NULL;
static PostgresPollingStatusType polling;
static bool connected;
static bool unsent; /* something is left to be flushed */
static int64 deadline; /* as clock_ms() tells time */
static int	connect_ms;
static char tried[300]; /* the host that the deadline is for */
static char host[300];
static bool silent;

bool
source_is_open(void)
{
	return conn != NULL;
}

void
source_close(void)
{
	if (conn == NULL)
		return;
	PQfinish(conn);
	conn = NULL;
	ReleaseExternalFD();
}

const char *
source_host(void)
{
	const char *name = conn == NULL ? NULL : PQhost(conn);
	const char *port = conn == NULL ? NULL : PQport(conn);

	snprintf(host, sizeof(host), "%s:%s", name == NULL ? "" : name, port == NULL ? "" : port);
	return host;
}

char *
source_error(void)
{
	char	   *text;

	if (silent)
		return psprintf("no answer from %s", source_host());
	if (conn == NULL)
		return pstrdup("out of memory, or of file descriptors");
	text = pstrdup(PQerrorMessage(conn));
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
source_heard(void)
{
	if (connected)
		deadline = clock_ms() + (int64) calvin_follower_timeout;
}

/* For each host its time begins anew. */
static void
watch_host(void)
{
	const char *now = source_host();

	if (strcmp(tried, now) == 0)
		return;
	strlcpy(tried, now, sizeof(tried));
	deadline = clock_ms() + connect_ms;
}

SourceStatus
source_start(const char *conninfo, int turn)
{
	ConninfoParams params;

	source_close();
	silent = connected = unsent = false;
	tried[0] = '\0';
	conninfo_params(conninfo, turn, &params);
	connect_ms = 1000 * conninfo_number(conninfo, "connect_timeout", CONNECT_TIMEOUT_S);
	if (connect_ms <= 0)
		connect_ms = 1000 * CONNECT_TIMEOUT_S;
	if (!AcquireExternalFD())
		return SOURCE_FAILED;
	conn = PQconnectStartParams(params.keywords, params.values, false);
	if (conn == NULL)
	{
		ReleaseExternalFD();
		return SOURCE_FAILED;
	}
	PQsetNoticeProcessor(conn, ignore_notice, NULL);
	if (PQstatus(conn) == CONNECTION_BAD)
		return SOURCE_FAILED;
	polling = PGRES_POLLING_WRITING;
	watch_host();
	return SOURCE_WAITS;
}

SourceStatus
source_connect(void)
{
	polling = PQconnectPoll(conn);
	watch_host();
	switch (polling)
	{
		case PGRES_POLLING_OK:
			if (PQsetnonblocking(conn, 1) != 0)
				return SOURCE_FAILED;
			connected = true;
			source_heard();
			return SOURCE_READY;
		case PGRES_POLLING_FAILED:
			return SOURCE_FAILED;
		default:
			return SOURCE_WAITS;
	}
}

static bool
flush(void)
{
	int			left = PQflush(conn);

	unsent = left > 0;
	return left >= 0;
}

SourceStatus
source_send(const char *sql)
{
	if (PQsendQuery(conn, sql) != 1 || !flush())
		return SOURCE_FAILED;
	source_heard();
	return SOURCE_READY;
}

static bool
take_input(void)
{
	return (!unsent || flush()) && PQconsumeInput(conn) == 1;
}

SourceStatus
source_result(PGresult **result)
{
	*result = NULL;
	if (!take_input())
		return SOURCE_FAILED;
	if (PQisBusy(conn))
		return SOURCE_WAITS;
	*result = PQgetResult(conn);
	return SOURCE_READY;
}

SourceStatus
source_row(char **message, int *size)
{
	*message = NULL;
	*size = PQgetCopyData(conn, message, 1);
	if (*size == 0)
	{
		if (!take_input())
			return SOURCE_FAILED;
		*size = PQgetCopyData(conn, message, 1);
	}
	if (*size == 0)
		return SOURCE_WAITS;
	return *size == -2 ? SOURCE_FAILED : SOURCE_READY;
}

void
source_wait(SourceWait *wait)
{
	wait->socket = PQsocket(conn);
	if (!connected)
		wait->events = polling == PGRES_POLLING_READING ? WL_SOCKET_READABLE : WL_SOCKET_WRITEABLE;
	else
		wait->events = WL_SOCKET_READABLE | (unsent ? WL_SOCKET_WRITEABLE : 0);
	wait->ms = (long) Max(deadline - clock_ms(), 0);
}

bool
source_is_silent(void)
{
	silent = clock_ms() >= deadline;
	return silent;
}
