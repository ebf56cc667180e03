/*
 * sequence.h
 *	  From the inbox into the log: what the sequencer does.
 */
#ifndef CALVIN_LOG_SEQUENCE_H
#define CALVIN_LOG_SEQUENCE_H

#include "compat.h"

struct DatabaseSlot;

typedef enum SequencingNext
{
	SEQUENCE_AGAIN,
	SEQUENCE_IDLE, /* until the latch is set */
	SEQUENCE_REST, /* wait_ms, or the latch */
	SEQUENCE_GONE  /* extension dropped or created anew: retire */
} SequencingNext;

/* Starts and ends its own transactions. */
extern SequencingNext sequence_some(struct DatabaseSlot *slot, long *wait_ms);

/* After an error, or when DDL told us to look anew: forget cached state. */
extern void sequence_forget(void);

#endif							/* CALVIN_LOG_SEQUENCE_H */
