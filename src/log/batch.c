/*
 * batch.c
 *	  An epoch that is being formed: transactions in order, and in the end the entry.
 *
 * The submissions are in canonical form, so they are copied; around them stand the
 * numbers that only the sequencer knows.
 */
#include "compat.h"

#include "log/append.h"
#include "log/batch.h"
#include "log/memory.h"
#include "shared/settings.h"

/* What an entry has beside the TxClasses, at most: of the batch, and of each txn. */
#define BATCH_OVERHEAD 64
#define TXN_OVERHEAD 32

/* Memory that is kept from one epoch to the next. */
#define KEEP_BYTES (32 * 1024 * 1024)

void
batch_init(Batch *batch, MemoryContext context)
{
	wire_buffer_init(&batch->body, memory_realloc, context);
	batch->txns = 0;
}

void
batch_start(Batch *batch)
{
	batch->txns = 0;
	batch->epochs = 0;
	append_lock();
}

static void
begin_epoch(Batch *batch)
{
	/* one of the largest size is not to be paid for ever after */
	if (batch->body.size > KEEP_BYTES)
		wire_buffer_free(&batch->body);
	wire_buffer_reset(&batch->body);
	batch->plans = 0;
	/* where the log ends behind what this transaction has appended */
	if (batch->epochs > 0)
		append_lock();
	batch->epoch = append_next_epoch();
	batch->epoch_system_ms = append_batch_ms();
}

bool
batch_has_room(const Batch *batch, uint64 plans, uint64 size)
{
	return batch->txns == 0 ||
		(batch->txns < (uint32) calvin_max_txns_per_epoch &&
		 batch->plans + plans <= (uint64) calvin_max_bytes_per_epoch &&
		 batch->body.len + size + TXN_OVERHEAD + BATCH_OVERHEAD <= WIRE_MAX_ENTRY);
}

uint8 *
batch_add(Batch *batch, uint64 plans, uint32 size)
{
	WireBuffer *body = &batch->body;
	uint8	   *space;

	if (batch->txns == 0)
		begin_epoch(batch);
	else
		wire_put_int(body, batch->epoch_system_ms); /* of the one before */
	wire_put_array_header(body, 4);
	wire_put_uint(body, batch->epoch);
	wire_put_uint(body, batch->txns);
	space = wire_put_space(body, size);
	batch->txns++;
	batch->plans += plans;
	return space;
}

void
batch_append(Batch *batch)
{
	WireBuffer	entry;
	WireEntry	what = {0};
	bytea	   *bytes;

	if (batch->txns == 0)
		return;
	wire_put_int(&batch->body, batch->epoch_system_ms);
	memory_bytea_init(&entry);
	wire_put_array_header(&entry, 2);
	wire_put_str(&entry, "EpochBatch", strlen("EpochBatch"));
	wire_put_array_header(&entry, 1);
	wire_put_array_header(&entry, 3);
	wire_put_uint(&entry, batch->epoch);
	wire_put_array_header(&entry, batch->txns);
	wire_put_raw(&entry, batch->body.data, batch->body.len);
	wire_put_int(&entry, batch->epoch_system_ms);
	bytes = memory_bytea_finish(&entry);

	what.kind = WIRE_EPOCH_BATCH;
	what.epoch = batch->epoch;
	what.epoch_system_ms = batch->epoch_system_ms;
	what.txn_count = batch->txns;
	what.length = VARSIZE(bytes) - VARHDRSZ;
	(void) append_insert(bytes, &what);
	pfree(bytes);
	batch->txns = 0;
	batch->epochs++;
}
