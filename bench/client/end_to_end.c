/*
 * end_to_end.c
 *	  One appender that commits epoch by epoch, and a consumer beside it; the
 *	  same bytes into a plain table; and what all of it does to memory.
 */
#include "consume.h"

#include <stdlib.h>

/* A table that could hold the log, if all one wanted were its bytes. */
static void
make_plain(PGconn *conn)
{
	db_run(conn, "CREATE TABLE plain (id bigint GENERATED ALWAYS AS IDENTITY "
		   "PRIMARY KEY, entry bytea NOT NULL)");
	db_run(conn, "ALTER TABLE plain ALTER COLUMN entry SET STORAGE EXTERNAL");
	db_prepare(conn, "plain", "INSERT INTO plain (entry) VALUES ($1)");
}

static void
one_workload(const Workload *load)
{
	static const ConsumerKind kinds[] = {CONSUME_INSIDE, CONSUME_FRAMED, CONSUME_ROWS};
	PGconn	   *conn = db_fresh();
	Batches    *batches = batches_create(load);
	int			txns = by_size(1024, 102400 * 2, 102400 * 8);
	int			epochs = txns / load->txns;
	int64_t		ns;

	make_plain(conn);
	db_prepare(conn, "append", "SELECT seq_append($1)");
	db_prepare(conn, "insert", "INSERT INTO seq_log (entry) VALUES ($1)");
	for (int i = 0; i < bench_repeat; i++)
	{
		Prepared	prepared = batches_prepare(batches, epochs);

		ns = prepared_put(conn, "plain", &prepared);
		figure(rate(epochs, ns), "end_to_end.%s.plain", load->name);
		ns = prepared_put(conn, "append", &prepared);
		figure(rate(epochs, ns), "end_to_end.%s.append", load->name);
		prepared_free(&prepared);
		prepared = batches_prepare(batches, epochs);
		ns = prepared_put(conn, "insert", &prepared);
		figure(rate(epochs, ns), "end_to_end.%s.insert", load->name);
		prepared_free(&prepared);

		for (int j = 0; j < lengthof(kinds); j++)
		{
			const char *kind = consumer_kind_name(kinds[j]);
			uint64_t	fanouts = batches->fanouts;
			uint64_t	sum = batches->sum;
			ConsumerProcess process;
			Received	received;
			int64_t		start;
			int64_t		end;

			prepared = batches_prepare(batches, epochs);
			fanouts = batches->fanouts - fanouts;
			sum = batches->sum - sum;
			process = consumer_start(kinds[j], batches, 0, fanouts, 0);
			start = now_ns();
			ns = prepared_put(conn, "append", &prepared);
			end = start + ns;
			received = consumer_wait(process);
			if (received.count != fanouts || received.sum != sum)
				die("not received what was appended");
			figure(rate(epochs, ns), "end_to_end.%s.%s.append", load->name, kind);
			figure(rate((double) fanouts, received.end - start),
				   "end_to_end.%s.%s.fanouts", load->name, kind);
			figure(received.end > end ? (double) (received.end - end) / 1e6 : 0.001,
				   "end_to_end.%s.%s.delay_ms", load->name, kind);
			prepared_free(&prepared);
		}
	}
	batches_free(batches);
	PQfinish(conn);
}

void
section_end_to_end(void)
{
	one_workload(&workloads[0]);
	one_workload(&workloads[2]);
}

/* A million transactions: private memory after a tenth of them, and after all. */
void
section_memory(void)
{
	PGconn	   *conn = db_fresh();
	Batches    *batches = batches_create(&workloads[0]);
	int			epochs = by_size(10, 1000, 4000);
	uint64_t	count = (uint64_t) epochs * 2048;
	ConsumerProcess process;
	Received	received;

	db_prepare(conn, "append", "SELECT seq_append($1)");
	process = consumer_start(CONSUME_INSIDE, batches, 0, count, count / 10);
	for (int i = 0; i < epochs; i++)
	{
		batches_next(batches);
		db_put(conn, "append", batches->data, batches->len);
	}
	received = consumer_wait(process);
	check_received(received.count, received.sum, batches);
	figure((double) batches->txns, "memory.txns");
	figure((double) received.applier_kb[0], "memory.applier.early");
	figure((double) received.applier_kb[1], "memory.applier.end");
	figure((double) received.anon_kb[0], "memory.consumer.early");
	figure((double) received.anon_kb[1], "memory.consumer.end");
	batches_free(batches);
	PQfinish(conn);
}
