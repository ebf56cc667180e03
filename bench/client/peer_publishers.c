/*
 * peer_publishers.c
 *	  What else PostgreSQL offers to publish from within a transaction: PgQ,
 *	  pgmq, a table with a relay, NOTIFY.
 */
#include "publishers.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Whoever polls does so a hundred times a second. */
#define POLL_US 10000

/* A statement without parameters, whose answer is text. */
static PGresult *
ask(PGconn *conn, const char *sql)
{
	PGresult   *result = PQexec(conn, sql);

	if (PQresultStatus(result) != PGRES_TUPLES_OK)
		die("%s: %s", sql, PQerrorMessage(conn));
	return result;
}

/* An outbox, and a relay that takes its rows away. */

bool
setup_outbox(PGconn *conn)
{
	db_run(conn, "CREATE TABLE outbox (id bigint GENERATED ALWAYS AS IDENTITY "
		   "PRIMARY KEY, collection text NOT NULL, payload jsonb NOT NULL)");
	return true;
}

void
reset_outbox(PGconn *conn)
{
	db_run(conn, "TRUNCATE outbox");
}

void
consume_outbox(PGconn *conn, Tally *tally)
{
	db_run(conn, "PREPARE take AS WITH taken AS (DELETE FROM outbox WHERE id = ANY "
		   "(ARRAY(SELECT id FROM outbox ORDER BY id LIMIT 1000 FOR UPDATE SKIP LOCKED)) "
		   "RETURNING id, payload) SELECT payload FROM taken ORDER BY id");
	tally->ready = true;
	while (!tally->stop)
	{
		PGresult   *result = ask(conn, "EXECUTE take");
		int			rows = PQntuples(result);

		tally_column(tally, result, 0);
		PQclear(result);
		if (rows == 0)
			sleep_us(POLL_US);
	}
}

/* pgmq: read and delete. */

/* Its SQL file is given by a variable. */
bool
setup_pgmq(PGconn *conn)
{
	const char *path = getenv("BENCH_PGMQ_SQL");
	FILE	   *file;
	char	   *sql;
	long		size;

	if (path == NULL || path[0] == '\0')
		return false;
	file = fopen(path, "r");
	if (file == NULL || fseek(file, 0, SEEK_END) != 0 || (size = ftell(file)) < 0)
		die("cannot read %s", path);
	rewind(file);
	sql = calloc(1, (size_t) size + 1);
	if (sql == NULL || fread(sql, 1, (size_t) size, file) != (size_t) size)
		die("cannot read %s", path);
	fclose(file);
	db_run(conn, "SET client_min_messages = error");
	db_run(conn, sql);
	free(sql);
	db_run(conn, "SELECT pgmq.create('bench')");
	return true;
}

void
reset_pgmq(PGconn *conn)
{
	db_run(conn, "TRUNCATE pgmq.q_bench");
}

void
consume_pgmq(PGconn *conn, Tally *tally)
{
	db_run(conn, "PREPARE take AS WITH taken AS MATERIALIZED "
		   "(SELECT msg_id, message FROM pgmq.read('bench', 60, 1000)) "
		   "SELECT message, msg_id FROM taken ORDER BY msg_id");
	db_run(conn, "PREPARE remove(bigint[]) AS SELECT count(*) FROM pgmq.delete('bench', $1)");
	tally->ready = true;
	while (!tally->stop)
	{
		PGresult   *result = ask(conn, "EXECUTE take");
		int			rows = PQntuples(result);
		char	   *sql = malloc(60 + 22 * (size_t) rows);
		size_t		len;

		if (sql == NULL)
			die("out of memory");
		tally_column(tally, result, 0);
		len = (size_t) sprintf(sql, "EXECUTE remove('{");
		for (int i = 0; i < rows; i++)
			len += (size_t) sprintf(sql + len, "%s%s", i ? "," : "", PQgetvalue(result, i, 1));
		sprintf(sql + len, "}')");
		PQclear(result);
		if (rows > 0)
			db_run(conn, sql);
		else
			sleep_us(POLL_US);
		free(sql);
	}
}

/* PgQ, whose ticker is pgqd. */

static pid_t ticker;

bool
setup_pgq(PGconn *conn)
{
	if (db_int(conn, "SELECT count(*) FROM pg_available_extensions WHERE name = 'pgq'") == 0 ||
		getenv("BENCH_PGQD") == NULL)
		return false;
	db_run(conn, "CREATE EXTENSION pgq");
	db_run(conn, "SELECT pgq.create_queue('bench')");
	db_run(conn, "SELECT pgq.set_queue_config('bench', 'ticker_max_lag', '100 milliseconds')");
	db_run(conn, "SELECT pgq.register_consumer('bench', 'bench')");
	return true;
}

/* It looks ten times a second; the database is this connection's. */
void
start_pgq(PGconn *conn)
{
	const char *dir = getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp";
	char		path[300];
	FILE	   *file;

	snprintf(path, sizeof(path), "%s/pgqd.ini", dir);
	file = fopen(path, "w");
	if (file == NULL)
		die("cannot write %s", path);
	fprintf(file, "[pgqd]\nlogfile = %s/pgqd.log\npidfile = %s/pgqd.pid\n"
			"base_connstr = host=%s port=%s user=%s\ninitial_database = postgres\n"
			"database_list = bench\nticker_period = 0.1\ncheck_period = 1\n",
			dir, dir, PQhost(conn), PQport(conn), PQuser(conn));
	fclose(file);
	fflush(stdout);
	ticker = fork();
	if (ticker < 0)
		die("cannot start a process");
	if (ticker == 0)
	{
		execl(getenv("BENCH_PGQD"), "pgqd", "-q", path, NULL);
		die("cannot run %s", getenv("BENCH_PGQD"));
	}
}

void
stop_pgq(void)
{
	int			status;

	if (kill(ticker, SIGINT) != 0 || waitpid(ticker, &status, 0) != ticker)
		die("the ticker has ended early");
}

/* Every batch ends where a tick was, and every event of it is processed. */
void
consume_pgq(PGconn *conn, Tally *tally)
{
	tally->ready = true;
	while (!tally->stop)
	{
		char	   *batch = db_value(conn, "SELECT coalesce(pgq.next_batch('bench', 'bench'), 0)");

		if (strcmp(batch, "0") != 0)
		{
			char		sql[120];
			PGresult   *result;

			snprintf(sql, sizeof(sql), "SELECT ev_data FROM pgq.get_batch_events(%s)", batch);
			result = ask(conn, sql);
			tally_column(tally, result, 0);
			PQclear(result);
			db_runf(conn, "SELECT pgq.finish_batch(%s)", batch);
		}
		else
			sleep_us(POLL_US);
		free(batch);
	}
}

/* NOTIFY, to one listener. */

void
consume_notify(PGconn *conn, Tally *tally)
{
	struct pollfd pollfd = {.fd = PQsocket(conn), .events = POLLIN};
	PGnotify   *notify;

	db_run(conn, "LISTEN bench");
	tally->ready = true;
	while (!tally->stop)
	{
		if (poll(&pollfd, 1, 100) > 0 && !PQconsumeInput(conn))
			die("%s", PQerrorMessage(conn));
		while ((notify = PQnotifies(conn)) != NULL)
		{
			tally_event(tally, notify->extra);
			PQfreemem(notify);
			tally_now(tally);
		}
	}
}
