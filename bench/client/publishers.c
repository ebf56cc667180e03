/*
 * publishers.c
 *	  The ways to publish from within a transaction, each with the consumer
 *	  that is natural to it, which checks that every client's events come in
 *	  their order, each once.
 */
#include "publishers.h"

#include "framed.h"
#include "pgbench.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

void
publisher_no_reset(PGconn *conn)
{
	(void) conn;
}

void
tally_event(Tally *tally, const char *event)
{
	int			client;
	int64_t		n;

	if (sscanf(event, "{\"c\": %d, \"n\": %" SCNd64, &client, &n) != 2 ||
		client < 0 || client >= MAX_CLIENTS)
		die("an event that nobody sent: %s", event);
	if (n != tally->of_client[client] + 1)
		die("event %" PRId64 " of client %d came after its %" PRId64,
			n, client, tally->of_client[client]);
	tally->of_client[client] = n;
	tally->received++;
}

void
tally_now(Tally *tally)
{
	tally->last = real_ns();
}

void
tally_column(Tally *tally, PGresult *result, int column)
{
	int			rows = PQntuples(result);

	for (int i = 0; i < rows; i++)
		tally_event(tally, PQgetvalue(result, i, column));
	if (rows > 0)
		tally_now(tally);
}

/* Nothing and a plain table: nobody consumes. */

static bool
setup_none(PGconn *conn)
{
	(void) conn;
	return true;
}

static bool
setup_plain(PGconn *conn)
{
	db_run(conn, "CREATE TABLE plain (id bigint GENERATED ALWAYS AS IDENTITY "
		   "PRIMARY KEY, payload jsonb NOT NULL)");
	return true;
}

static void
reset_plain(PGconn *conn)
{
	db_run(conn, "TRUNCATE plain");
}

/* This extension. */

static void
tally_framed(const Framed *framed, void *arg)
{
	Tally	   *tally = arg;
	Sent		sent = framed_sent(framed);
	char		event[200];
	char		collection[40];
	int			client;

	if (sent.plans_len >= sizeof(event) || sent.collection_len >= sizeof(collection))
		die("an event that nobody sent");
	memcpy(event, sent.plans, sent.plans_len);
	event[sent.plans_len] = '\0';
	memcpy(collection, sent.collection, sent.collection_len);
	collection[sent.collection_len] = '\0';
	if (sscanf(collection, "orders/%d", &client) != 1 ||
		sscanf(event, "{\"c\": %*d, \"n\": %*d") == EOF ||
		atoi(event + strlen("{\"c\": ")) != client)
		die("%s has an event of another client: %s", collection, event);
	tally_event(tally, event);
}

static void
consume_send(PGconn *conn, Tally *tally)
{
	db_runf(conn, "SELECT seq_subscribe(array_agg(DISTINCT seq_vshard('orders/' || i)), "
			"'bench') FROM generate_series(0, %d) i", MAX_CLIENTS - 1);
	db_prepare(conn, "receive", "SELECT seq_receive_batch(2000, '100ms', 'bench')");
	tally->ready = true;
	while (!tally->stop)
	{
		int64_t		before = tally->received;
		PGresult   *result;

		db_send_prepared(conn, "receive");
		result = db_answer(conn);
		framed_each(PQgetvalue(result, 0, 0), (size_t) PQgetlength(result, 0, 0),
					tally_framed, tally);
		if (tally->received > before)
			tally_now(tally);
		PQclear(result);
		db_finish_command(conn);
	}
	db_run(conn, "SELECT seq_unsubscribe(name => 'bench')");
}

const Publisher publish_none = {
	.name = "none",
	.setup = setup_none,
	.reset = publisher_no_reset,
};

const Publisher publish_plain = {
	.name = "plain",
	.setup = setup_plain,
	.reset = reset_plain,
	.statement = "INSERT INTO plain (payload) VALUES ((" EVENT ")::jsonb)",
};

const Publisher publish_send = {
	.name = "send",
	.setup = setup_none,
	.reset = publisher_no_reset,
	.statement = "SELECT seq_send('orders/' || :client_id, (" EVENT ")::jsonb)",
	.consume = consume_send,
};

char *
publisher_script(const Publisher *publisher, int events)
{
	size_t		size = 300 + 500 * (size_t) events;
	char	   *script = malloc(size);
	size_t		len;

	if (script == NULL)
		die("out of memory");
	len = (size_t) snprintf(script, size, "BEGIN;\n"
							"INSERT INTO orders (client, n) VALUES (:client_id, :n);\n");
	for (int i = 0; i < events && publisher->statement; i++)
		len += (size_t) snprintf(script + len, size - len, "\\set n :n + 1\n%s;\n",
								 publisher->statement);
	snprintf(script + len, size - len, "COMMIT;\n");
	return script;
}

void
publish_make_orders(PGconn *conn)
{
	db_run(conn, "CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY "
		   "PRIMARY KEY, client int NOT NULL, n bigint NOT NULL)");
}

void
publish_reset(const Publisher *publisher, PGconn *conn)
{
	db_run(conn, "TRUNCATE orders");
	publisher->reset(conn);
	db_run(conn, "CHECKPOINT");
}

PublishConsumer
publish_consumer_start(const Publisher *publisher)
{
	PublishConsumer consumer = {0};
	int			status;

	if (publisher->consume == NULL)
		return consumer;
	if (publisher->start_beside)
		consumer.beside = publisher->start_beside();
	consumer.tally = mmap(NULL, sizeof(Tally), PROT_READ | PROT_WRITE,
						  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (consumer.tally == MAP_FAILED)
		die("out of memory");
	fflush(stdout);
	consumer.pid = fork();
	if (consumer.pid < 0)
		die("cannot start a process");
	if (consumer.pid == 0)
	{
		PGconn	   *conn = db_connect();

		publisher->consume(conn, consumer.tally);
		PQfinish(conn);
		_exit(0);
	}
	while (!consumer.tally->ready)
	{
		if (waitpid(consumer.pid, &status, WNOHANG) != 0)
			die("the consumer's process failed");
		sleep_us(1000);
	}
	return consumer;
}

/* All that was committed has come, of each client. */
static void
check_complete(const Tally *tally, PGconn *conn, int events)
{
	PGresult   *result = PQexec(conn, "SELECT client, count(*) FROM orders GROUP BY 1");
	int64_t		total = 0;

	if (PQresultStatus(result) != PGRES_TUPLES_OK)
		die("%s", PQerrorMessage(conn));
	for (int i = 0; i < PQntuples(result); i++)
	{
		int			client = atoi(PQgetvalue(result, i, 0));
		int64_t		committed = strtoll(PQgetvalue(result, i, 1), NULL, 10) * events;

		if (tally->of_client[client] != committed)
			die("client %d has committed %" PRId64 " events, %" PRId64 " came",
				client, committed, tally->of_client[client]);
		total += committed;
	}
	PQclear(result);
	if (tally->received != total)
		die("%" PRId64 " events were committed, %" PRId64 " came", total,
			tally->received);
}

int64_t
publish_consumer_finish(PublishConsumer *consumer, PGconn *conn, int events)
{
	Tally	   *tally = consumer->tally;
	int64_t		expected = db_int(conn, "SELECT count(*) * %d FROM orders", events);
	int64_t		patience = now_ns() + INT64_C(120000000000);
	int64_t		last;
	int			status;

	while (tally->received < expected)
	{
		if (waitpid(consumer->pid, &status, WNOHANG) != 0)
			die("the consumer's process failed");
		if (now_ns() > patience)
			die("only %" PRId64 " of %" PRId64 " events came", tally->received, expected);
		sleep_us(1000);
	}
	tally->stop = true;
	if (waitpid(consumer->pid, &status, 0) != consumer->pid || status != 0)
		die("the consumer's process failed");
	check_complete(tally, conn, events);
	if (consumer->beside > 0)
	{
		kill(consumer->beside, SIGTERM);
		(void) waitpid(consumer->beside, &status, 0);
	}
	last = tally->last;
	munmap(tally, sizeof(Tally));
	return last;
}
