/*
 * framed.h
 *	  What seq_receive_batch returns, transaction by transaction.
 */
#ifndef BENCH_FRAMED_H
#define BENCH_FRAMED_H

#include "workload.h"

/* One of its transactions; the bytes are the batch's. */
typedef struct Framed
{
	uint32_t	vshard;
	uint64_t	epoch;
	uint32_t	position;
	const char *tx_class;
	size_t		tx_class_len;
} Framed;

typedef void (*FramedVisit) (const Framed *framed, void *arg);

/* Calls "visit" for each; the program ends at what is no framed batch. */
extern void framed_each(const char *data, size_t len, FramedVisit visit,
						void *arg);

/* The first collection of a TxClass's write set, and its plans. */
typedef struct Sent
{
	const char *collection;
	size_t		collection_len;
	const char *plans;
	size_t		plans_len;
} Sent;

extern Sent framed_sent(const Framed *framed);

/* Check the keys of all of a batch's transactions. */
extern void check_framed(Checker *checker, const char *data, size_t len);

#endif							/* BENCH_FRAMED_H */
