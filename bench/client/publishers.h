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

typedef struct Publisher
{
	const char *name;

	/* What a database needs once; false: it cannot be had here. */
	bool		(*setup) (PGconn *conn);

	/* Before each run. */
	void		(*reset) (PGconn *conn);

	/* In pgbench's script, after n was set; NULL: nothing is published. */
	const char *statement;

	/* Receives until it is to stop; NULL: nobody does. */
	void		(*consume) (PGconn *conn, Tally *tally);

	/* Starts a process that has to run beside; NULL: there is none. */
	pid_t		(*start_beside) (void);
} Publisher;

/* Here: */
extern const Publisher publish_none;
extern const Publisher publish_plain; /* into a second table, for nobody */
extern const Publisher publish_send;  /* seq_send */

/* In publish_peers.c: */
extern const Publisher publish_outbox;
extern const Publisher publish_notify;
extern const Publisher publish_pgq;
extern const Publisher publish_pgmq;

/* About 100 bytes of JSON, the same for all, as a text in pgbench's script. */
#define EVENT \
	"'{\"c\": ' || :client_id || ', \"n\": ' || :n || ', \"note\": " \
	"\"0123456789012345678901234567890123456789012345678\", \"status\": \"paid\"}'"

/* Whoever polls does so a hundred times a second. */
#define POLL_US 10000

extern void publisher_no_reset(PGconn *conn);

/*
 * The script of a transaction that inserts an order and publishes so many
 * events, to be freed.
 */
extern char *publisher_script(const Publisher *publisher, int events);

/* Makes the table of orders. */
extern void publish_make_orders(PGconn *conn);

/* Before a run: empties it, and what this publisher needs. */
extern void publish_reset(const Publisher *publisher, PGconn *conn);

/*
 * A consumer in a process of its own, which is ready when this returns; of a
 * publisher that has none, nothing.
 */
typedef struct PublishConsumer
{
	pid_t		pid;
	pid_t		beside; /* 0: none */
	Tally	   *tally;
} PublishConsumer;

extern PublishConsumer publish_consumer_start(const Publisher *publisher);

/*
 * Wait until it has what the table of orders says, and end it: when the last
 * event came, by CLOCK_REALTIME.
 */
extern int64_t publish_consumer_finish(PublishConsumer *consumer, PGconn *conn,
									   int events);

/* For consumers: an event of the given text has come; so has all there is now. */
extern void tally_event(Tally *tally, const char *event);
extern void tally_now(Tally *tally);

/* Both, for a column of a result, in its order. */
extern void tally_column(Tally *tally, PGresult *result, int column);

#endif							/* BENCH_PUBLISHERS_H */
