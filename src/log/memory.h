/*
 * memory.h
 *	  The server's memory for the pure layers' buffers, and its interrupts in
 *	  their loops.
 */
#ifndef CALVIN_LOG_MEMORY_H
#define CALVIN_LOG_MEMORY_H

#include "compat.h"

#include "wire/encode.h"

/* Called once by _PG_init(): from then on the pure layers serve interrupts. */
extern void memory_init(void);

/*
 * A WireRealloc: "context" is a MemoryContext, or NULL for the current one at
 * the first allocation.  Never returns NULL: it raises an error.  Sizes over
 * 1 GB are possible.
 */
extern void *memory_realloc(void *context, void *pointer, size_t size);

/*
 * Room for "needed" elements in an array, of the context if there is none yet; at
 * least twice as many as there was, so that adding one by one costs no more.
 */
extern void memory_grow(MemoryContext context, void **array, Size *size,
						Size needed, Size element);

/*
 * tx_class of a transaction in the form that is delivered: as it stands in
 * the log if that is canonical, otherwise written anew into "buffer".  What that
 * needs meanwhile is of the current memory context, which is to be reset after
 * an error.  *plans_offset is where the content of plans starts in it.
 */
extern WireSlice memory_deliverable(const WireTxn *txn, WireBuffer *buffer,
									uint32 *plans_offset);

/* A buffer whose content becomes a bytea, without copying it. */
extern void memory_bytea_init(WireBuffer *buffer);
extern bytea *memory_bytea_finish(WireBuffer *buffer);

#endif							/* CALVIN_LOG_MEMORY_H */
