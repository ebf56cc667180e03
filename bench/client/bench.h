/*
 * bench.h
 *	  What the parts of the benchmark's client share: connections, figures,
 *	  time, and how large a run is to be.
 */
#ifndef BENCH_H
#define BENCH_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define lengthof(array) ((int) (sizeof(array) / sizeof((array)[0])))

/* BENCH_SIZE and BENCH_REPEAT. */
typedef enum BenchSize
{
	SIZE_TINY,
	SIZE_QUICK,
	SIZE_FULL
} BenchSize;

extern BenchSize bench_size;
extern int	bench_repeat;

/* Reads them from the environment. */
extern void bench_read_settings(void);

/* One of three, by the size of this run. */
extern int	by_size(int tiny, int quick, int full);

/* Ends the program. */
extern void die(const char *format, ...)
	__attribute__((format(printf, 1, 2), noreturn));

/* CLOCK_MONOTONIC: the same in all processes, the server's too. */
extern int64_t now_ns(void);
extern void sleep_us(int us);

/* One repetition's figure, on stdout.  What is not positive is an error. */
extern void figure(double value, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/*
 * The median, the 99th percentile and the maximum of durations, which are sorted:
 * figures "<what>.p50", ".p99" and ".max".
 */
extern void figure_durations(double *us, int n, const char *what);

/* A number of a process's /proc/PID/status, by its name there. */
extern int64_t process_figure(int pid, const char *field);

/* "Seconds that so many took" as a rate. */
extern double rate(double count, int64_t ns);

/* Sections, by their names in BENCH_ONLY. */
extern void section_delivery(void);
extern void section_peers(void);
extern void section_end_to_end(void);
extern void section_latency(void);
extern void section_append(void);
extern void section_replay(void);
extern void section_growth(void);
extern void section_memory(void);
extern void section_publish(void);
extern void section_publish_latency(void);
extern void section_publish_held(void);
extern void section_publish_drain(void);
extern void section_handler_latency(void);

/* A catch-up, in steps between which run.sh restarts the server. */
extern void catchup_prepare(const char *what);
extern void catchup_release(const char *what);
extern void catchup_done(void);

/* What bench/publish.sh measures: SECONDS EVENTS CLIENTS... */
extern void publish_ratio(int argc, char **argv);

/* What bench/follow.sh measures: what, and its arguments. */
extern void follow(int argc, char **argv);

/*
 * Connections, to the database "bench" as a rule.  All of these end the program
 * if the server answers anything but what was asked for.
 */
extern PGconn *db_connect(void);
extern PGconn *db_connect_to(const char *options);

/* A database "bench" with the extension, and a connection to it. */
extern PGconn *db_fresh(void);

extern void db_run(PGconn *conn, const char *sql);

/*
 * Before a COMMIT that is timed: it is to flush no more than its own record.
 * How fast the disk takes megabytes of WAL is not what delivery is about.
 */
extern void db_flush_wal(void);
extern void db_runf(PGconn *conn, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* The first column of the first row, as text, to be freed. */
extern char *db_value(PGconn *conn, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
extern int64_t db_int(PGconn *conn, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* Send and let be; wait for the answer, which is to be PGRES_TUPLES_OK. */
extern void db_send(PGconn *conn, const char *sql);
extern void db_send_prepared(PGconn *conn, const char *name);
extern PGresult *db_answer(PGconn *conn);
extern void db_finish_command(PGconn *conn);

extern void db_prepare(PGconn *conn, const char *name, const char *sql);

/* Execute a prepared statement whose only parameter is a bytea. */
extern void db_put(PGconn *conn, const char *name, const void *data, size_t len);
extern void db_send_put(PGconn *conn, const char *name, const void *data,
						size_t len);

/* Wait until there is something to read; the program ends if nothing comes. */
extern void db_wait_readable(PGconn *conn);

/* Binary fields. */
extern uint16_t get16(const char *data);
extern uint32_t get32(const char *data);
extern uint64_t get64(const char *data);

#endif							/* BENCH_H */
