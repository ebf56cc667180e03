/*
 * completion.c
 *	  Which participants of a transaction have acknowledged it.
 */
#include "compat.h"

#include "log/base.h"
#include "log/completion.h"
#include "log/reader.h"
#include "log/report.h"
#include "miscadmin.h"

CALVIN_FUNCTION(seq_log_ack_position);

/* The participants of one transaction; returns the batch's log_index or 0. */
static uint64
find_participants(const LogAccess *access, uint64 epoch, uint32 position,
				  uint64 through, Completion *completion)
{
	LogReader	reader;
	LogRow		row;
	WireDecoder decoder;
	WireTxn		staged;
	WireTxn		txn;
	uint16	   *vshards = palloc(sizeof(uint16) * 2 * WIRE_VSHARDS);
	uint64		batch_index = 0;

	wire_decoder_init(&decoder, &staged, 1, vshards, 2 * WIRE_VSHARDS);
	log_reader_begin_by_epoch(&reader, access, (int64) epoch, (int64) epoch);
	if (log_reader_next(&reader, &row) && row.log_index <= through &&
		wire_decode(&decoder, row.entry, row.entry_len) &&
		decoder.entry.kind == WIRE_EPOCH_BATCH)
	{
		batch_index = row.log_index;
		completion->txn_count = decoder.entry.txn_count;
		while (wire_next_txn(&decoder, &txn) && txn.position < position)
			continue;
		if (position < completion->txn_count)
		{
			completion->nexpected = txn.vshard_count;
			memcpy(completion->expected, txn.vshards,
				   sizeof(uint16) * txn.vshard_count);
		}
	}
	log_reader_end(&reader);
	pfree(vshards);
	return batch_index;
}

/* Mark the vshards whose acks stand behind the batch. */
static void
find_acks(const LogAccess *access, uint64 epoch, uint32 position, uint64 after,
		  uint64 through, bool *acked)
{
	LogReader	reader;
	LogRow		row;
	WireDecoder decoder;
	WireTxn		staged;
	uint16	   *vshards = palloc(sizeof(uint16) * 2 * WIRE_VSHARDS);

	wire_decoder_init(&decoder, &staged, 1, vshards, 2 * WIRE_VSHARDS);
	log_reader_begin_acks(&reader, access, (int64) epoch, position);
	while (log_reader_next(&reader, &row))
	{
		CHECK_FOR_INTERRUPTS();
		if (row.log_index > after && row.log_index <= through &&
			wire_decode(&decoder, row.entry, row.entry_len) &&
			decoder.entry.kind == WIRE_COMPLETION_ACK &&
			decoder.entry.vshard_id < WIRE_VSHARDS)
			acked[decoder.entry.vshard_id] = true;
	}
	log_reader_end(&reader);
	pfree(vshards);
}

void
completion_look_up(uint64 epoch, uint32 position, uint64 through,
				   Completion *completion)
{
	LogAccess	access;
	bool		acked[WIRE_VSHARDS] = {false};
	uint64		batch_index;

	memset(completion, 0, offsetof(Completion, expected));
	log_access_begin(&access, 0, ACCESS_LATEST);
	batch_index = find_participants(&access, epoch, position, through, completion);
	if (batch_index == 0)
	{
		/* was it truncated? */
		log_access_end(&access);
		log_access_begin(&access, ACCESS_SNAPSHOTS, ACCESS_LATEST);
		batch_index = find_participants(&access, epoch, position, through,
										completion);
	}
	completion->known = batch_index > 0;
	if (!completion->known)
		base_require_epoch(&access, epoch, NULL);
	if (completion->nexpected > 0)
		find_acks(&access, epoch, position, batch_index, through, acked);
	log_access_end(&access);

	for (int i = 0; i < completion->nexpected; i++)
		if (acked[completion->expected[i]])
			completion->acked[completion->nacked++] = completion->expected[i];
	completion->complete = completion->known &&
		position < completion->txn_count &&
		completion->nacked == completion->nexpected;
}

bool
completion_has_ack(uint64 epoch, uint32 position, uint16 vshard)
{
	LogAccess	access;
	Completion *completion = palloc0(sizeof(Completion));
	bool		acked[WIRE_VSHARDS] = {false};
	uint64		batch_index;

	log_access_begin(&access, 0, ACCESS_LATEST);
	batch_index = find_participants(&access, epoch, position, PG_INT64_MAX, completion);
	find_acks(&access, epoch, position, batch_index, PG_INT64_MAX, acked);
	log_access_end(&access);
	pfree(completion);
	return acked[vshard];
}

/*
 * seq_log_ack_position(entry) -> position that a CompletionAck is for, NULL
 * for any other entry.  For the index that acks are found by.
 */
Datum
seq_log_ack_position(PG_FUNCTION_ARGS)
{
	bytea	   *entry = PG_GETARG_BYTEA_PP(0);
	WireDecoder decoder;
	WireTxn		staged;
	uint16	   *vshards = palloc(sizeof(uint16) * 2 * WIRE_VSHARDS);

	wire_decoder_init(&decoder, &staged, 1, vshards, 2 * WIRE_VSHARDS);
	if (!wire_decode(&decoder, (const uint8 *) VARDATA_ANY(entry),
					 VARSIZE_ANY_EXHDR(entry)) ||
		decoder.entry.kind != WIRE_COMPLETION_ACK)
		PG_RETURN_NULL();
	pfree(vshards);
	PG_RETURN_INT64(decoder.entry.position);
}
