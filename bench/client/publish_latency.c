/*
 * publish_latency.c
 *	  From a COMMIT to the row that a client waits for, beside INSERT + NOTIFY
 *	  from its COMMIT to the notification: alone, and while 16 clients publish
 *	  in the same way at full speed.
 */
#include "publish.h"

#include "pgbench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOAD_CLIENTS 16

#define MAX_SAMPLES 20000

typedef struct Probe
{
	PGconn	   *sender;
	PGconn	   *receiver; /* waits in seq_receive */
	PGconn	   *listener;
	char	   *collection; /* nobody else's, nor is its vshard */
	int64_t		next;
	double		us[2][MAX_SAMPLES];
	int			count[2];
} Probe;

static void
report(Probe *probe, int which, const char *name)
{
	figure_durations(probe->us[which], probe->count[which], name);
	probe->count[which] = 0;
}

static void
begin(Probe *probe)
{
	db_run(probe->sender, "BEGIN");
	db_runf(probe->sender, "INSERT INTO probes (n) VALUES (%lld)", (long long) ++probe->next);
}

static void
sample_send(Probe *probe)
{
	PGresult   *result;
	int64_t		start;
	char		expected[40];

	db_send_prepared(probe->receiver, "receive");
	begin(probe);
	db_runf(probe->sender, "SELECT seq_send('%s', '{\"n\": %lld}')", probe->collection,
			(long long) probe->next);
	sleep_us(500);
	start = now_ns();
	db_send(probe->sender, "COMMIT");
	while (PQisBusy(probe->receiver))
		db_wait_readable(probe->receiver);
	probe->us[0][probe->count[0]++] = (double) (now_ns() - start) / 1e3;
	result = db_answer(probe->receiver);
	snprintf(expected, sizeof(expected), "{\"n\": %lld}", (long long) probe->next);
	if (PQntuples(result) != 1 || strcmp(PQgetvalue(result, 0, 0), expected) != 0)
		die("another event came than the one sent");
	PQclear(result);
	db_finish_command(probe->receiver);
	db_finish_command(probe->sender);
}

static void
sample_notify(Probe *probe)
{
	PGnotify   *notify;
	int64_t		start;

	begin(probe);
	db_runf(probe->sender, "SELECT pg_notify('probe', '%lld')", (long long) probe->next);
	sleep_us(500);
	start = now_ns();
	db_send(probe->sender, "COMMIT");
	while ((notify = PQnotifies(probe->listener)) == NULL)
		db_wait_readable(probe->listener);
	probe->us[1][probe->count[1]++] = (double) (now_ns() - start) / 1e3;
	if (strtoll(notify->extra, NULL, 10) != probe->next)
		die("another notification came than the one sent");
	PQfreemem(notify);
	db_finish_command(probe->sender);
}

/* Sample while those clients publish in the same way, and somebody consumes. */
static void
sample_under_load(Probe *probe, const Publisher *publisher, int which)
{
	int			seconds = by_size(1, 3, 15);
	char	   *script = publisher_script(publisher, 1);
	PGconn	   *conn = db_connect();
	PublishConsumer consumer;
	int64_t		start;
	pid_t		pid;

	publish_reset(publisher, conn);
	consumer = publish_consumer_start(publisher);
	start = now_ns();
	pid = pgbench_start(script, LOAD_CLIENTS, seconds);
	sleep_us(400000);
	/* and no longer than the load lasts */
	do
	{
		if (which == 0)
			sample_send(probe);
		else
			sample_notify(probe);
	} while (now_ns() - start < seconds * INT64_C(1000000000) - 200000000 &&
			 probe->count[which] < MAX_SAMPLES);
	pgbench_wait(pid);
	(void) pgbench_result(0, 0);
	(void) publish_consumer_finish(&consumer, conn, 1);
	free(script);
	PQfinish(conn);
}

static void
prepare(Probe *probe, PGconn *conn)
{
	probe->sender = conn;
	probe->receiver = db_connect();
	probe->listener = db_connect();
	db_run(conn, "CREATE TABLE probes (id bigint GENERATED ALWAYS AS IDENTITY "
		   "PRIMARY KEY, n bigint NOT NULL)");
	probe->collection = db_value(conn, "SELECT 'probe/' || i FROM generate_series(1, 1000) i "
								 "WHERE seq_vshard('probe/' || i) NOT IN "
								 "(SELECT seq_vshard('orders/' || c) FROM generate_series(0, %d) c) "
								 "LIMIT 1", MAX_CLIENTS - 1);
	db_runf(probe->receiver, "SELECT seq_subscribe(ARRAY[seq_vshard('%s')], 'probe')",
			probe->collection);
	db_prepare(probe->receiver, "receive", "SELECT plans FROM seq_receive(1, '60s', 'probe')");
	db_run(probe->listener, "LISTEN probe");
}

void
section_publish_latency(void)
{
	Probe	   *probe = calloc(1, sizeof(Probe));
	PGconn	   *conn = publish_begin();
	int			samples = by_size(20, 1000, 4000);

	if (probe == NULL)
		die("out of memory");
	(void) publish_send.setup(conn);
	(void) publish_notify.setup(conn);
	prepare(probe, conn);
	for (int round = 0; round < bench_repeat; round++)
	{
		/* one after the other, so that both meet the same machine */
		for (int i = 0; i < samples; i++)
		{
			sample_send(probe);
			sample_notify(probe);
		}
		report(probe, 0, "publish.latency.alone");
		report(probe, 1, "publish.latency.alone_notify");
		sample_under_load(probe, &publish_send, 0);
		sample_under_load(probe, &publish_notify, 1);
		report(probe, 0, "publish.latency.load");
		report(probe, 1, "publish.latency.load_notify");
	}
	PQfinish(probe->receiver);
	PQfinish(probe->listener);
	free(probe->collection);
	free(probe);
	publish_end(conn);
}
