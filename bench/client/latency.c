/*
 * latency.c
 *	  One small transaction a commit, from the commit to a client's row; and an
 *	  INSERT that notifies, from its commit to the notification.
 */
#include "consume.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define IDLE_SUBSCRIPTIONS 64

/* Large epochs beside the small ones, in microseconds apart. */
#define LOAD_PAUSE_US 10000

/* Who appends holds the lock: epochs are numbered without gaps. */
typedef struct Shared
{
	pthread_mutex_t lock;
	uint64_t	epoch;
	volatile bool stop;
} Shared;

typedef struct Latency
{
	PGconn	   *appender;
	PGconn	   *receiver;
	PGconn	   *listener;
	Batches    *batches;
	Shared	   *shared;
	int			samples;
	double	   *ours;
	double	   *theirs;
} Latency;

/* Microseconds from sending the append to having its row. */
static double
sample_ours(Latency *latency)
{
	Batches    *batches = latency->batches;
	PGresult   *result;
	int64_t		start;
	double		us;

	db_send_prepared(latency->receiver, "receive");
	sleep_us(500);
	pthread_mutex_lock(&latency->shared->lock);
	batches->epoch = latency->shared->epoch++;
	batches_next(batches);
	start = now_ns();
	db_send_put(latency->appender, "append", batches->data, batches->len);
	while (PQisBusy(latency->receiver))
		db_wait_readable(latency->receiver);
	us = (double) (now_ns() - start) / 1e3;
	result = db_answer(latency->receiver);
	if (PQntuples(result) != 1 ||
		get64(PQgetvalue(result, 0, 1)) != batches->epoch - 1)
		die("another transaction came than the one appended");
	PQclear(result);
	db_finish_command(latency->receiver);
	db_finish_command(latency->appender);
	pthread_mutex_unlock(&latency->shared->lock);
	return us;
}

static double
sample_theirs(Latency *latency)
{
	PGnotify   *notify;
	int64_t		start;
	double		us;

	sleep_us(500);
	pthread_mutex_lock(&latency->shared->lock);
	start = now_ns();
	db_send_put(latency->appender, "notify", latency->batches->data,
				latency->batches->len);
	while ((notify = PQnotifies(latency->listener)) == NULL)
		db_wait_readable(latency->listener);
	us = (double) (now_ns() - start) / 1e3;
	PQfreemem(notify);
	db_finish_command(latency->appender);
	pthread_mutex_unlock(&latency->shared->lock);
	return us;
}

/* One after the other, so that both meet the same machine. */
static void
sample(Latency *latency, const char *name)
{
	char		theirs[40];

	for (int i = 0; i < latency->samples; i++)
	{
		latency->ours[i] = sample_ours(latency);
		latency->theirs[i] = sample_theirs(latency);
	}
	snprintf(theirs, sizeof(theirs), "%s_notify", name);
	figure_durations(latency->ours, latency->samples, name);
	figure_durations(latency->theirs, latency->samples, theirs);
}

static void
sample_beside_idle(Latency *latency)
{
	PGconn	   *idle[IDLE_SUBSCRIPTIONS];

	for (int i = 0; i < IDLE_SUBSCRIPTIONS; i++)
	{
		/* vshards that nothing is sent to */
		idle[i] = db_connect();
		db_runf(idle[i], "SELECT seq_subscribe(ARRAY[%d], 'idle')",
				i < latency->batches->vshards[0] ? i : i + 1);
		db_send(idle[i], "SELECT * FROM seq_receive(1, '1h', 'idle')");
	}
	sleep_us(100000);
	sample(latency, "latency.idle");
	for (int i = 0; i < IDLE_SUBSCRIPTIONS; i++)
	{
		PGcancel   *cancel = PQgetCancel(idle[i]);
		char		error[256];

		if (!PQcancel(cancel, error, sizeof(error)))
			die("%s", error);
		PQfreeCancel(cancel);
		PQclear(PQgetResult(idle[i]));
		PQfinish(idle[i]);
	}
}

/* Epochs of workload A to vshards of others, 100 a second at most. */
static void
loader_main(Shared *shared)
{
	PGconn	   *conn = db_connect();
	Workload	load = workloads[0];
	Batches    *batches;

	load.vshards++; /* the first is the sampled one */
	batches = batches_create(&load);
	batches->vshards[0] = batches->vshards[load.vshards - 1];
	batches->load.vshards--;
	db_prepare(conn, "append", "SELECT seq_append($1)");
	while (!shared->stop)
	{
		pthread_mutex_lock(&shared->lock);
		batches->epoch = shared->epoch++;
		batches_next(batches);
		db_put(conn, "append", batches->data, batches->len);
		pthread_mutex_unlock(&shared->lock);
		sleep_us(LOAD_PAUSE_US);
	}
	PQfinish(conn);
	_exit(0);
}

/* Takes what the loader appends. */
static void
load_consumer_main(Shared *shared)
{
	PGconn	   *conn = db_connect();
	Workload	load = workloads[0];
	Batches    *loaded;
	char	   *vshards;

	load.vshards++;
	loaded = batches_create(&load);
	loaded->vshards[0] = loaded->vshards[load.vshards - 1];
	loaded->load.vshards--;
	vshards = batches_vshards(loaded);
	db_runf(conn, "SELECT seq_subscribe(%s, 'load')", vshards);
	db_prepare(conn, "receive", "SELECT seq_receive_batch(10000, '100ms', 'load')");
	while (!shared->stop)
	{
		db_send_prepared(conn, "receive");
		db_finish_command(conn);
	}
	PQfinish(conn);
	_exit(0);
}

static void
sample_under_load(Latency *latency)
{
	pid_t		pids[2];
	int			status;

	latency->shared->stop = false;
	fflush(stdout);
	for (int i = 0; i < 2; i++)
	{
		if ((pids[i] = fork()) < 0)
			die("cannot start a process");
		if (pids[i] == 0 && i == 0)
			load_consumer_main(latency->shared);
		if (pids[i] == 0)
			loader_main(latency->shared);
	}
	sleep_us(by_size(50, 300, 300) * 1000);
	sample(latency, "latency.load");
	latency->shared->stop = true;
	for (int i = 0; i < 2; i++)
	{
		if (waitpid(pids[i], &status, 0) != pids[i] || status != 0)
			die("a process of the load failed");
	}
}

static Shared *
make_shared(void)
{
	Shared	   *shared = mmap(NULL, sizeof(Shared), PROT_READ | PROT_WRITE,
							  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pthread_mutexattr_t attributes;

	if (shared == MAP_FAILED)
		die("out of memory");
	pthread_mutexattr_init(&attributes);
	pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
	pthread_mutex_init(&shared->lock, &attributes);
	return shared;
}

void
section_latency(void)
{
	/* one transaction an epoch, to one vshard */
	Workload	load = {"", 1, 1, 64, 1};
	Latency		latency = {0};

	latency.samples = by_size(20, 1000, 4000);
	latency.ours = calloc((size_t) latency.samples, sizeof(double));
	latency.theirs = calloc((size_t) latency.samples, sizeof(double));
	latency.shared = make_shared();
	latency.batches = batches_create(&load);
	latency.appender = db_fresh();
	latency.receiver = db_connect();
	latency.listener = db_connect();
	consume_begin(latency.receiver, CONSUME_ROWS, latency.batches, 0);
	db_run(latency.receiver, "DEALLOCATE ALL");
	db_prepare(latency.receiver, "receive",
			   "SELECT * FROM seq_receive(1, '60s', 'bench')");
	db_run(latency.appender, "CREATE TABLE notifying (id bigint GENERATED ALWAYS "
		   "AS IDENTITY PRIMARY KEY, entry bytea)");
	db_prepare(latency.appender, "append", "SELECT seq_append($1)");
	db_prepare(latency.appender, "notify",
			   "WITH i AS (INSERT INTO notifying (entry) VALUES ($1) RETURNING id) "
			   "SELECT pg_notify('bench', id::text) FROM i");
	db_run(latency.listener, "LISTEN bench");

	for (int i = 0; i < bench_repeat; i++)
	{
		sample(&latency, "latency.alone");
		sample_beside_idle(&latency);
		sample_under_load(&latency);
	}
	batches_free(latency.batches);
	PQfinish(latency.listener);
	PQfinish(latency.receiver);
	PQfinish(latency.appender);
}
