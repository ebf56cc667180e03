/*
 * consume.c
 *	  Consumers of calvin_seq, of each kind there is.  All check every key.
 */
#include "consume.h"

#include "framed.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct
{
	const char *name;
	const char *sql;
}			kinds[] = {
	{"rows", "SELECT * FROM seq_receive(2000, '60s', 'bench')"},
	{"rows4",
	 "SELECT vshard, epoch, \"position\", plans "
	 "FROM seq_receive(2000, '60s', 'bench')"},
	{"framed", "SELECT seq_receive_batch(2000, '60s', 'bench')"},
	{"inside", NULL},
};

const char *
consumer_kind_name(ConsumerKind kind)
{
	return kinds[kind].name;
}

void
consume_begin(PGconn *conn, ConsumerKind kind, const Batches *batches,
			  int queue_size)
{
	char	   *vshards = batches_vshards(batches);

	if (queue_size > 0)
		db_runf(conn, "SELECT seq_subscribe(%s, 'bench', queue_size => %d)",
				vshards, queue_size);
	else
		db_runf(conn, "SELECT seq_subscribe(%s, 'bench')", vshards);
	free(vshards);
	if (kinds[kind].sql)
	{
		db_run(conn, "DEALLOCATE ALL");
		db_prepare(conn, "receive", kinds[kind].sql);
	}
}

void
consume_send(PGconn *conn, ConsumerKind kind, uint64_t count)
{
	char		sql[100];

	if (kind != CONSUME_INSIDE)
	{
		db_send_prepared(conn, "receive");
		return;
	}
	snprintf(sql, sizeof(sql), "SELECT bench_receive('bench', %" PRIu64 ")",
			 count);
	db_send(conn, sql);
}

static void
check_rows(Checker *checker, const PGresult *result)
{
	/* all columns, or vshard, epoch, position and plans */
	for (int i = 0; i < PQntuples(result); i++)
		check_key(checker, get32(PQgetvalue(result, i, 0)),
				  get64(PQgetvalue(result, i, 1)),
				  get32(PQgetvalue(result, i, 2)));
}

void
consume_all(PGconn *conn, ConsumerKind kind, uint64_t count,
			Received *received)
{
	static Checker checker;
	PGresult   *result;

	memset(&checker, 0, sizeof(checker));
	if (kind == CONSUME_INSIDE)
	{
		result = db_answer(conn);
		if (sscanf(PQgetvalue(result, 0, 0), "%" SCNu64 " %" SCNd64,
				   &received->sum, &received->end) != 2)
			die("an answer from bench_receive that is not understood");
		PQclear(result);
		db_finish_command(conn);
		received->count = count;
		return;
	}
	for (;;)
	{
		uint64_t	before = checker.count;

		result = db_answer(conn);
		if (kind == CONSUME_FRAMED)
			check_framed(&checker, PQgetvalue(result, 0, 0),
						 (size_t) PQgetlength(result, 0, 0));
		else
			check_rows(&checker, result);
		PQclear(result);
		db_finish_command(conn);
		if (checker.count == before)
			die("only %" PRIu64 " of %" PRIu64 " transactions came",
				checker.count, count);
		if (checker.count >= count)
			break;
		consume_send(conn, kind, count);
	}
	received->end = now_ns();
	received->count = checker.count;
	received->sum = checker.sum;
}

void
consume_counts(PGconn *conn, Received *received)
{
	received->dropped = db_int(conn, "SELECT sum(dropped) FROM seq_subscriptions "
							   "WHERE name = 'bench'");
	received->replayed = db_int(conn, "SELECT sum(replayed) FROM seq_subscriptions "
								"WHERE name = 'bench'");
}

void
consume_end(PGconn *conn, Received *received)
{
	Received	before = *received;

	consume_counts(conn, received);
	received->dropped -= before.dropped;
	received->replayed -= before.replayed;
	db_run(conn, "SELECT seq_unsubscribe(name => 'bench')");
}

static void
transfer(int fd, void *data, size_t len, bool sending)
{
	ssize_t		done = sending ? write(fd, data, len) : read(fd, data, len);

	if (done != (ssize_t) len)
		die("the consumer's process has ended early");
}

static void
consumer_main(int fd, ConsumerKind kind, const Batches *batches,
			  int queue_size, uint64_t count, uint64_t early)
{
	PGconn	   *conn = db_connect();
	Received	received = {0};
	Received	first = {0};
	int			applier = (int) db_int(conn, "SELECT applier_pid FROM seq_state");

	consume_begin(conn, kind, batches, queue_size);
	if (early > 0)
		consume_send(conn, kind, early);
	else
		consume_send(conn, kind, count);
	transfer(fd, &(char){1}, 1, true);

	if (early > 0)
	{
		consume_all(conn, kind, early, &first);
		received.anon_kb[0] = process_figure(PQbackendPID(conn), "RssAnon");
		received.applier_kb[0] = process_figure(applier, "RssAnon");
		consume_send(conn, kind, count - early);
	}
	consume_all(conn, kind, count - early, &received);
	received.count += first.count;
	received.sum += first.sum;
	received.anon_kb[1] = process_figure(PQbackendPID(conn), "RssAnon");
	received.applier_kb[1] = process_figure(applier, "RssAnon");
	consume_end(conn, &received);
	transfer(fd, &received, sizeof(received), true);
	PQfinish(conn);
	_exit(0);
}

ConsumerProcess
consumer_start(ConsumerKind kind, const Batches *batches, int queue_size,
			   uint64_t count, uint64_t early)
{
	ConsumerProcess process;
	int			fds[2];
	char		ready;

	fflush(stdout);
	if (pipe(fds) != 0 || (process.pid = fork()) < 0)
		die("cannot start a process");
	if (process.pid == 0)
	{
		close(fds[0]);
		consumer_main(fds[1], kind, batches, queue_size, count, early);
	}
	close(fds[1]);
	process.fd = fds[0];
	transfer(process.fd, &ready, 1, false);
	return process;
}

Received
consumer_wait(ConsumerProcess process)
{
	Received	received;
	int			status;

	transfer(process.fd, &received, sizeof(received), false);
	close(process.fd);
	if (waitpid(process.pid, &status, 0) != process.pid || status != 0)
		die("the consumer's process failed");
	return received;
}
