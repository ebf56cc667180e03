/*
 * log.c
 *	  What happens to the log alone: small appends, replay, and catching up
 *	  after a restart.
 */
#include "workload.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Append so many epochs, "a_commit" in one transaction. */
static int64_t
append_epochs(PGconn *conn, Batches *batches, const char *statement, int epochs,
			  int a_commit)
{
	int64_t		start = now_ns();

	for (int i = 0; i < epochs; i++)
	{
		if (a_commit > 1 && i % a_commit == 0)
			db_run(conn, "BEGIN");
		batches_next(batches);
		db_put(conn, statement, batches->data, batches->len);
		if (a_commit > 1 && (i % a_commit == a_commit - 1 || i == epochs - 1))
			db_run(conn, "COMMIT");
	}
	return now_ns() - start;
}

/* Processes that each execute a statement so many times, all committing. */
static int64_t
run_appenders(int appenders, int times, const char *sql)
{
	pid_t		pids[16];
	int			fds[2];
	int64_t		start;
	int			status;
	char		go;

	if (pipe(fds) != 0)
		die("cannot make a pipe");
	fflush(stdout);
	for (int i = 0; i < appenders; i++)
	{
		if ((pids[i] = fork()) < 0)
			die("cannot start a process");
		if (pids[i] == 0)
		{
			PGconn	   *conn = db_connect();

			close(fds[1]);
			db_prepare(conn, "append", sql);
			/* all begin when the writing end is closed */
			if (read(fds[0], &go, 1) != 0)
				die("the start was not given");
			for (int j = 0; j < times; j++)
			{
				/* CompletionAck(7, 3, 1000) */
				static const uint8_t ack[] = "\x92\xad" "CompletionAck\x93\x07\x03\xcd\x03\xe8";

				db_put(conn, "append", ack, sizeof(ack) - 1);
			}
			PQfinish(conn);
			_exit(0);
		}
	}
	close(fds[0]);
	sleep_us(by_size(50, 200, 200) * 1000);
	start = now_ns();
	close(fds[1]);
	for (int i = 0; i < appenders; i++)
	{
		if (waitpid(pids[i], &status, 0) != pids[i] || status != 0)
			die("an appender failed");
	}
	return now_ns() - start;
}

void
section_append(void)
{
	static const int commits[] = {1, 10, 100, 1000};
	static const int appenders[] = {1, 2, 4};
	Workload	load = {"", 1, 2, 64, 64};
	PGconn	   *conn = db_fresh();
	Batches    *batches = batches_create(&load);
	Batches    *unused = batches_create(&load);

	db_run(conn, "CREATE TABLE plain (id bigint GENERATED ALWAYS AS IDENTITY "
		   "PRIMARY KEY, entry bytea NOT NULL)");
	db_run(conn, "ALTER TABLE plain ALTER COLUMN entry SET STORAGE EXTERNAL");
	db_prepare(conn, "append", "SELECT seq_append($1)");
	db_prepare(conn, "plain", "INSERT INTO plain (entry) VALUES ($1)");
	for (int i = 0; i < bench_repeat; i++)
	{
		for (int j = 0; j < lengthof(commits); j++)
		{
			int			n = by_size(20, commits[j] == 1 ? 1000 : 5000, 20000);

			figure(rate(n, append_epochs(conn, batches, "append", n, commits[j])),
				   "append.commit_of.%d", commits[j]);
			figure(rate(n, append_epochs(conn, unused, "plain", n, commits[j])),
				   "append.commit_of_plain.%d", commits[j]);
		}
		for (int j = 0; j < lengthof(appenders); j++)
		{
			int			n = by_size(20, 1000, 5000) / appenders[j];

			figure(rate(n * appenders[j],
						run_appenders(appenders[j], n, "SELECT seq_append($1)")),
				   "append.appenders.%d", appenders[j]);
			figure(rate(n * appenders[j],
						run_appenders(appenders[j], n,
									  "INSERT INTO plain (entry) VALUES ($1)")),
				   "append.appenders_plain.%d", appenders[j]);
		}
	}
	batches_free(unused);
	batches_free(batches);
	PQfinish(conn);
}

/* Transactions of the log a second, through which a vshard's are found. */
static void
replay_all(PGconn *conn, const Batches *batches, uint32_t vshard,
		   const char *name)
{
	int64_t		start = now_ns();
	int64_t		rows;

	rows = db_int(conn, "SELECT count(r) FROM (SELECT seq_replay(%u, 0, %lld) AS r OFFSET 0) AS s",
				  vshard, (long long) batches->epoch - 1);
	figure(rate((double) batches->txns, now_ns() - start), "replay.%s", name);
	figure((double) rows, "replay.%s_rows", name);
}

void
section_replay(void)
{
	/* a vshard in one transaction of 180, and one in each */
	Workload	sparse = {"", 1024, 2, 64, ALL_VSHARDS};
	Workload	dense = {"", 1024, 2, 64, 2};
	const Workload *loads[] = {&sparse, &dense};
	const char *loads_names[] = {"sparse", "dense"};

	for (int i = 0; i < lengthof(loads); i++)
	{
		PGconn	   *conn = db_fresh();
		Batches    *batches = batches_create(loads[i]);

		db_prepare(conn, "append", "SELECT seq_append($1)");
		append_epochs(conn, batches, "append", by_size(2, 400, 1600), 100);
		db_run(conn, "VACUUM ANALYZE seq_log");
		for (int j = 0; j <= bench_repeat; j++)
		{
			/* the first time sets hint bits and warms the cache */
			if (j > 0)
				replay_all(conn, batches, batches->vshards[0], loads_names[i]);
			else
				db_int(conn, "SELECT count(*) FROM seq_replay(%u, 0, %lld)",
					   batches->vshards[0], (long long) batches->epoch - 1);
		}
		batches_free(batches);
		PQfinish(conn);
	}
}

static bool
is_large(const char *what)
{
	return strcmp(what, "large") == 0 || strcmp(what, "warm") == 0;
}

/*
 * The log that a restart is to read: "short" or "long" (ten times as long) of
 * small epochs, or "large" ones; "warm" if they are in shared_buffers then.  A prepared transaction holds the applier up,
 * over the restart too, until somebody is there to take the time.
 */
static Workload
catchup_load(const char *what, int *epochs)
{
	if (is_large(what))
	{
		Workload	load = {"", 1024, 2, 64, ALL_VSHARDS};

		*epochs = by_size(4, 1000, 4000);
		return load;
	}
	*epochs = by_size(4, 1000, 2000) * (strcmp(what, "long") == 0 ? 10 : 1);
	return workloads[2];
}

/* What the entries are stored in, which the held lock does not lock. */
static void
warm_up(PGconn *conn)
{
	db_run(conn, "SELECT pg_prewarm(c) FROM pg_class t "
		   "LEFT JOIN pg_index i ON i.indrelid = t.reltoastrelid, "
		   "unnest(ARRAY[t.reltoastrelid, i.indexrelid]::regclass[]) c "
		   "WHERE t.oid = 'seq_log'::regclass");
}

static void
hold(PGconn *conn)
{
	db_run(conn, "BEGIN");
	db_run(conn, "LOCK TABLE seq_log IN ACCESS EXCLUSIVE MODE");
	db_run(conn, "PREPARE TRANSACTION 'bench_hold'");
}

/*
 * Narrow ranges all over a log, the same number of different ones whatever its
 * length: what is in the processor's caches is not what is compared.
 */
#define NARROW_RANGES 20

static void
replay_narrow(PGconn *conn, const Batches *batches, const char *what, int epochs)
{
	int			times = by_size(10, 200, 1000);
	int64_t		start = now_ns();

	for (int i = 0; i < times; i++)
	{
		int			from = i % NARROW_RANGES * epochs / NARROW_RANGES;

		(void) db_int(conn, "SELECT count(*) FROM seq_replay(%u, %d, %d)",
					  batches->vshards[0], from, from + 9);
	}
	figure((double) (now_ns() - start) / times / 1e3, "growth.narrow_us.%s", what);
}

void
catchup_prepare(const char *what)
{
	int			epochs;
	Workload	load = catchup_load(what, &epochs);
	Batches    *batches = batches_create(&load);
	PGconn	   *conn = db_fresh();

	db_prepare(conn, "append", "SELECT seq_append($1)");
	append_epochs(conn, batches, "append", epochs, 100);
	db_run(conn, "VACUUM ANALYZE seq_log");
	if (!is_large(what))
	{
		for (int i = 0; i <= bench_repeat; i++)
		{
			if (i > 0)
				replay_narrow(conn, batches, what, epochs);
			else
				db_int(conn, "SELECT count(*) FROM seq_replay(0, 0, %d)", epochs);
		}
	}
	if (db_int(conn, "SELECT seq_wait_for_epoch(%d, '60s')::int", epochs - 1) != 1)
		die("the log was not applied in time");
	db_run(conn, "DELETE FROM seq_snapshots");
	db_run(conn, "CREATE EXTENSION IF NOT EXISTS pg_prewarm");
	if (!is_large(what))
		db_run(conn, "SELECT seq_snapshot()");
	db_run(conn, "CHECKPOINT");
	hold(conn);
	batches_free(batches);
	PQfinish(conn);
}

/* After a restart: let go, and take the time until all is applied. */
void
catchup_release(const char *what)
{
	int			epochs;
	Workload	load = catchup_load(what, &epochs);
	PGconn	   *conn = db_connect();
	int64_t		start;
	double		seconds;
	char	   *digest;

	/* the lock is what it waits for */
	while (db_int(conn, "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) "
				  "WHERE a.backend_type = 'calvin_seq applier' AND NOT l.granted") == 0)
		sleep_us(5000);
	if (strcmp(what, "warm") == 0)
		warm_up(conn);
	start = now_ns();
	db_run(conn, "COMMIT PREPARED 'bench_hold'");
	while (db_int(conn, "SELECT coalesce(seq_last_applied_epoch(), -1)") != epochs - 1)
		sleep_us(500);
	seconds = (double) (now_ns() - start) / 1e9;
	digest = db_value(conn, "SELECT digest FROM seq_state");
	if (strlen(digest) != 16)
		die("no digest: %s", digest);
	free(digest);

	if (is_large(what))
		figure((double) epochs * load.txns / seconds,
			   strcmp(what, "warm") == 0 ? "catchup.warm_txns" : "catchup.txns");
	else
		figure(seconds * 1e3, "growth.restart_ms.%s", what);
	db_run(conn, "CHECKPOINT");
	hold(conn);
	PQfinish(conn);
}

/* Nothing is held any more, so that the database can be dropped. */
void
catchup_done(void)
{
	PGconn	   *conn = db_connect();

	db_run(conn, "ROLLBACK PREPARED 'bench_hold'");
	PQfinish(conn);
}
