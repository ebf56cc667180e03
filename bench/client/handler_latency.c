/*
 * handler_latency.c
 *	  From a seq_send that commits to the effect that a handler has committed, alone,
 *	  beside what the flush of a commit takes.
 *
 * The end is the notification that the handler sends in the transaction of its effect.
 */
#include "bench.h"

#include <stdlib.h>

static double
since_us(int64_t start)
{
	return (double) (now_ns() - start) / 1e3;
}

static double
sample_insert(PGconn *conn)
{
	int64_t		start = now_ns();

	db_run(conn, "INSERT INTO probes (n) VALUES (1)");
	return since_us(start);
}

/* To the effect of a session that is told of by NOTIFY; nothing else is in between. */
static double
sample_notify(PGconn *conn, PGconn *listener, const char *statement)
{
	PGnotify   *notify;
	int64_t		start = now_ns();
	double		us;

	db_send(conn, statement);
	while ((notify = PQnotifies(listener)) == NULL)
		db_wait_readable(listener);
	us = since_us(start);
	PQfreemem(notify);
	db_finish_command(conn);
	return us;
}

static void
prepare(PGconn *conn)
{
	db_run(conn, "CREATE TABLE probes (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n bigint)");
	db_run(conn, "CREATE FUNCTION probe(t seq_txn) RETURNS void LANGUAGE plpgsql AS "
		   "'BEGIN INSERT INTO probes (n) VALUES (t.epoch); NOTIFY probe; END'");
	db_run(conn, "CREATE FUNCTION insert_and_notify() RETURNS void LANGUAGE plpgsql AS "
		   "'BEGIN INSERT INTO probes (n) VALUES (1); NOTIFY probe; END'");
	db_run(conn, "SELECT seq_create_group('probe'), seq_handle('probe', 'probe(seq_txn)')");
}

void
section_handler_latency(void)
{
	PGconn	   *conn = db_fresh();
	PGconn	   *listener = db_connect();
	int			samples = by_size(20, 1000, 4000);
	double	   *us[3];

	for (int i = 0; i < lengthof(us); i++)
		if ((us[i] = calloc((size_t) samples, sizeof(double))) == NULL)
			die("out of memory");
	prepare(conn);
	db_run(listener, "LISTEN probe");
	/* the worker is there, and trusts what it gets */
	for (int i = 0; i < 20; i++)
		(void) sample_notify(conn, listener, "SELECT seq_send('probe', '1')");
	for (int round = 0; round < bench_repeat; round++)
	{
		for (int i = 0; i < samples; i++)
		{
			us[0][i] = sample_notify(conn, listener, "SELECT seq_send('probe', '1')");
			us[1][i] = sample_insert(conn);
			us[2][i] = sample_notify(conn, listener, "SELECT insert_and_notify()");
		}
		figure_durations(us[0], samples, "handler.latency");
		figure_durations(us[1], samples, "handler.latency_insert");
		figure_durations(us[2], samples, "handler.latency_notify");
	}
	for (int i = 0; i < lengthof(us); i++)
		free(us[i]);
	PQfinish(listener);
	PQfinish(conn);
}
