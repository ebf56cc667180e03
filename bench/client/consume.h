/*
 * consume.h
 *	  Consumers of calvin_seq, of each kind there is.
 */
#ifndef BENCH_CONSUME_H
#define BENCH_CONSUME_H

#include "workload.h"

typedef enum ConsumerKind
{
	CONSUME_ROWS,	/* all columns */
	CONSUME_ROWS4,	/* vshard, epoch, position, plans */
	CONSUME_FRAMED, /* seq_receive_batch */
	CONSUME_INSIDE	/* in C, inside the server */
} ConsumerKind;

extern const char *consumer_kind_name(ConsumerKind kind);

typedef struct Received
{
	int64_t		end; /* when the last transaction was there */
	uint64_t	count;
	uint64_t	sum;
	int64_t		dropped;  /* were not put on the queues, */
	int64_t		replayed; /* but read from the log */
	int64_t		anon_kb[2]; /* private memory, early and at the end */
	int64_t		applier_kb[2];
} Received;

/* Subscribe; queue_size 0 is the setting's. */
extern void consume_begin(PGconn *conn, ConsumerKind kind,
						  const Batches *batches, int queue_size);

/*
 * Receive "count" transactions: consume_send() asks for the first ones, so that
 * it can be done before they are committed.
 */
extern void consume_send(PGconn *conn, ConsumerKind kind, uint64_t count);
extern void consume_all(PGconn *conn, ConsumerKind kind, uint64_t count,
						Received *received);

/* What the queues have done, since the consumer subscribed. */
extern void consume_counts(PGconn *conn, Received *received);

/* What they did since those counts, and the end of the subscriptions. */
extern void consume_end(PGconn *conn, Received *received);

/* A consumer in a process of its own, from when this returns. */
typedef struct ConsumerProcess
{
	pid_t		pid;
	int			fd;
} ConsumerProcess;

extern ConsumerProcess consumer_start(ConsumerKind kind,
									  const Batches *batches, int queue_size,
									  uint64_t count, uint64_t early);
extern Received consumer_wait(ConsumerProcess process);

#endif							/* BENCH_CONSUME_H */
