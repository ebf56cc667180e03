/*
 * publish_peers.c
 *	  What else an application can publish with: a table that a relay empties,
 *	  NOTIFY, PgQ and pgmq.
 */
#include "publishers.h"

#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* An outbox, and a relay: who polls it and deletes what it has handed on. */

static bool
setup_outbox(PGconn *conn)
{
	db_run(conn, "CREATE TABLE outbox (id bigint GENERATED ALWAYS AS IDENTITY "
		   "PRIMARY KEY, payload jsonb NOT NULL)");
	return true;
}

static void
reset_outbox(PGconn *conn)
{
	db_run(conn, "TRUNCATE outbox");
}

static void
consume_outbox(PGconn *conn, Tally *tally)
{
	db_prepare(conn, "take", "WITH taken AS (DELETE FROM outbox WHERE id = ANY "
			   "(ARRAY(SELECT id FROM outbox ORDER BY id LIMIT 1000 FOR UPDATE SKIP LOCKED)) "
			   "RETURNING id, payload) SELECT payload::text FROM taken ORDER BY id");
	tally->ready = true;
	while (!tally->stop)
	{
		PGresult   *result;
		bool		empty;

		db_send_prepared(conn, "take");
		result = db_answer(conn);
		tally_column(tally, result, 0);
		empty = PQntuples(result) == 0;
		PQclear(result);
		db_finish_command(conn);
		if (empty)
			sleep_us(POLL_US);
	}
}

const Publisher publish_outbox = {
	.name = "outbox",
	.setup = setup_outbox,
	.reset = reset_outbox,
	.statement = "INSERT INTO outbox (payload) VALUES ((" EVENT ")::jsonb)",
	.consume = consume_outbox,
};

/* NOTIFY: who does not listen gets nothing. */

static bool
setup_notify(PGconn *conn)
{
	(void) conn;
	return true;
}

static void
consume_notify(PGconn *conn, Tally *tally)
{
	struct pollfd pollfd = {.fd = PQsocket(conn), .events = POLLIN};

	db_run(conn, "LISTEN bench");
	tally->ready = true;
	while (!tally->stop)
	{
		PGnotify   *notify;
		bool		some = false;

		if (poll(&pollfd, 1, 100) < 0 || !PQconsumeInput(conn))
			die("%s", PQerrorMessage(conn));
		while ((notify = PQnotifies(conn)) != NULL)
		{
			tally_event(tally, notify->extra);
			PQfreemem(notify);
			some = true;
		}
		if (some)
			tally_now(tally);
	}
}

const Publisher publish_notify = {
	.name = "notify",
	.setup = setup_notify,
	.reset = publisher_no_reset,
	.statement = "SELECT pg_notify('bench', " EVENT ")",
	.consume = consume_notify,
};

/* PgQ, whose daemon ticks ten times a second. */

static bool
in_path(const char *program)
{
	char	   *path = strdup(getenv("PATH") ? getenv("PATH") : "");
	char	   *rest = path;
	char	   *dir;
	bool		found = false;

	while (!found && (dir = strsep(&rest, ":")) != NULL)
	{
		char		name[400];

		snprintf(name, sizeof(name), "%s/%s", dir, program);
		found = access(name, X_OK) == 0;
	}
	free(path);
	return found;
}

static bool
setup_pgq(PGconn *conn)
{
	if (!in_path("pgqd") ||
		db_int(conn, "SELECT count(*) FROM pg_available_extensions WHERE name = 'pgq'") == 0)
	{
		printf("PgQ\tnot measured: not installed\n");
		return false;
	}
	db_run(conn, "CREATE EXTENSION pgq");
	return true;
}

static void
reset_pgq(PGconn *conn)
{
	db_run(conn, "SELECT pgq.drop_queue(queue_name, true) FROM pgq.queue");
	db_run(conn, "SELECT pgq.create_queue('bench')");
	db_run(conn, "SELECT pgq.set_queue_config('bench', 'ticker_max_lag', '100 ms')");
}

static pid_t
start_pgqd(void)
{
	const char *dir = getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp";
	char		ini[300];
	FILE	   *file;
	pid_t		pid;

	snprintf(ini, sizeof(ini), "%s/pgqd.ini", dir);
	file = fopen(ini, "w");
	if (file == NULL ||
		fprintf(file, "[pgqd]\nlogfile = %s/pgqd.log\npidfile = %s/pgqd.pid\n"
				"database_list = bench\nticker_period = 0.1\n", dir, dir) < 0 ||
		fclose(file) != 0)
		die("cannot write %s", ini);
	fflush(stdout);
	pid = fork();
	if (pid < 0)
		die("cannot start a process");
	if (pid == 0)
	{
		execlp("pgqd", "pgqd", "-q", ini, NULL);
		die("cannot run pgqd");
	}
	return pid;
}

static void
consume_pgq(PGconn *conn, Tally *tally)
{
	db_run(conn, "SELECT pgq.register_consumer('bench', 'bench')");
	tally->ready = true;
	while (!tally->stop)
	{
		int64_t		batch = db_int(conn, "SELECT coalesce(pgq.next_batch('bench', 'bench'), 0)");
		PGresult   *result;
		char		sql[100];

		if (batch == 0)
		{
			sleep_us(POLL_US);
			continue;
		}
		snprintf(sql, sizeof(sql), "SELECT ev_data FROM pgq.get_batch_events(%" PRId64 ")", batch);
		db_send(conn, sql);
		result = db_answer(conn);
		tally_column(tally, result, 0);
		PQclear(result);
		db_finish_command(conn);
		db_runf(conn, "SELECT pgq.finish_batch(%" PRId64 ")", batch);
	}
}

const Publisher publish_pgq = {
	.name = "pgq",
	.setup = setup_pgq,
	.reset = reset_pgq,
	.statement = "SELECT pgq.insert_event('bench', 'order', " EVENT ")",
	.consume = consume_pgq,
	.start_beside = start_pgqd,
};

/* pgmq, from the file that PGMQ_SQL names. */

static bool
setup_pgmq(PGconn *conn)
{
	const char *path = getenv("PGMQ_SQL");
	FILE	   *file;
	char	   *sql;
	long		size;

	if (path == NULL || path[0] == '\0')
	{
		printf("pgmq\tnot measured: PGMQ_SQL names no file\n");
		return false;
	}
	file = fopen(path, "r");
	if (file == NULL || fseek(file, 0, SEEK_END) != 0 || (size = ftell(file)) < 0 ||
		fseek(file, 0, SEEK_SET) != 0)
		die("cannot read %s", path);
	sql = calloc(1, (size_t) size + 1);
	if (sql == NULL)
		die("out of memory");
	if (fread(sql, 1, (size_t) size, file) != (size_t) size)
		die("cannot read %s", path);
	fclose(file);
	db_run(conn, sql);
	free(sql);
	db_run(conn, "SELECT pgmq.create('bench')");
	return true;
}

static void
reset_pgmq(PGconn *conn)
{
	db_run(conn, "SELECT pgmq.purge_queue('bench')");
}

static void
consume_pgmq(PGconn *conn, Tally *tally)
{
	PGresult   *prepared;

	db_prepare(conn, "read", "SELECT message::text, msg_id::text AS id FROM "
			   "pgmq.read('bench', 60, 1000) ORDER BY msg_id");
	prepared = PQprepare(conn, "delete", "SELECT count(*) FROM pgmq.delete('bench', $1::bigint[])", 0, NULL);
	if (PQresultStatus(prepared) != PGRES_COMMAND_OK)
		die("%s", PQerrorMessage(conn));
	PQclear(prepared);
	tally->ready = true;
	while (!tally->stop)
	{
		PGresult   *result;
		const char *values[1];
		char	   *ids;
		size_t		len = 0;
		int			rows;

		db_send_prepared(conn, "read");
		result = db_answer(conn);
		rows = PQntuples(result);
		tally_column(tally, result, 0);
		ids = malloc((size_t) rows * 21 + 3);
		if (ids == NULL)
			die("out of memory");
		for (int i = 0; i < rows; i++)
			len += (size_t) sprintf(ids + len, "%c%s", i == 0 ? '{' : ',', PQgetvalue(result, i, 1));
		PQclear(result);
		db_finish_command(conn);
		if (rows > 0)
		{
			strcpy(ids + len, "}");
			values[0] = ids;
			if (!PQsendQueryPrepared(conn, "delete", 1, values, NULL, NULL, 0))
				die("%s", PQerrorMessage(conn));
			db_finish_command(conn);
		}
		free(ids);
		if (rows == 0)
			sleep_us(POLL_US);
	}
}

const Publisher publish_pgmq = {
	.name = "pgmq",
	.setup = setup_pgmq,
	.reset = reset_pgmq,
	.statement = "SELECT pgmq.send('bench', (" EVENT ")::jsonb)",
	.consume = consume_pgmq,
};
