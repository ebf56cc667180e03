/*
 * publish_drain.c
 *	  A sequencer that could not append for a while: how fast what waits gets
 *	  into the log, and how much memory it takes.  And one with nothing to do.
 */
#include "publish.h"

#include "pgbench.h"

#include <inttypes.h>
#include <stdio.h>

#define A_COMMIT 10000
#define PAYLOAD_BYTES 100
#define CLIENTS 16

/* Of its own will. */
#define SLEEPS "voluntary_ctxt_switches"

/* Who has appended and not committed: nothing else gets into the log. */
static PGconn *
hold_log(void)
{
	PGconn	   *conn = db_connect();

	db_run(conn, "BEGIN");
	db_run(conn, "SELECT seq_append_json('{\"EpochBatch\": {\"txns\": [{\"tx_class\": {"
		   "\"plans\": \"\\\\x00\", \"write_set\": [{\"Document\": {\"collection\": \"held\"}}]}}]}}')");
	return conn;
}

static int64_t
count_sequenced(PGconn *conn)
{
	return db_int(conn, "SELECT sequenced FROM seq_sequencer");
}

/* Those, once each, and nothing left. */
static void
check_drained(PGconn *conn, int64_t sequenced)
{
	int64_t		now = count_sequenced(conn);
	int64_t		waiting = publish_waiting(conn);

	if (now != sequenced || waiting != 0)
		die("%" PRId64 " submissions are sequenced and %" PRId64 " wait, instead of %" PRId64
			" and none", now, waiting, sequenced);
}

/* Let go, and wait until so many more are in the log: the time it took. */
static int64_t
drain(PGconn *conn, PGconn *holder, int64_t before, int64_t submissions,
	  int64_t *peak_kb)
{
	int			pid = publish_sequencer(conn);
	int64_t		sequenced = before + submissions;
	int64_t		start;
	int64_t		look_at = 0;

	if (count_sequenced(conn) != before || publish_waiting(conn) == 0)
		die("the sequencer was not held");
	*peak_kb = process_figure(pid, "RssAnon");
	start = now_ns();
	PQfinish(holder);
	while (count_sequenced(conn) < sequenced)
	{
		if (now_ns() >= look_at)
		{
			int64_t		kb = process_figure(pid, "RssAnon");

			if (kb > *peak_kb)
				*peak_kb = kb;
			look_at = now_ns() + 20000000;
		}
		if (now_ns() - start > INT64_C(600000000000))
			die("what waited does not get into the log");
		sleep_us(2000);
	}
	return now_ns() - start;
}

/* So many in a few transactions. */
static void
drain_large(PGconn *conn, int64_t submissions, const char *name)
{
	int64_t		before = count_sequenced(conn);
	PGconn	   *holder = hold_log();
	int64_t		peak_kb;
	int64_t		ns;

	for (int64_t i = 0; i < submissions; i += A_COMMIT)
		db_runf(conn, "SELECT count(seq_send_bytes('orders/' || i %% 1000, "
				"decode(repeat('ab', %d), 'hex'))) FROM generate_series(1, %d) i",
				PAYLOAD_BYTES, A_COMMIT);
	ns = drain(conn, holder, before, submissions, &peak_kb);
	check_drained(conn, before + submissions);
	figure(rate((double) submissions, ns), "publish.drain.%s", name);
	figure((double) peak_kb, "publish.drain.%s_kb", name);
}

/* One a transaction. */
static void
drain_small(PGconn *conn)
{
	int64_t		before = count_sequenced(conn);
	PGconn	   *holder = hold_log();
	char		script[200];
	PgbenchRun	run;
	int64_t		peak_kb;
	int64_t		ns;

	snprintf(script, sizeof(script), "SELECT seq_send_bytes('orders/' || :client_id, "
			 "decode(repeat('ab', %d), 'hex'));\n", PAYLOAD_BYTES);
	pgbench_wait(pgbench_start(script, CLIENTS, by_size(0, 4, 20)));
	run = pgbench_result(0, 0);
	ns = drain(conn, holder, before, run.transactions, &peak_kb);
	check_drained(conn, before + run.transactions);
	figure(rate((double) run.transactions, ns), "publish.drain.single");
	figure((double) peak_kb, "publish.drain.single_kb");
}

static void
idle(PGconn *conn)
{
	int			pid;
	int64_t		before;

	sleep_us(1000000);
	pid = publish_sequencer(conn);
	before = process_figure(pid, SLEEPS);
	sleep_us(by_size(1, 5, 10) * 1000000);
	if (publish_sequencer(conn) != pid)
		die("the sequencer was started anew while it was idle");
	if (db_int(conn, "SELECT count(*) FROM pg_stat_activity WHERE backend_xmin IS NOT NULL "
			   "AND pid = %d", pid) > 0)
		die("the sequencer has a snapshot while it is idle");
	/* figures are positive: half a wake-up is none */
	figure((double) (process_figure(pid, SLEEPS) - before) + 0.5, "publish.idle.wakeups");
}

void
section_publish_drain(void)
{
	PGconn	   *conn = publish_begin();
	int64_t		submissions = by_size(100000, 400000, 2000000);

	/* once, where there is little time */
	for (int i = 0; i < by_size(1, 1, bench_repeat); i++)
	{
		drain_large(conn, submissions / 10, "tenth");
		drain_large(conn, submissions, "all");
		drain_small(conn);
		idle(conn);
	}
	publish_end(conn);
}
