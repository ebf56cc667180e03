/*
 * bench_queues.h
 *	  Bare shm_mq queues in a segment, from one session to another.
 */
#ifndef BENCH_QUEUES_H
#define BENCH_QUEUES_H

#include "storage/dsm.h"
#include "storage/shm_mq.h"

/* CLOCK_MONOTONIC, as the client takes it too. */
extern int64 monotonic_ns(void);

/* Become the sender of all queues of a segment; *count is their number. */
extern dsm_segment *queues_attach_sender(int64 handle, shm_mq_handle ***handles,
										 int *count);

/* Make what was sent visible, and leave. */
extern void queues_finish(dsm_segment *segment, shm_mq_handle **handles,
						  int count);

#endif							/* BENCH_QUEUES_H */
