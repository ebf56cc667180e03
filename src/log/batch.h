/*
 * batch.h
 *	  An epoch that is being formed: transactions in order, and in the end the entry.
 */
#ifndef CALVIN_LOG_BATCH_H
#define CALVIN_LOG_BATCH_H

#include "compat.h"

#include "wire/encode.h"

typedef struct Batch
{
	uint64		epoch;
	int64		epoch_system_ms;
	uint32		txns;
	uint64		plans;  /* bytes */
	WireBuffer	body;
	int			epochs; /* appended since batch_start() */
} Batch;

/* Once, with the context that its memory comes from. */
extern void batch_init(Batch *batch, MemoryContext context);

/* Lock the log's end for this transaction, with an empty batch. */
extern void batch_start(Batch *batch);

/* May another transaction with so many bytes of plans, in so many of TxClass, be put into it? */
extern bool batch_has_room(const Batch *batch, uint64 plans, uint64 size);

/*
 * Where the TxClass of the next transaction, of so many bytes, is to be written.  The
 * first one of an epoch gives it its number: the one that follows the log's last.
 */
extern uint8 *batch_add(Batch *batch, uint64 plans, uint32 size);

/* Append it to the log, unless it is empty; the next epoch begins. */
extern void batch_append(Batch *batch);

#endif							/* CALVIN_LOG_BATCH_H */
