/*
 * workload.h
 *	  Batches to append, and what a consumer of them must have seen.
 */
#ifndef BENCH_WORKLOAD_H
#define BENCH_WORKLOAD_H

#include "bench.h"

#define VSHARDS 1024

/*
 * Epochs of "txns" transactions.  Each writes two surrogates in one collection
 * of each of "width" vshards, out of "vshards" different ones, and has a plan
 * of "plan" bytes.
 */
typedef struct Workload
{
	const char *name;
	int			txns;
	int			width;
	int			plan;
	int			vshards;
} Workload;

/* All vshards that the collections col_0 to col_999 have. */
#define ALL_VSHARDS 367

/* A to D. */
extern const Workload workloads[4];

/* Of a vshard so many collections are used, at most. */
#define NAMES_A_VSHARD 8

typedef struct Batches
{
	Workload	load;
	uint16_t	vshards[VSHARDS]; /* those that transactions go to */
	int			names[VSHARDS][NAMES_A_VSHARD]; /* their collections, by number */
	int			name_count[VSHARDS];
	uint64_t	random;
	uint64_t	epoch; /* the next batch's */

	uint8_t    *data; /* the last batch */
	size_t		len;
	size_t		size;

	/* of all batches so far */
	uint64_t	fanouts;
	uint64_t	sum;
	uint64_t	bytes;
	uint64_t	txns;
	uint64_t	class_bytes; /* of TxClasses */
} Batches;

extern Batches *batches_create(const Workload *load);
extern void batches_free(Batches *batches);

/* Makes the next batch: data and len. */
extern void batches_next(Batches *batches);

/* Batches made before the clock starts. */
typedef struct Prepared
{
	uint8_t   **data;
	size_t	   *lengths;
	int			count;
} Prepared;

extern Prepared batches_prepare(Batches *batches, int count);
extern void prepared_free(Prepared *prepared);

/* Give each to a prepared statement: nanoseconds. */
extern int64_t prepared_put(PGconn *conn, const char *statement,
							const Prepared *prepared);

/* The vshards as an array in SQL, to be freed. */
extern char *batches_vshards(const Batches *batches);

/* Bytes of a transaction on a queue of calvin_seq, on average. */
extern int	batches_message_size(const Batches *batches);

/* Is also computed inside the server: module/calvin_bench.c. */
static inline uint64_t
key_sum(uint32_t vshard, uint64_t epoch, uint32_t position)
{
	uint64_t	key = ((uint64_t) vshard << 52) ^ (epoch << 20) ^ position;

	key *= UINT64_C(0x9E3779B97F4A7C15);
	return key ^ key >> 29;
}

/* What a consumer does with what it gets. */
typedef struct Checker
{
	uint64_t	next_epoch[VSHARDS]; /* the smallest key that may come */
	uint32_t	next_position[VSHARDS];
	uint64_t	count;
	uint64_t	sum;
} Checker;

extern void check_key(Checker *checker, uint32_t vshard, uint64_t epoch,
					  uint32_t position);

/* What was received is what was meant for it, or the program ends. */
extern void check_received(uint64_t count, uint64_t sum,
						   const Batches *batches);

#endif							/* BENCH_WORKLOAD_H */
