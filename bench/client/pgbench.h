/*
 * pgbench.h
 *	  Runs pgbench with a script, and reads from its log what it did when.
 */
#ifndef BENCH_PGBENCH_H
#define BENCH_PGBENCH_H

#include "bench.h"

typedef struct PgbenchRun
{
	int64_t		transactions;
	double		rate;		 /* of those after the warming up, a second */
	int64_t		last_commit; /* by CLOCK_REALTIME, in nanoseconds */
} PgbenchRun;

/*
 * Start: "clients" connections that run the script for so many seconds, or, if
 * that is 0, a few times each.  The variable n is 0 in each of them.
 */
extern pid_t pgbench_start(const char *script, int clients, int seconds);

/* Wait until it has ended. */
extern void pgbench_wait(pid_t pid);

/*
 * Then, once: what its log says.  The first milliseconds are not part of the
 * rate, and it is 0 if too few are left after them.
 */
extern PgbenchRun pgbench_result(int warm_ms, int least_ms);

/* Or: transactions a second in each slice of the run, first to last. */
extern int	pgbench_slices(int slice_ms, double *rates, int max);

/* What pgbench's log tells time by. */
extern int64_t real_ns(void);

#endif							/* BENCH_PGBENCH_H */
