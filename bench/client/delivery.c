/*
 * delivery.c
 *	  From the commit of many epochs at once to the last transaction at a
 *	  consumer, and the same number of messages through bare queues.
 */
#include "consume.h"

#include <stdlib.h>
#include <string.h>

/* The smallest ring there is. */
#define SMALL_RING 8192

static int
epochs_for(const Workload *load)
{
	int			txns = by_size(2048, 102400, 102400 * 4);

	return txns / load->txns > 0 ? txns / load->txns : 1;
}

static int
default_ring(PGconn *conn)
{
	return (int) db_int(conn, "SELECT pg_size_bytes(current_setting('calvin_seq.queue_size'))");
}

/* Append in a transaction that is left open. */
static void
append_open(PGconn *conn, Batches *batches, int epochs)
{
	db_run(conn, "BEGIN");
	for (int i = 0; i < epochs; i++)
	{
		batches_next(batches);
		db_put(conn, "append", batches->data, batches->len);
	}
}

/* Epochs committed at once, to the last transaction received: nanoseconds. */
static int64_t
burst(PGconn *appender, PGconn *consumer, Batches *batches, ConsumerKind kind,
	  int epochs, Received *received)
{
	uint64_t	fanouts = batches->fanouts;
	uint64_t	sum = batches->sum;
	int64_t		start;

	append_open(appender, batches, epochs);
	fanouts = batches->fanouts - fanouts;
	db_flush_wal();
	consume_send(consumer, kind, fanouts);
	sleep_us(2000);
	start = now_ns();
	db_send(appender, "COMMIT");
	consume_all(consumer, kind, fanouts, received);
	db_finish_command(appender);
	if (received->count != fanouts || received->sum != batches->sum - sum)
		die("not received what was appended");
	return received->end - start;
}

/*
 * A consumer that has been there for a while: its rings have been written to,
 * all of them, so that their memory is the processes' own.  Returns nanoseconds.
 */
static int64_t
deliver(PGconn *appender, PGconn *consumer, Batches *batches,
		ConsumerKind kind, int queue_size, int epochs, Received *received)
{
	double		rings = (double) queue_size * batches->load.vshards;
	double		written = 0;
	int64_t		ns;

	consume_begin(consumer, kind, batches, queue_size);
	do
	{
		(void) burst(appender, consumer, batches, kind, epochs, received);
		written += (double) received->count * batches_message_size(batches);
	} while (written < rings && bench_size != SIZE_TINY);
	consume_counts(consumer, received);
	ns = burst(appender, consumer, batches, kind, epochs, received);
	consume_end(consumer, received);
	return ns;
}

/* "count" bare queues, from which so many messages are received: the handle. */
static int64_t
open_queues(PGconn *receiver, int ring, int count, int64_t messages)
{
	int64_t		handle = db_int(receiver, "SELECT bench_queue_create(%d, %d)",
								ring, count);
	char	   *sql;

	if (asprintf(&sql, "SELECT bench_queue_receive(%lld)",
				 (long long) messages) < 0)
		die("out of memory");
	db_send(receiver, sql);
	free(sql);
	return handle;
}

/* When the last message was received. */
static int64_t
close_queues(PGconn *receiver)
{
	PGresult   *result = db_answer(receiver);
	int64_t		end = strtoll(PQgetvalue(result, 0, 0), NULL, 10);

	PQclear(result);
	db_finish_command(receiver);
	return end;
}

/* Nothing but messages through "count" queues: nanoseconds. */
static int64_t
bare_queues(PGconn *sender, PGconn *receiver, int ring, int count, int size,
			int64_t messages)
{
	int64_t		handle = open_queues(receiver, ring, count, messages);
	int64_t		start = db_int(sender, "SELECT bench_queue_send(%lld, %d, %lld)",
							   (long long) handle, size, (long long) messages);

	return close_queues(receiver) - start;
}

/* The last epochs of the log, by an applier that waits: nanoseconds. */
static int64_t
waiting_applier(PGconn *sender, PGconn *receiver, const Batches *batches,
				int ring, int epochs, int64_t messages)
{
	int64_t		last = db_int(sender, "SELECT max(log_index) FROM seq_log");
	int64_t		handle = open_queues(receiver, ring, batches->load.vshards,
									 messages);
	char	   *vshards = batches_vshards(batches);
	int64_t		start = db_int(sender,
							   "SELECT bench_queue_apply(%lld, %s, %lld, %lld)",
							   (long long) handle, vshards,
							   (long long) last - epochs + 1, (long long) last);

	free(vshards);
	return close_queues(receiver) - start;
}

static void
one_workload(const Workload *load)
{
	PGconn	   *appender = db_fresh();
	PGconn	   *consumer = db_connect();
	Batches    *batches = batches_create(load);
	int			epochs = epochs_for(load);
	int			ring = default_ring(appender);
	Received	received = {0};
	double		fanouts;
	int64_t		ns;

	db_prepare(appender, "append", "SELECT seq_append($1)");
	for (int i = 0; i < bench_repeat; i++)
	{
		for (ConsumerKind kind = CONSUME_ROWS; kind <= CONSUME_INSIDE; kind++)
		{
			ns = deliver(appender, consumer, batches, kind, ring, epochs, &received);
			fanouts = (double) received.count;
			figure(rate(fanouts, ns), "delivery.%s.%s", load->name,
				   consumer_kind_name(kind));
			if (kind != CONSUME_INSIDE)
				continue;
			figure(100.0 * (double) (1 + received.replayed) / (fanouts + 1),
				   "delivery.%s.inside_healed", load->name);
			ns = bare_queues(appender, consumer, ring, 1,
							 batches_message_size(batches), (int64_t) fanouts);
			figure(rate(fanouts, ns), "delivery.%s.bare", load->name);
			ns = bare_queues(appender, consumer, ring, load->vshards,
							 batches_message_size(batches), (int64_t) fanouts);
			figure(rate(fanouts, ns), "delivery.%s.bare_many", load->name);
		}
		/* rings that hold the whole burst: nothing can overflow */
		ns = deliver(appender, consumer, batches, CONSUME_INSIDE,
					 (int) (2 * fanouts * batches_message_size(batches) /
							load->vshards / 8192 + 2) * 8192, epochs, &received);
		if (received.dropped > 0)
			die("a ring that should hold all did overflow");
		figure(rate(fanouts, ns), "delivery.%s.held", load->name);

		ns = deliver(appender, consumer, batches, CONSUME_INSIDE, SMALL_RING,
					 epochs, &received);
		figure(rate(fanouts, ns), "delivery.%s.overflow", load->name);
		ns = waiting_applier(appender, consumer, batches, SMALL_RING, epochs,
							 (int64_t) fanouts);
		figure(rate(fanouts, ns), "delivery.%s.waiting", load->name);
	}
	batches_free(batches);
	PQfinish(consumer);
	PQfinish(appender);
}

void
section_delivery(void)
{
	for (int i = 0; i < lengthof(workloads); i++)
		one_workload(&workloads[i]);
}

/* Growth of delivery with the number of subscribed vshards. */
static void
growth_of_vshards(void)
{
	static const int counts[] = {1, 8, 64, 512};

	for (int i = 0; i < lengthof(counts); i++)
	{
		Workload	load = workloads[0];
		PGconn	   *appender = db_fresh();
		PGconn	   *consumer = db_connect();
		Batches    *batches;
		Received	received = {0};
		int			ring = default_ring(appender);

		load.vshards = counts[i];
		batches = batches_create(&load);
		db_prepare(appender, "append", "SELECT seq_append($1)");
		for (int j = 0; j < bench_repeat; j++)
		{
			int64_t		ns = deliver(appender, consumer, batches,
									 CONSUME_INSIDE, ring, epochs_for(&load),
									 &received);

			figure(rate((double) received.count, ns), "growth.vshards.%d",
				   counts[i]);
		}
		batches_free(batches);
		PQfinish(consumer);
		PQfinish(appender);
	}
}

/* Growth of entries: one after the other, end to end. */
static void
growth_of_entries(void)
{
	static const struct
	{
		const char *name;
		int			txns;
		int			plan;
	}			sizes[] = {
		{"100B", 1, 16},
		{"1kB", 7, 64},
		{"10kB", 72, 64},
		{"100kB", 720, 64},
		{"1MB", 7200, 64},
		{"16MB", 115000, 64},
	};
	int64_t		budget = by_size(1, 32, 128) * INT64_C(1024 * 1024);

	for (int i = 0; i < lengthof(sizes); i++)
	{
		Workload	load = {"", sizes[i].txns, 2, sizes[i].plan, 64};
		PGconn	   *appender = db_fresh();
		Batches    *batches = batches_create(&load);
		int			most = by_size(20, 1000, 4000);

		db_prepare(appender, "append", "SELECT seq_append($1)");
		for (int j = 0; j < bench_repeat; j++)
		{
			Batches    *trial = batches_create(&load);
			uint64_t	bytes = batches->bytes;
			uint64_t	sum = batches->sum;
			ConsumerProcess process;
			Prepared	prepared;
			Received	received;
			int			epochs;
			int64_t		start;

			batches_next(trial);
			epochs = (int) (budget / (int64_t) trial->len);
			epochs = epochs < 1 ? 1 : epochs > most ? most : epochs;
			batches_free(trial);
			prepared = batches_prepare(batches, epochs);
			process = consumer_start(CONSUME_INSIDE, batches, 0,
									 (uint64_t) epochs * (uint64_t) load.txns * 2, 0);
			start = now_ns();
			(void) prepared_put(appender, "append", &prepared);
			received = consumer_wait(process);
			prepared_free(&prepared);
			if (received.sum != batches->sum - sum)
				die("not received what was appended");
			figure(rate((double) (batches->bytes - bytes), received.end - start) / 1e6,
				   "growth.entries.%s", sizes[i].name);
		}
		batches_free(batches);
		PQfinish(appender);
	}
}

void
section_growth(void)
{
	growth_of_vshards();
	growth_of_entries();
}
