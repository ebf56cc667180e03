/*
 * memory.c
 *	  The server's memory for the pure layers' buffers, and its interrupts in
 *	  their loops.
 */
#include "compat.h"

#include "log/memory.h"
#include "log/report.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "wire/yield.h"

static void
serve_interrupts(void)
{
	CHECK_FOR_INTERRUPTS();
}

void
memory_init(void)
{
	wire_yield = serve_interrupts;
}

void
memory_grow(MemoryContext context, void **array, Size *size, Size needed,
			Size element)
{
	Size		wanted = Max(needed, Max(*size * 2, Max(256 / element, 1)));

	if (needed <= *size)
		return;
	*array = memory_realloc(context, *array, wanted * element);
	*size = wanted;
}

void *
memory_realloc(void *context, void *pointer, size_t size)
{
	if (size == 0)
	{
		if (pointer != NULL)
			pfree(pointer);
		return NULL;
	}
	if (pointer != NULL)
		return repalloc_huge(pointer, size);
	return MemoryContextAllocHuge(context != NULL ? (MemoryContext) context :
								  CurrentMemoryContext, size);
}

WireSlice
memory_deliverable(const WireTxn *txn, WireBuffer *buffer, uint32 *plans_offset)
{
	WireSlice	slice = txn->tx_class;
	WireError	error;
	uint32		plans_end;

	if (txn->canonical)
	{
		*plans_offset = (uint32) (txn->plans.data - slice.data);
		return slice;
	}
	wire_buffer_reset(buffer);
	buffer->scratch = CurrentMemoryContext;
	if (!wire_deliverable_tx_class(slice, buffer, &plans_end, &error))
		wire_report(&error);
	*plans_offset = plans_end - txn->plans.len;
	slice.data = buffer->data;
	slice.len = (uint32) buffer->len;
	return slice;
}

void
memory_bytea_init(WireBuffer *buffer)
{
	static const uint8 header[VARHDRSZ];

	wire_buffer_init(buffer, memory_realloc, NULL);
	wire_put_raw(buffer, header, VARHDRSZ);
}

bytea *
memory_bytea_finish(WireBuffer *buffer)
{
	SET_VARSIZE(buffer->data, buffer->len);
	return (bytea *) buffer->data;
}
