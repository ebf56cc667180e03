/*
 * memory.h
 *	  The server's memory for the pure layers' buffers.
 */
#ifndef CALVIN_LOG_MEMORY_H
#define CALVIN_LOG_MEMORY_H

#include "compat.h"

#include "wire/encode.h"

/*
 * A WireRealloc: "context" is a MemoryContext, or NULL for the current one at
 * the first allocation.  Never returns NULL: it raises an error.  Sizes over
 * 1 GB are possible.
 */
extern void *memory_realloc(void *context, void *pointer, size_t size);

/*
 * tx_class of a transaction in the form that is delivered: as it stands in
 * the log if that is canonical, otherwise written anew into "buffer".
 * *plans_offset is where the content of plans starts in it.
 */
extern WireSlice memory_deliverable(const WireTxn *txn, WireBuffer *buffer,
									uint32 *plans_offset);

/* A buffer whose content becomes a bytea, without copying it. */
extern void memory_bytea_init(WireBuffer *buffer);
extern bytea *memory_bytea_finish(WireBuffer *buffer);

#endif							/* CALVIN_LOG_MEMORY_H */
