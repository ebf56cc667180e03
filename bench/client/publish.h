/*
 * publish.h
 *	  Runs of many clients that publish, which the sections have in common.
 */
#ifndef BENCH_PUBLISH_H
#define BENCH_PUBLISH_H

#include "publishers.h"

/* The last of them is what a connection pool has. */
extern const int publish_clients[5];

/* A fresh database, its settings those of a server in use. */
extern PGconn *publish_begin(void);
extern void publish_end(PGconn *conn);

/* What waits to be sequenced. */
extern int64_t publish_waiting(PGconn *conn);

/* The sequencer of the database "bench". */
extern int	publish_sequencer(PGconn *conn);

#endif							/* BENCH_PUBLISH_H */
