/*
 * publish.c
 *	  Many clients, each of whose transactions inserts an order and publishes,
 *	  in turns: this extension beside what else there is.
 */
#include "pgbench.h"
#include "publishers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One run's outcome; the delays are of ours only. */
typedef struct Outcome
{
	double		rate;
	double		in_log_ms;
	double		consumer_ms;
} Outcome;

/* After this, sessions have filled their caches. */
static int
warm_ms(int clients, int seconds)
{
	if (seconds == 0)
		return 0;
	return clients <= 16 ? 250 : clients <= 64 ? 500 : 1500;
}

static double
delay_ms(int64_t since, int64_t until)
{
	return until > since ? (double) (until - since) / 1e6 : 0.001;
}

/* When all that was submitted is in the log, at the latest. */
static int64_t
all_in_log(PGconn *conn)
{
	while (db_int(conn, "SELECT waiting_rows FROM seq_sequencer") > 0)
		sleep_us(500);
	return real_ns();
}

static Outcome
one_run(const Publisher *publisher, int clients, int events, int seconds)
{
	PGconn	   *conn = db_connect();
	char	   *script = publisher_script(publisher, events);
	bool		ours = strncmp(publisher->name, "send", 4) == 0;
	PublishConsumer consumer;
	PgbenchRun	run;
	Outcome		outcome = {0};
	int64_t		in_log = 0;
	pid_t		pid;

	db_run(conn, "TRUNCATE orders");
	publisher->reset(conn);
	db_run(conn, "CHECKPOINT");
	if (publisher->start)
		publisher->start(conn);
	if (publisher->consume)
		consumer = publish_consumer_start(publisher);
	pid = pgbench_start(script, clients, seconds);
	pgbench_wait(pid);
	if (ours)
		in_log = all_in_log(conn);
	run = pgbench_result(warm_ms(clients, seconds));
	outcome.rate = run.rate;
	if (publisher->consume)
	{
		int64_t		last = publish_consumer_finish(&consumer, conn, events);

		outcome.consumer_ms = delay_ms(run.last_commit, last);
		/* what is with the consumer is in the log */
		outcome.in_log_ms = delay_ms(run.last_commit, in_log < last ? in_log : last);
	}
	if (publisher->stop)
		publisher->stop();
	free(script);
	PQfinish(conn);
	return outcome;
}

static void
make_orders(PGconn *conn)
{
	db_run(conn, "CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY "
		   "PRIMARY KEY, client int NOT NULL, n bigint NOT NULL)");
}

/* calvin_bench publish_ratio SECONDS EVENTS CLIENTS...: a line a count. */
void
publish_ratio(int argc, char **argv)
{
	const Publisher *plain = publisher_named("plain");
	const Publisher *send = publisher_named("send");
	int			seconds = argc > 2 ? atoi(argv[0]) : 0;
	int			events = argc > 2 ? atoi(argv[1]) : 0;
	PGconn	   *conn = db_fresh();

	if (seconds < 1 || events < 1)
		die("publish_ratio SECONDS EVENTS CLIENTS...");
	make_orders(conn);
	(void) plain->setup(conn);
	(void) send->setup(conn);
	PQfinish(conn);
	printf("clients\tplain/s\tsend/s\tratio\tin log ms\tconsumer ms\n");
	for (int i = 2; i < argc; i++)
	{
		int			clients = atoi(argv[i]);
		double		sums[2] = {0};
		double		in_log_ms = 0;
		double		consumer_ms = 0;

		/* halves, in turns, and not in the same order */
		for (int j = 0; j < 2; j++)
		{
			for (int k = 0; k < 2; k++)
			{
				Outcome		outcome = one_run(j == k ? plain : send, clients,
											  events, (seconds + 1) / 2);

				sums[j == k ? 0 : 1] += outcome.rate / 2;
				if (outcome.in_log_ms > in_log_ms)
					in_log_ms = outcome.in_log_ms;
				if (outcome.consumer_ms > consumer_ms)
					consumer_ms = outcome.consumer_ms;
			}
		}
		printf("%d\t%.0f\t%.0f\t%.3f\t%.1f\t%.1f\n", clients, sums[0], sums[1],
			   sums[1] / sums[0], in_log_ms, consumer_ms);
		fflush(stdout);
	}
}
