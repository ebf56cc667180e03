/*
 * received.h
 *	  What a source has sent and is not stored yet: the rows of one seq_feed().
 */
#ifndef CALVIN_PROCESS_RECEIVED_H
#define CALVIN_PROCESS_RECEIVED_H

#include "compat.h"

#include "log/acks.h"
#include "log/append.h"
#include "machine/machine.h"

typedef struct Received
{
	uint64		asked; /* bytes: behind so many nothing comes but the end */
	CopiedRow  *rows; /* ascending */
	int			n;
	uint64		bytes; /* of their entries */
	uint64		largest; /* of one of them */

	/* acknowledgements among them, known when they were stepped over */
	Ack		   *acks;
	int			nacks;

	/* what the row behind them says */
	bool		complete;
	uint64		end_index;
	uint64		end_digest;
	uint64		applied_index;
} Received;

extern void received_begin(Received *received, uint64 asked);

/*
 * A message of COPY, which is the caller's no more: taken over, or freed.  False if it
 * is nothing that seq_feed() gives.
 */
extern bool received_add(Received *received, char *message, int size);

/* The state behind the rows, from the one before them; false if it is not the source's. */
extern bool received_step(Received *received, MachineState *state);

/* Give the memory back. */
extern void received_drop(Received *received);

#endif							/* CALVIN_PROCESS_RECEIVED_H */
