/*
 * acks.h
 *	  Acknowledgements of a follower on their way to its source: the table
 *	  seq_outgoing_acks.
 *
 * A row is there from the transaction that acknowledges until the acknowledgement has come
 * back with the log.  So it is not lost with anything in between; and the source, asked
 * more than once, appends it once.
 */
#ifndef CALVIN_LOG_ACKS_H
#define CALVIN_LOG_ACKS_H

#include "compat.h"

typedef struct Ack
{
	uint64		epoch;
	uint32		position;
	uint16		vshard;
} Ack;

/*
 * Store one in this transaction, unless it is there, and have the worker told at its
 * commit.  False, and nothing: this database follows nobody any more.
 */
extern bool acks_store(const Ack *ack);

/* Those that are committed, each once, "most" of them at most; palloc'd. */
extern int	acks_list(int most, Ack **acks);

extern uint64 acks_count(void);

/* They have come back, or are not for the source any more. */
extern void acks_remove(const Ack *acks, int n);

/* Wait for whoever stores one, and keep others from it to the end of the transaction. */
extern void acks_lock(void);

/*
 * Append what is not in the log yet, behind its batch: the append lock is held, and the
 * log is our own.
 */
extern void acks_append(const Ack *acks, int n);

#endif							/* CALVIN_LOG_ACKS_H */
