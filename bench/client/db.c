/*
 * db.c
 *	  Connections: every answer that is not the one wanted ends the program.
 */
#include "bench.h"

#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Longer than anything in here takes: what does not come will not come. */
#define PATIENCE_MS 120000

PGconn *
db_connect_to(const char *options)
{
	PGconn	   *conn = PQconnectdb(options);

	if (PQstatus(conn) != CONNECTION_OK)
		die("%s", PQerrorMessage(conn));
	return conn;
}

PGconn *
db_connect(void)
{
	return db_connect_to("dbname=bench");
}

PGconn *
db_fresh(void)
{
	PGconn	   *conn = db_connect_to("dbname=postgres");

	db_run(conn, "SET client_min_messages = warning");
	db_run(conn, "DROP DATABASE IF EXISTS bench WITH (FORCE)");
	db_run(conn, "CREATE DATABASE bench");
	/* what was written for the last section is not this one's to write out */
	db_run(conn, "CHECKPOINT");
	PQfinish(conn);

	conn = db_connect();
	db_run(conn, "CREATE EXTENSION calvin_seq");
	db_run(conn, "CREATE FUNCTION bench_receive(text, bigint) RETURNS text "
		   "LANGUAGE C AS 'calvin_bench'");
	db_run(conn, "CREATE FUNCTION bench_queue_create(bigint, int) "
		   "RETURNS bigint LANGUAGE C AS 'calvin_bench'");
	db_run(conn, "CREATE FUNCTION bench_queue_receive(bigint) RETURNS bigint "
		   "LANGUAGE C AS 'calvin_bench'");
	db_run(conn, "CREATE FUNCTION bench_queue_send(bigint, int, bigint) "
		   "RETURNS bigint LANGUAGE C AS 'calvin_bench'");
	db_run(conn, "CREATE FUNCTION bench_queue_apply(bigint, int[], bigint, bigint) "
		   "RETURNS bigint LANGUAGE C AS 'calvin_bench'");
	/* what subscribes is to find the applier at work */
	while (db_int(conn, "SELECT count(*) FROM seq_state WHERE applier_pid > 0") == 0)
		sleep_us(10000);
	return conn;
}

static void
expect(PGconn *conn, PGresult *result, const char *what)
{
	ExecStatusType status = PQresultStatus(result);

	if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK)
		die("%s: %s", what, result ? PQresultErrorMessage(result) :
			PQerrorMessage(conn));
}

void
db_run(PGconn *conn, const char *sql)
{
	PGresult   *result = PQexec(conn, sql);

	expect(conn, result, sql);
	PQclear(result);
}

void
db_flush_wal(void)
{
	PGconn	   *conn = db_connect();

	db_run(conn, "SELECT pg_logical_emit_message(true, 'bench', '')");
	PQfinish(conn);
}

static char *
format_text(const char *format, va_list args)
{
	char	   *text;

	if (vasprintf(&text, format, args) < 0)
		die("out of memory");
	return text;
}

void
db_runf(PGconn *conn, const char *format, ...)
{
	va_list		args;
	char	   *sql;

	va_start(args, format);
	sql = format_text(format, args);
	va_end(args);
	db_run(conn, sql);
	free(sql);
}

static char *
value(PGconn *conn, const char *sql)
{
	PGresult   *result = PQexec(conn, sql);
	char	   *text;

	expect(conn, result, sql);
	if (PQntuples(result) != 1)
		die("%s: %d rows", sql, PQntuples(result));
	text = strdup(PQgetvalue(result, 0, 0));
	PQclear(result);
	return text;
}

char *
db_value(PGconn *conn, const char *format, ...)
{
	va_list		args;
	char	   *sql;
	char	   *text;

	va_start(args, format);
	sql = format_text(format, args);
	va_end(args);
	text = value(conn, sql);
	free(sql);
	return text;
}

int64_t
db_int(PGconn *conn, const char *format, ...)
{
	va_list		args;
	char	   *sql;
	char	   *text;
	int64_t		number;

	va_start(args, format);
	sql = format_text(format, args);
	va_end(args);
	text = value(conn, sql);
	number = strtoll(text, NULL, 10);
	free(text);
	free(sql);
	return number;
}

void
db_send(PGconn *conn, const char *sql)
{
	if (!PQsendQuery(conn, sql))
		die("%s: %s", sql, PQerrorMessage(conn));
}

void
db_send_prepared(PGconn *conn, const char *name)
{
	if (!PQsendQueryPrepared(conn, name, 0, NULL, NULL, NULL, 1))
		die("%s: %s", name, PQerrorMessage(conn));
}

PGresult *
db_answer(PGconn *conn)
{
	PGresult   *result = PQgetResult(conn);

	expect(conn, result, "a statement");
	return result;
}

void
db_finish_command(PGconn *conn)
{
	PGresult   *result;

	while ((result = PQgetResult(conn)) != NULL)
	{
		expect(conn, result, "a statement");
		PQclear(result);
	}
}

void
db_prepare(PGconn *conn, const char *name, const char *sql)
{
	PGresult   *result = PQprepare(conn, name, sql, 0, NULL);

	expect(conn, result, sql);
	PQclear(result);
}

void
db_send_put(PGconn *conn, const char *name, const void *data, size_t len)
{
	const char *values[1] = {data};
	int			lengths[1] = {(int) len};
	int			formats[1] = {1};

	if (!PQsendQueryPrepared(conn, name, 1, values, lengths, formats, 1))
		die("%s: %s", name, PQerrorMessage(conn));
}

void
db_put(PGconn *conn, const char *name, const void *data, size_t len)
{
	db_send_put(conn, name, data, len);
	db_finish_command(conn);
}

void
db_wait_readable(PGconn *conn)
{
	struct pollfd pollfd = {.fd = PQsocket(conn), .events = POLLIN};

	if (poll(&pollfd, 1, PATIENCE_MS) <= 0)
		die("nothing came from the server");
	if (!PQconsumeInput(conn))
		die("%s", PQerrorMessage(conn));
}

uint16_t
get16(const char *data)
{
	const uint8_t *bytes = (const uint8_t *) data;

	return (uint16_t) (bytes[0] << 8 | bytes[1]);
}

uint32_t
get32(const char *data)
{
	return (uint32_t) get16(data) << 16 | get16(data + 2);
}

uint64_t
get64(const char *data)
{
	return (uint64_t) get32(data) << 32 | get32(data + 4);
}
