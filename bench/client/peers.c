/*
 * peers.c
 *	  What else PostgreSQL offers to get messages from one session to others,
 *	  as many as workload A has fan-outs, in messages of its size.
 */
#include "workload.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MESSAGE_BYTES 140
#define A_COMMIT 2048 /* the fan-outs of an epoch of workload A */
#define LISTENERS 8

static uint64_t
expected_sum(int64_t messages)
{
	uint64_t	sum = 0;

	for (int64_t i = 0; i < messages; i++)
		sum += key_sum((uint32_t) (i % 64), (uint64_t) (i / A_COMMIT),
					   (uint32_t) (i % A_COMMIT));
	return sum;
}

static int64_t
message_count(void)
{
	return by_size(2, 100, 400) * (int64_t) A_COMMIT;
}

/* Each of 8 channels has one listener: each notification is wanted by one. */
static void
peer_notify(int commits)
{
	PGconn	   *sender = db_connect();
	PGconn	   *listeners[LISTENERS];
	struct pollfd pollfds[LISTENERS + 1];
	static Checker checker;
	int64_t		messages = message_count();
	int64_t		a_commit = messages / commits;
	int64_t		start;
	int			sent = 0;
	char	   *sql;

	memset(&checker, 0, sizeof(checker));
	for (int i = 0; i < LISTENERS; i++)
	{
		listeners[i] = db_connect();
		db_runf(listeners[i], "LISTEN bench_%d", i);
		pollfds[i].fd = PQsocket(listeners[i]);
		pollfds[i].events = POLLIN;
	}
	pollfds[LISTENERS].fd = PQsocket(sender);
	pollfds[LISTENERS].events = POLLIN;
	db_run(sender, "PREPARE send(bigint, bigint) AS "
		   "SELECT count(pg_notify('bench_' || i % 8, rpad(i % 64 || ' ' || "
		   "i / 2048 || ' ' || i % 2048 || ' ', 140, 'x'))) "
		   "FROM generate_series($1, $2) i");
	start = now_ns();
	if (commits == 1)
	{
		/* as epochs are: all is there, but for the commit */
		db_run(sender, "BEGIN");
		db_runf(sender, "EXECUTE send(0, %lld)", (long long) messages - 1);
		start = now_ns();
		db_send(sender, "COMMIT");
		sent = 1;
	}
	while (checker.count < (uint64_t) messages)
	{
		if (sent < commits && !PQisBusy(sender))
		{
			db_finish_command(sender);
			if (asprintf(&sql, "EXECUTE send(%lld, %lld)",
						 (long long) (sent * a_commit),
						 (long long) ((sent + 1) * a_commit - 1)) < 0)
				die("out of memory");
			db_send(sender, sql);
			free(sql);
			sent++;
		}
		if (poll(pollfds, LISTENERS + 1, 60000) <= 0)
			die("no notification came");
		if ((pollfds[LISTENERS].revents & POLLIN) && !PQconsumeInput(sender))
			die("%s", PQerrorMessage(sender));
		for (int i = 0; i < LISTENERS; i++)
		{
			PGnotify   *notify;

			if (!(pollfds[i].revents & POLLIN))
				continue;
			if (!PQconsumeInput(listeners[i]))
				die("%s", PQerrorMessage(listeners[i]));
			while ((notify = PQnotifies(listeners[i])) != NULL)
			{
				char	   *at = notify->extra;
				uint32_t	vshard = (uint32_t) strtoul(at, &at, 10);
				uint64_t	epoch = strtoull(at, &at, 10);

				check_key(&checker, vshard, epoch,
						  (uint32_t) strtoul(at, &at, 10));
				PQfreemem(notify);
			}
		}
	}
	figure(rate((double) messages, now_ns() - start), "peers.notify_%s",
		   commits == 1 ? "at_once" : "2048");
	if (checker.sum != expected_sum(messages))
		die("other notifications came than were sent");
	for (int i = 0; i < LISTENERS; i++)
		PQfinish(listeners[i]);
	db_finish_command(sender);
	PQfinish(sender);
}

/* Consumers take batches by DELETE ... SKIP LOCKED ... RETURNING. */
static void
peer_skip_locked(int batch, int consumers)
{
	PGconn	   *conns[4];
	struct pollfd pollfds[4];
	int64_t		messages = message_count();
	int64_t		got = 0;
	uint64_t	sum = 0;
	int64_t		start;
	char		sql[400];

	snprintf(sql, sizeof(sql),
			 "DELETE FROM queue WHERE id = ANY (ARRAY(SELECT id FROM queue "
			 "ORDER BY id LIMIT %d FOR UPDATE SKIP LOCKED)) "
			 "RETURNING vshard, epoch, \"position\", payload", batch);
	conns[0] = db_connect();
	db_run(conns[0], "DROP TABLE IF EXISTS queue");
	db_run(conns[0], "CREATE TABLE queue (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "
		   "vshard int, epoch bigint, \"position\" int, payload bytea)");
	db_runf(conns[0], "INSERT INTO queue (vshard, epoch, \"position\", payload) "
			"SELECT i %% 64, i / 2048, i %% 2048, decode(repeat('ab', %d), 'hex') "
			"FROM generate_series(0, %lld) i", MESSAGE_BYTES - 16,
			(long long) messages - 1);
	db_run(conns[0], "VACUUM ANALYZE queue");
	for (int i = 0; i < consumers; i++)
	{
		if (i > 0)
			conns[i] = db_connect();
		db_prepare(conns[i], "take", sql);
		pollfds[i].fd = PQsocket(conns[i]);
		pollfds[i].events = POLLIN;
	}
	start = now_ns();
	for (int i = 0; i < consumers; i++)
		db_send_prepared(conns[i], "take");
	while (got < messages)
	{
		if (poll(pollfds, (nfds_t) consumers, 60000) <= 0)
			die("nothing came from the queue table");
		for (int i = 0; i < consumers; i++)
		{
			PGresult   *result;

			if (!(pollfds[i].revents & POLLIN))
				continue;
			if (!PQconsumeInput(conns[i]))
				die("%s", PQerrorMessage(conns[i]));
			if (PQisBusy(conns[i]))
				continue;
			result = db_answer(conns[i]);
			for (int j = 0; j < PQntuples(result); j++)
				sum += key_sum(get32(PQgetvalue(result, j, 0)),
							   get64(PQgetvalue(result, j, 1)),
							   get32(PQgetvalue(result, j, 2)));
			got += PQntuples(result);
			PQclear(result);
			db_finish_command(conns[i]);
			if (got < messages)
				db_send_prepared(conns[i], "take");
		}
	}
	figure(rate((double) messages, now_ns() - start), "peers.skip_locked_%dx%d",
		   consumers, batch);
	if (sum != expected_sum(messages))
		die("other messages came from the queue table than were put there");
	for (int i = 0; i < consumers; i++)
	{
		db_finish_command(conns[i]);
		PQfinish(conns[i]);
	}
}

/* A row of logical replication: check its key. */
static bool
take_change(Checker *checker, const char *data, int len)
{
	const char *at = data + 25; /* 'w', start, end, time */
	const char *fields[3];

	if (len < 26 || data[0] != 'w' || at[0] != 'I')
		return false;
	at += 1 + 4 + 1 + 2; /* 'I', relation, 'N', number of columns */
	for (int i = 0; i < 3; i++)
	{
		uint32_t	size = get32(at + 1);

		if (at[0] != 'b')
			die("a replicated column that is not binary");
		fields[i] = at + 5;
		at += 5 + size;
		if (at > data + len)
			die("a replicated row ends too early");
	}
	check_key(checker, get32(fields[0]), get64(fields[1]), get32(fields[2]));
	return true;
}

static void
peer_pgoutput(void)
{
	PGconn	   *writer = db_connect();
	PGconn	   *stream = db_connect_to("dbname=bench replication=database");
	static Checker checker;
	int64_t		messages = message_count();
	int64_t		start;
	PGresult   *result;

	memset(&checker, 0, sizeof(checker));
	db_run(writer, "DROP TABLE IF EXISTS replicated");
	db_run(writer, "CREATE TABLE replicated (vshard int, epoch bigint, \"position\" int, payload bytea)");
	db_run(writer, "DROP PUBLICATION IF EXISTS bench");
	db_run(writer, "CREATE PUBLICATION bench FOR TABLE replicated");
	db_run(stream, "CREATE_REPLICATION_SLOT bench TEMPORARY LOGICAL pgoutput NOEXPORT_SNAPSHOT");
	result = PQexec(stream, "START_REPLICATION SLOT bench LOGICAL 0/0 "
					"(proto_version '1', publication_names 'bench', \"binary\" 'true')");
	if (PQresultStatus(result) != PGRES_COPY_BOTH)
		die("%s", PQerrorMessage(stream));
	PQclear(result);
	db_run(writer, "BEGIN");
	db_runf(writer, "INSERT INTO replicated SELECT i %% 64, i / 2048, i %% 2048, "
			"decode(repeat('ab', %d), 'hex') FROM generate_series(0, %lld) i",
			MESSAGE_BYTES - 16, (long long) messages - 1);
	/* let it read what is written already */
	sleep_us(by_size(10, 1000, 1000) * 1000);
	db_flush_wal();
	start = now_ns();
	db_send(writer, "COMMIT");
	while (checker.count < (uint64_t) messages)
	{
		char	   *data;
		int			len = PQgetCopyData(stream, &data, 1);

		if (len == 0)
		{
			db_wait_readable(stream);
			continue;
		}
		if (len < 0)
			die("%s", PQerrorMessage(stream));
		(void) take_change(&checker, data, len);
		PQfreemem(data);
	}
	figure(rate((double) messages, now_ns() - start), "peers.pgoutput");
	if (checker.sum != expected_sum(messages))
		die("other rows were replicated than were written");
	db_finish_command(writer);
	PQfinish(stream);
	/* the slot is its sender's until that has noticed */
	while (db_int(writer, "SELECT count(*) FROM pg_replication_slots") > 0)
		sleep_us(1000);
	PQfinish(writer);
}

void
section_peers(void)
{
	static const struct
	{
		int			batch;
		int			consumers;
	}			queues[] = {{100, 1}, {1000, 1}, {10000, 1}, {1000, 2}, {10000, 2}};

	PQfinish(db_fresh());
	for (int i = 0; i < bench_repeat; i++)
	{
		peer_notify(1);
		peer_notify((int) (message_count() / A_COMMIT));
		for (int j = 0; j < lengthof(queues); j++)
			peer_skip_locked(queues[j].batch, queues[j].consumers);
		peer_pgoutput();
	}
}
