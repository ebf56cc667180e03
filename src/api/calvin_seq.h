/*
 * calvin_seq.h
 *	  Consumers of calvin_seq in C, inside the server: for background workers
 *	  and extensions that execute transactions.
 *
 * Installed as extension/calvin_seq/calvin_seq.h below the server's headers;
 * include it after postgres.h.  calvin_seq has to be in
 * shared_preload_libraries, in front of libraries that use this: they find
 * the functions in it when they are loaded.
 *
 * A consumer is what seq_subscribe() makes, with the same life and the same
 * guarantees: it is this session's, survives rolling back, and ends with
 * calvin_unsubscribe() or the session.  SQL functions and these can be mixed.
 *
 *		CalvinConsumer *consumer;
 *		CalvinTxn	txn;
 *
 *		... connected to a database, in a transaction, once:
 *		calvin_subscribe("worker", vshards, nvshards, NULL);
 *
 *		... then, in one transaction after the other:
 *		consumer = calvin_begin("worker");
 *		while (calvin_next(consumer, &txn))
 *			execute(&txn);
 *		calvin_end(consumer);
 *		calvin_commit("worker");
 *
 * When nothing came, wait between two transactions, without a snapshot: the
 * applier sets the latch of the session for which there is something.
 *
 *		WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH, -1L, ...);
 *		ResetLatch(MyLatch);
 *
 * All functions need a transaction, except where they say otherwise, and report
 * by ereport(ERROR).  What each of them says below beside that, SQLSTATEs
 * included, is what the SQL function of its name does: see the README.
 */
#ifndef CALVIN_SEQ_H
#define CALVIN_SEQ_H

/* calvin_seq itself exports what others import. */
#ifndef CALVIN_API
#define CALVIN_API extern
#endif

/* Rises with every change that a caller compiled before would not survive. */
#define CALVIN_API_VERSION 1

/* Vshards are numbered from 0 to below this. */
#define CALVIN_VSHARDS 1024

typedef struct CalvinConsumer CalvinConsumer;

/* A transaction's place in the order of all. */
typedef struct CalvinKey
{
	uint64		epoch;
	uint32		position; /* index in the epoch's batch */
} CalvinKey;

/* Bytes that are somebody else's. */
typedef struct CalvinSlice
{
	const uint8 *data;
	uint32		len;
} CalvinSlice;

/*
 * A transaction as it was delivered to one of its vshards.  What it points to
 * lies where it came from, a queue or a block of the log: it is valid until the
 * next call for this consumer.
 */
typedef struct CalvinTxn
{
	CalvinKey	key;
	uint16		vshard;		  /* the one it was delivered to */
	uint16		vshard_count; /* participants */
	const uint16 *vshards;	  /* these, ascending */
	int64		epoch_system_ms; /* the batch's */
	uint64		tenant_id;
	CalvinSlice plans;		  /* content of the plans field, inside tx_class */
	CalvinSlice tx_class;	  /* the whole TxClass, canonical MessagePack */
} CalvinTxn;

/* Zeros are the defaults. */
typedef struct CalvinOptions
{
	const CalvinKey *from; /* first key wanted; NULL: behind the durable cursor,
							* or without one from now on */
	Size		queue_size; /* bytes of each queue; 0: calvin_seq.queue_size */
	bool		bare;		/* not lossless: the queue alone */
} CalvinOptions;

/* CALVIN_API_VERSION of the library.  Needs no transaction, raises no error. */
CALVIN_API int calvin_api_version(void);

/*
 * Become the consumer of n vshards under a name; options may be NULL.  A vshard
 * may be named twice.
 *
 * 22023 a vshard, n or queue_size out of range, or "from" with "bare"; 42602,
 * 42622 the name; 53400 max_subscriptions reached; 53000, 53100 no shared memory;
 * 55000 not preloaded, or what is wanted was truncated.
 */
CALVIN_API void calvin_subscribe(const char *name, const uint16 *vshards,
								 int n, const CalvinOptions *options);

/*
 * Begin to receive; again in every transaction.  The consumer is valid until
 * calvin_end() or the end of the (sub)transaction.
 *
 * 55000 there is no such subscription; 55006 another session took over.
 */
CALVIN_API CalvinConsumer *calvin_begin(const char *name);

/*
 * The next transaction, without waiting; per vshard in key order.  False if
 * there is none now.  What is missing on the queues is read from the log.
 *
 * 55000 it was truncated; XX001 a row of the log is not what it says.
 */
CALVIN_API bool calvin_next(CalvinConsumer *consumer, CalvinTxn *txn);

/* Publish how far the consumer has got, for seq_subscriptions. */
CALVIN_API void calvin_end(CalvinConsumer *consumer);

/*
 * The first key that this consumer has not received of a vshard; false if it
 * has no subscription to it.  Needs no transaction.
 */
CALVIN_API bool calvin_position(const char *name, uint16 vshard,
								CalvinKey *next);

/*
 * Store the position as the durable cursor, in this transaction; returns of
 * how many vshards.
 *
 * 40001 another session has moved it; 25006 on a standby.
 */
CALVIN_API int calvin_commit(const char *name);

/* Go back to the durable cursor, or to where this transaction began. */
CALVIN_API void calvin_rewind(const char *name);

/*
 * End the subscriptions to n vshards, or with vshards NULL all of the name;
 * returns how many there were.  Needs no transaction.
 */
CALVIN_API int calvin_unsubscribe(const char *name, const uint16 *vshards,
								  int n);

#endif							/* CALVIN_SEQ_H */
