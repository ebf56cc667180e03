/*
 * publishers.h
 *	  The ways to publish from within a transaction, each with the consumer
 *	  that is natural to it.
 */
#ifndef BENCH_PUBLISHERS_H
#define BENCH_PUBLISHERS_H

#include "bench.h"

#define MAX_CLIENTS 200

/*
 * What a consumer has: it shares this with the process that measures.  The
 * clients number their events from 1.
 */
typedef struct Tally
{
	volatile bool ready; /* set by the consumer: it will miss nothing */
	volatile bool stop;	 /* set for it: all is there */
	volatile int64_t received;
	volatile int64_t last; /* when the last one came, by CLOCK_REALTIME */
	int64_t		of_client[MAX_CLIENTS];
} Tally;

/* One event of the given text has come. */
extern void tally_event(Tally *tally, const char *event);

/* The events of a result, in one of its columns, in its order. */
extern void tally_column(Tally *tally, PGresult *result, int column);

typedef struct Publisher
{
	const char *name;

	/* What a database needs once; false: it cannot be had here. */
	bool		(*setup) (PGconn *conn);

	/* Before each run, in a session of its own. */
	void		(*reset) (PGconn *conn);

	/* In pgbench's script, after n was set; NULL: nothing is published. */
	const char *statement;

	/* Receives until it is to stop; NULL: nobody does. */
	void		(*consume) (PGconn *conn, Tally *tally);

	/* A process of the peer's own that has to be there; NULL: none. */
	void		(*start) (PGconn *conn);
	void		(*stop) (void);
} Publisher;

extern const Publisher publishers[];
extern const int publisher_count;

extern const Publisher *publisher_named(const char *name);

/*
 * The script of a transaction that inserts an order and publishes so many
 * events, to be freed.
 */
extern char *publisher_script(const Publisher *publisher, int events);

/* A consumer in a process of its own, which is ready when this returns. */
typedef struct PublishConsumer
{
	pid_t		pid;
	Tally	   *tally;
} PublishConsumer;

extern PublishConsumer publish_consumer_start(const Publisher *publisher);

/* Wait until it has what the table of orders says; ends it. */
extern int64_t publish_consumer_finish(PublishConsumer *consumer, PGconn *conn,
									   int events);

/* For consumers: an event of the given text has come, and when the last did. */
extern void tally_event(Tally *tally, const char *event);
extern void tally_now(Tally *tally);

/* Both, for a column of a result. */
extern void tally_column(Tally *tally, PGresult *result, int column);

/* Of peers. */
extern bool setup_outbox(PGconn *conn);
extern void reset_outbox(PGconn *conn);
extern void consume_outbox(PGconn *conn, Tally *tally);
extern bool setup_pgmq(PGconn *conn);
extern void reset_pgmq(PGconn *conn);
extern void consume_pgmq(PGconn *conn, Tally *tally);
extern bool setup_pgq(PGconn *conn);
extern void start_pgq(PGconn *conn);
extern void stop_pgq(void);
extern void consume_pgq(PGconn *conn, Tally *tally);
extern void consume_notify(PGconn *conn, Tally *tally);

#endif							/* BENCH_PUBLISHERS_H */
