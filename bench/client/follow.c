/*
 * follow.c
 *	  What bench/follow.sh measures from a client: a source and its followers, each given
 *	  by a connection string.
 *
 *	follow_latency SAMPLES SOURCE FOLLOWER...	from an append to a client's row, in turns
 *	follow_rate ENTRIES BYTES SOURCE			appends a second, an epoch a commit
 *	follow_lag ENTRIES BYTES SOURCE FOLLOWER	and how far the follower is behind at the end
 *	follow_first SOURCE FOLLOWER...			from now to the first row at each follower
 */
#include "workload.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_SERVERS 8

static double
ms_since(int64_t start)
{
	return (double) (now_ns() - start) / 1e6;
}

/* Of a transaction to one vshard, with a plan of so many bytes. */
static Batches *
batches_for(PGconn *source, int bytes)
{
	Workload	load = {"", 1, 1, bytes, 1};
	Batches    *batches = batches_create(&load);

	batches->epoch = (uint64_t) db_int(source, "SELECT coalesce(seq_next_epoch(), 0)");
	return batches;
}

static void
append(PGconn *source, Batches *batches)
{
	batches_next(batches);
	db_put(source, "append", batches->data, batches->len);
}

static PGconn *
connect_source(const char *conninfo)
{
	PGconn	   *conn = db_connect_to(conninfo);

	db_prepare(conn, "append", "SELECT seq_append($1)");
	return conn;
}

static PGconn *
connect_receiver(const char *conninfo, const Batches *batches)
{
	PGconn	   *conn = db_connect_to(conninfo);

	db_runf(conn, "SELECT seq_subscribe(ARRAY[%d], 'bench_follow')", batches->vshards[0]);
	db_prepare(conn, "receive", "SELECT * FROM seq_receive(1, '60s', 'bench_follow')");
	return conn;
}

static void
take_row(PGconn *receiver)
{
	PGresult   *result;

	while (PQisBusy(receiver))
		db_wait_readable(receiver);
	result = db_answer(receiver);
	if (PQntuples(result) != 1)
		die("nothing came to a follower's client");
	PQclear(result);
	db_finish_command(receiver);
}

/* One sample of one server; the others take the row as well, untimed. */
static double
sample(PGconn *source, Batches *batches, PGconn **receivers, int n, int which)
{
	int64_t		start;
	double		us;

	db_send_prepared(receivers[which], "receive");
	sleep_us(500);
	batches_next(batches);
	start = now_ns();
	db_send_put(source, "append", batches->data, batches->len);
	take_row(receivers[which]);
	us = (double) (now_ns() - start) / 1e3;
	db_finish_command(source);
	for (int i = 0; i < n; i++)
	{
		if (i == which)
			continue;
		db_send_prepared(receivers[i], "receive");
		take_row(receivers[i]);
	}
	return us;
}

static void
latency(int samples, int n, char **servers)
{
	PGconn	   *source = connect_source(servers[0]);
	Batches    *batches = batches_for(source, 64);
	PGconn	   *receivers[MOST_SERVERS];
	double	   *us[MOST_SERVERS];
	char		name[40];

	for (int i = 0; i < n; i++)
	{
		receivers[i] = connect_receiver(servers[i], batches);
		if ((us[i] = calloc((size_t) samples, sizeof(double))) == NULL)
			die("out of memory");
	}
	for (int k = 0; k < samples; k++)
		for (int i = 0; i < n; i++)
			us[i][k] = sample(source, batches, receivers, n, i);
	for (int i = 0; i < n; i++)
	{
		snprintf(name, sizeof(name), "follow.latency.%d", i);
		figure_durations(us[i], samples, name);
		PQfinish(receivers[i]);
		free(us[i]);
	}
	PQfinish(source);
}

/* With a follower: how long after the last commit it has applied that. */
static void
sustained(int entries, int bytes, const char *at_source, const char *at_follower)
{
	PGconn	   *source = connect_source(at_source);
	PGconn	   *follower = at_follower == NULL ? NULL : db_connect_to(at_follower);
	Batches    *batches = batches_for(source, bytes);
	int64_t		start = now_ns();
	int64_t		end;

	for (int i = 0; i < entries; i++)
		append(source, batches);
	end = now_ns();
	if (follower != NULL)
	{
		char	   *waited = db_value(follower, "SELECT seq_wait_for_epoch(%lld, '60s')",
									  (long long) batches->epoch - 1);

		if (strcmp(waited, "t") != 0)
			die("the follower did not come to the end");
		free(waited);
		figure(ms_since(end), "follow.behind_ms");
		PQfinish(follower);
	}
	figure(rate(entries, end - start), "follow.appends_per_s");
	PQfinish(source);
}

/* Who is asked first does not matter: each was waiting. */
static void
first_rows(int n, char **servers)
{
	int64_t		start = now_ns();
	PGconn	   *source = connect_source(servers[0]);
	Batches    *batches = batches_for(source, 64);
	PGconn	   *receivers[MOST_SERVERS];

	for (int i = 1; i < n; i++)
	{
		receivers[i] = connect_receiver(servers[i], batches);
		db_send_prepared(receivers[i], "receive");
	}
	append(source, batches);
	figure(ms_since(start), "follow.first_commit_ms");
	for (int i = 1; i < n; i++)
	{
		take_row(receivers[i]);
		figure(ms_since(start), "follow.first_row_ms.%d", i);
		PQfinish(receivers[i]);
	}
	PQfinish(source);
}

void
follow(int argc, char **argv)
{
	const char *what = argv[0];

	if (strcmp(what, "follow_latency") == 0 && argc > 2 && argc - 2 <= MOST_SERVERS)
		latency(atoi(argv[1]), argc - 2, argv + 2);
	else if (strcmp(what, "follow_rate") == 0 && argc == 4)
		sustained(atoi(argv[1]), atoi(argv[2]), argv[3], NULL);
	else if (strcmp(what, "follow_lag") == 0 && argc == 5)
		sustained(atoi(argv[1]), atoi(argv[2]), argv[3], argv[4]);
	else if (strcmp(what, "follow_first") == 0 && argc > 2 && argc - 1 <= MOST_SERVERS)
		first_rows(argc - 1, argv + 1);
	else
		die("%s: wrong arguments", what);
}
