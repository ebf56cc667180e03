/*
 * publish.c
 *	  Many clients, each of whose transactions inserts an order and publishes,
 *	  in turns: this extension beside what else there is.
 */
#include "publish.h"

#include "pgbench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const int	publish_clients[5] = {1, 4, 16, 64, 200};

/* One run's outcome. */
typedef struct Outcome
{
	double		rate;
	double		in_log_ms;	 /* after the last commit; of ours only */
	double		consumer_ms; /* of those with a consumer */
} Outcome;

/* After this, sessions have filled their caches. */
static int
warm_ms(int clients)
{
	return clients <= 16 ? 250 : clients <= 64 ? 500 : 1500;
}

/* Not even a moment is a moment: figures are positive. */
static double
delay_ms(int64_t since, int64_t until)
{
	return until > since ? (double) (until - since) / 1e6 : 0.001;
}

PGconn *
publish_begin(void)
{
	PGconn	   *conn = db_fresh();

	/* tables that are queues are to be vacuumed */
	db_run(conn, "ALTER SYSTEM SET autovacuum = on");
	db_run(conn, "ALTER SYSTEM SET autovacuum_naptime = '10s'");
	db_run(conn, "SELECT pg_reload_conf()");
	publish_make_orders(conn);
	return conn;
}

void
publish_end(PGconn *conn)
{
	db_run(conn, "ALTER SYSTEM RESET autovacuum");
	db_run(conn, "ALTER SYSTEM RESET autovacuum_naptime");
	db_run(conn, "SELECT pg_reload_conf()");
	PQfinish(conn);
}

int64_t
publish_waiting(PGconn *conn)
{
	return db_int(conn, "SELECT waiting_rows FROM seq_sequencer");
}

int
publish_sequencer(PGconn *conn)
{
	return (int) db_int(conn, "SELECT pid FROM seq_sequencer");
}

/* Nobody consumes what is in a plain table; it is there. */
static void
check_plain(PGconn *conn, int events)
{
	if (db_int(conn, "SELECT count(*) FROM plain") !=
		db_int(conn, "SELECT count(*) * %d FROM orders", events))
		die("the plain table does not have what was committed");
}

/*
 * So many seconds after the warming up, a few transactions if that is 0.  The
 * rate is 0 if it took too long to connect: pgbench's time begins before that.
 */
static Outcome
try_run(const Publisher *publisher, int clients, int events, int seconds, int more)
{
	PGconn	   *conn = db_connect();
	char	   *script = publisher_script(publisher, events);
	PublishConsumer consumer;
	PgbenchRun	run;
	Outcome		outcome = {0};
	int			warm = seconds > 0 ? warm_ms(clients) : 0;
	int			total = seconds > 0 ? seconds + more + (warm + 999) / 1000 : 0;
	int64_t		in_log = 0;
	pid_t		pid;

	publish_reset(publisher, conn);
	consumer = publish_consumer_start(publisher);
	pid = pgbench_start(script, clients, total);
	pgbench_wait(pid);
	if (publisher == &publish_send)
	{
		while (publish_waiting(conn) > 0)
			sleep_us(500);
		in_log = real_ns();
	}
	run = pgbench_result(warm, seconds * 500);
	outcome.rate = run.rate;
	if (publisher->consume)
	{
		int64_t		last = publish_consumer_finish(&consumer, conn, events);

		outcome.consumer_ms = delay_ms(run.last_commit, last);
		/* pgbench takes a while to end, and what has come is in the log */
		outcome.in_log_ms = delay_ms(run.last_commit, in_log < last ? in_log : last);
	}
	if (publisher == &publish_plain)
		check_plain(conn, events);
	free(script);
	PQfinish(conn);
	return outcome;
}

static Outcome
one_run(const Publisher *publisher, int clients, int events, int seconds)
{
	for (int more = 0; more <= 16; more += 4)
	{
		Outcome		outcome = try_run(publisher, clients, events, seconds, more);

		if (outcome.rate > 0)
			return outcome;
	}
	die("%d clients do not get warm", clients);
}

/* A run whose figures are put out. */
static void
measure(const Publisher *publisher, int clients, int events, int seconds)
{
	const char *how_many = events == 1 ? "one" : "ten";
	Outcome		outcome = one_run(publisher, clients, events, seconds);

	figure(outcome.rate * events, "publish.%s.%s.%d", how_many, publisher->name, clients);
	if (publisher->consume)
		figure(outcome.consumer_ms, "publish.%s.%s.%d.consumer_ms", how_many,
			   publisher->name, clients);
	if (publisher == &publish_send)
		figure(outcome.in_log_ms, "publish.%s.%s.%d.in_log_ms", how_many,
			   publisher->name, clients);
}

/* Who gives the scale only has fewer runs where there is little time. */
static const struct
{
	const Publisher *publisher;
	bool		is_target;
}			compared[] = {
	{&publish_none, false},
	{&publish_plain, true},
	{&publish_send, true},
	{&publish_outbox, false},
	{&publish_notify, false},
	{&publish_pgq, true},
	{&publish_pgmq, true},
};

void
section_publish(void)
{
	PGconn	   *conn = publish_begin();
	bool		there[lengthof(compared)];
	bool		quick = bench_size == SIZE_QUICK;
	int			seconds = by_size(0, 1, 10);

	for (int i = 0; i < lengthof(compared); i++)
		there[i] = compared[i].publisher->setup(conn);
	for (int round = 0; round < bench_repeat; round++)
	{
		for (int i = 0; i < lengthof(publish_clients); i++)
		{
			int			clients = publish_clients[i];

			for (int j = 0; j < lengthof(compared); j++)
			{
				/* not always the same one after the same one */
				int			k = (j + round) % lengthof(compared);
				const Publisher *publisher = compared[k].publisher;

				if (!there[k] || (quick && !compared[k].is_target && round > 0))
					continue;
				if (!quick || compared[k].is_target || i % 2 == 0)
					measure(publisher, clients, 1, seconds);
				if ((!quick || clients == 16) && publisher->statement)
					measure(publisher, clients, 10, seconds);
			}
		}
	}
	publish_end(conn);
}

/* calvin_bench publish_ratio SECONDS EVENTS CLIENTS...: a line a count. */
void
publish_ratio(int argc, char **argv)
{
	static const Publisher *const both[2] = {&publish_plain, &publish_send};
	int			seconds = argc > 2 ? atoi(argv[0]) : 0;
	int			events = argc > 2 ? atoi(argv[1]) : 0;
	PGconn	   *conn;

	if (seconds < 1 || events < 1)
		die("publish_ratio SECONDS EVENTS CLIENTS...");
	conn = publish_begin();
	for (int i = 0; i < 2; i++)
		(void) both[i]->setup(conn);
	printf("clients\tplain/s\tsend/s\tratio\tin log ms\tconsumer ms\n");
	for (int i = 2; i < argc; i++)
	{
		int			clients = atoi(argv[i]);
		double		sums[2] = {0};
		double		in_log_ms = 0;
		double		consumer_ms = 0;

		if (clients < 1 || clients > MAX_CLIENTS)
			die("at most %d clients", MAX_CLIENTS);
		/* halves, in turns, and not in the same order */
		for (int j = 0; j < 4; j++)
		{
			int			which = j == 1 || j == 2;
			Outcome		outcome = one_run(both[which], clients, events,
										  (seconds + 1) / 2);

			sums[which] += outcome.rate / 2;
			if (outcome.in_log_ms > in_log_ms)
				in_log_ms = outcome.in_log_ms;
			if (outcome.consumer_ms > consumer_ms)
				consumer_ms = outcome.consumer_ms;
		}
		printf("%d\t%.0f\t%.0f\t%.3f\t%.1f\t%.1f\n", clients, sums[0], sums[1],
			   sums[1] / sums[0], in_log_ms, consumer_ms);
		fflush(stdout);
	}
	publish_end(conn);
}
