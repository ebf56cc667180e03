/*
 * publish_held.c
 *	  Sixteen clients that publish while somebody holds an old snapshot: does it
 *	  go on as before, and what becomes of the inbox?
 */
#include "publish.h"

#include "pgbench.h"

#include <stdlib.h>

#define CLIENTS 16
#define MAX_SLICES 100

/* Bytes on disk. */
static int64_t
inbox_size(PGconn *conn)
{
	return db_int(conn, "SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint "
				  "FROM pg_class WHERE relname ~ '^seq_inbox(_[0-9]+)?$'");
}

static int64_t
inbox_waiting(PGconn *conn)
{
	return db_int(conn, "SELECT waiting_bytes FROM seq_sequencer");
}

/* What the inbox had at most, and at most beyond what waited, until then. */
static void
watch_inbox(PGconn *conn, int64_t until, bool ours, int64_t *most, int64_t *most_beyond)
{
	while (now_ns() < until)
	{
		if (ours)
		{
			/* in this order: what is taken in between is not missed */
			int64_t		size = inbox_size(conn);
			int64_t		waiting = inbox_waiting(conn);

			if (size > *most)
				*most = size;
			if (size - waiting > *most_beyond)
				*most_beyond = size - waiting;
		}
		sleep_us(500000);
	}
}

/* The first slice is for warming up, the second the measure for the last two. */
static void
one_publisher(const Publisher *publisher, PGconn *conn)
{
	int			slice_ms = by_size(200, 5000, 30000);
	int			held_slices = by_size(4, 12, 10);
	int			ms = slice_ms * (2 + held_slices);
	int64_t		hold_at = now_ns();
	char	   *script = publisher_script(publisher, 1);
	PGconn	   *holder = db_connect();
	PublishConsumer consumer;
	double		rates[MAX_SLICES];
	int			slices;
	int64_t		most = 0;
	int64_t		most_beyond = 0;
	int64_t		until;
	pid_t		pid;

	publish_reset(publisher, conn);
	consumer = publish_consumer_start(publisher);
	hold_at = now_ns() + slice_ms * INT64_C(2000000);
	until = now_ns() + ms * INT64_C(1000000);
	pid = pgbench_start(script, CLIENTS, (ms + 999) / 1000 + 1);
	while (now_ns() < hold_at)
		sleep_us(10000);
	db_run(holder, "BEGIN ISOLATION LEVEL REPEATABLE READ");
	db_run(holder, "SELECT 1 FROM orders LIMIT 1");
	watch_inbox(conn, until, publisher == &publish_send, &most, &most_beyond);
	pgbench_wait(pid);
	db_run(holder, "COMMIT");
	slices = pgbench_slices(slice_ms, rates, MAX_SLICES);
	if (slices < 5)
		die("too few slices of the run with a snapshot");
	figure(rates[1], "publish.held.%s.before", publisher->name);
	figure((rates[slices - 1] + rates[slices - 2]) / 2, "publish.held.%s.last",
		   publisher->name);
	if (publisher->consume)
		(void) publish_consumer_finish(&consumer, conn, 1);
	if (publisher == &publish_send)
	{
		figure((double) most / 1e6 + 0.001, "publish.held.inbox_mb");
		figure((double) most_beyond / 1e6 + 0.001, "publish.held.inbox_beyond_mb");
	}
	free(script);
	PQfinish(holder);
}

/* Once: it takes long. */
void
section_publish_held(void)
{
	static const Publisher *const held[] = {&publish_plain, &publish_send, &publish_outbox,
		&publish_pgq, &publish_pgmq};
	PGconn	   *conn = publish_begin();

	for (int i = 0; i < lengthof(held); i++)
	{
		/* beside ours only where there is time */
		if (bench_size == SIZE_QUICK && held[i] != &publish_send)
			continue;
		if (held[i]->setup(conn))
			one_publisher(held[i], conn);
	}
	publish_end(conn);
}
