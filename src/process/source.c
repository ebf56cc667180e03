/*
 * source.c
 *	  The connection of a follower to its source: libpq, without ever waiting in it.
 *
 * A host that does not answer is given up after connect_timeout: libpq by itself goes on only
 * from one that refuses.
 * A source that is source->silent for calvin_seq.follower_timeout is taken for gone.
 *
 * What libpq does wait for is the name server, so hosts are better addresses where
 * that can be slow.
 */
#include "compat.h"

#include <limits.h>

#include "mb/pg_wchar.h"
#include "process/conninfo.h"
#include "process/source.h"
#include "shared/clock.h"
#include "shared/settings.h"
#include "storage/fd.h"
#include "storage/latch.h"
#include "utils/builtins.h"

#define CONNECT_TIMEOUT_S 5
#define MOST_CONNECT_TIMEOUT_S 86400

/* Bytes that are looked at of what a server says. */
#define MOST_SAID 4096

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
	text = source_text(PQerrorMessage(source->conn));
	for (size_t len = strlen(text); len > 0 && text[len - 1] == ' ';)
		text[--len] = '\0';
	return text;
}

/* It is sent in UTF-8, by who sends what he should. */
char *
source_text(const char *said)
{
	size_t		len = strnlen(said, MOST_SAID);
	char	   *text = pnstrdup(said, len);
	bool		keeps = GetDatabaseEncoding() == PG_UTF8;

	for (char *c = text; *c != '\0';)
	{
		int			n = keeps && IS_HIGHBIT_SET(*c) ?
			pg_encoding_verifymbchar(PG_UTF8, c, (int) (text + len - c)) : 1;

		if (n < 1 || (n == 1 && IS_HIGHBIT_SET(*c)))
		{
			*c = '?';
			n = 1;
		}
		else if (n == 1 && ((unsigned char) *c < ' ' || *c == 0x7f))
			*c = ' ';
		c += n;
	}
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
	source->passed += source->tried[0] != '\0';
	strlcpy(source->tried, now, sizeof(source->tried));
	source->deadline = clock_ms() + source->connect_ms;
}

static SourceStatus
start(Source *source, const char *conninfo, int turn, int most, bool primary)
{
	ConninfoParams params;
	int			timeout_s;

	source_close(source);
	source->silent = source->connected = source->unsent = false;
	source->tried[0] = '\0';
	source->passed = 0;
	conninfo_params(conninfo, turn, most, primary, &params);
	timeout_s = conninfo_number(conninfo, "connect_timeout", CONNECT_TIMEOUT_S);
	source->connect_ms = 1000 * (timeout_s > 0 ? Min(timeout_s, MOST_CONNECT_TIMEOUT_S) :
								 CONNECT_TIMEOUT_S);
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
		return SOURCE_FAILED;
	source->polling = PGRES_POLLING_WRITING;
	watch_host(source);
	return SOURCE_WAITS;
}

void
source_hurry(Source *source, int ms)
{
	if (ms >= source->connect_ms)
		return;
	source->connect_ms = ms;
	source->deadline = clock_ms() + ms;
}

SourceStatus
source_start(Source *source, const char *conninfo, int turn)
{
	return start(source, conninfo, turn, INT_MAX, false);
}

SourceStatus
source_start_some(Source *source, const char *conninfo, int turn, int most)
{
	return start(source, conninfo, turn, most, false);
}

SourceStatus
source_start_primary(Source *source, const char *conninfo, int turn)
{
	return start(source, conninfo, turn, INT_MAX, true);
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
			return SOURCE_FAILED;
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

static bool
is_copy(const PGresult *result)
{
	ExecStatusType status = PQresultStatus(result);

	return status == PGRES_COPY_OUT || status == PGRES_COPY_IN ||
		status == PGRES_COPY_BOTH;
}

SourceStatus
source_results(Source *source, PGresult **last)
{
	*last = NULL;
	for (;;)
	{
		PGresult   *result;
		SourceStatus status = source_result(source, &result);

		if (status == SOURCE_WAITS)
			return status;
		if (status == SOURCE_READY && result != NULL && is_copy(result))
		{
			/* libpq would give it again and again */
			*last = result;
			return status;
		}
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
 * made, and what is set for that role, or for all, is not for us.
 *
 * A session there does not outlive us, nor wait for locks until we have given it up, or
 * there would be one more with each attempt.  No commit waits for a disk or a standby:
 * a position that is lost is an older one, and an acknowledgement is shipped until it has
 * come back, which it does when it is durable.
 */
SourceStatus
source_settle(Source *source)
{
	return source_send(source,
					   psprintf("SET search_path = ''; SET statement_timeout = 0; SET lock_timeout = %d;"
								" SET idle_in_transaction_session_timeout = 0; SET idle_session_timeout = 0;"
								" SET tcp_user_timeout = %d; SET work_mem = '16MB'; SET datestyle = 'ISO';"
								" SET default_transaction_isolation = 'read committed';"
								" SET default_transaction_read_only = off; SET synchronous_commit = off;"
								" SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings"
								" WHERE name OPERATOR(pg_catalog.=) 'transaction_timeout';"
								" SELECT n.nspname FROM pg_catalog.pg_extension e"
								" JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) e.extnamespace"
								" WHERE e.extname OPERATOR(pg_catalog.=) 'calvin_seq'",
								calvin_follower_timeout / 3, calvin_follower_timeout));
}

char *
source_schema(const PGresult *result)
{
	const char *name;

	if (!source_value(result, 1, 0, &name) || name[0] == '\0' || strlen(name) >= NAMEDATALEN)
		return NULL;
	return pstrdup(quote_identifier(name));
}

bool
source_value(const PGresult *result, int columns, int column, const char **value)
{
	if (PQresultStatus(result) != PGRES_TUPLES_OK || PQntuples(result) != 1 ||
		PQnfields(result) != columns || PQgetisnull(result, 0, column))
		return false;
	*value = PQgetvalue(result, 0, column);
	return true;
}

bool
source_number(const PGresult *result, int columns, int column, uint64 *value)
{
	const char *digits;

	if (!source_value(result, columns, column, &digits) || digits[0] == '\0' ||
		digits[strspn(digits, "0123456789")] != '\0')
		return false;
	errno = 0;
	*value = strtoull(digits, NULL, 10);
	return errno == 0 && *value <= PG_INT64_MAX;
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
	return source->silent;
}
