/*
 * replay.c
 *	  seq_replay: a vshard's transactions of a range of epochs, from the log.
 *
 * One row a call.  Entries are fetched in blocks, each by an index scan of
 * its own, so that nothing stays open between calls: a cursor may be left
 * standing, and small entries still cost little.
 */
#include "compat.h"

#include "funcapi.h"
#include "log/memory.h"
#include "log/reader.h"
#include "miscadmin.h"
#include "sql/args.h"
#include "sql/rows.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

CALVIN_FUNCTION(seq_replay);

/* A block is at most this many entries, and ends once it has these bytes. */
#define BLOCK_ENTRIES 256
#define BLOCK_BYTES (256 * 1024)

/* Transactions of one entry decoded once; a larger one costs a second pass. */
#define STAGED_TXNS 2048
#define STAGED_VSHARDS 8192

typedef struct BlockEntry
{
	uint64		log_index;
	uint64		epoch;
	const uint8 *data;
	uint32		len;
	void	   *memory;
} BlockEntry;

typedef struct Replay
{
	uint16		vshard;
	int64		next_epoch;
	int64		to_epoch;
	bool		exhausted;	  /* the log has nothing more in the range */
	int			nentries;	  /* of the block */
	int			entry;		  /* the one the decoder is on, or nentries */
	BlockEntry	block[BLOCK_ENTRIES];
	MemoryContext block_context;
	WireDecoder decoder;
	WireBuffer	canonical;
	RowMaker	maker;
	bytea	   *tx_class;
	Size		tx_class_size;
} Replay;

static Replay *
begin_replay(int32 vshard, int64 from, int64 to)
{
	Replay	   *replay;

	if (from < 0 || to < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("epoch " INT64_FORMAT " is negative", from < 0 ? from : to),
				 errdetail("Epochs are numbered from 0.")));
	replay = palloc0(sizeof(Replay));
	replay->vshard = arg_vshard(vshard);
	replay->next_epoch = from;
	replay->to_epoch = to;
	replay->exhausted = from > to;
	replay->block_context = AllocSetContextCreate(CurrentMemoryContext,
												  "calvin_seq replay",
												  ALLOCSET_DEFAULT_SIZES);
	wire_decoder_init(&replay->decoder,
					  palloc(sizeof(WireTxn) * STAGED_TXNS), STAGED_TXNS,
					  palloc(sizeof(uint16) * STAGED_VSHARDS), STAGED_VSHARDS);
	wire_buffer_init(&replay->canonical, memory_realloc, CurrentMemoryContext);
	row_maker_init(&replay->maker);
	return replay;
}

static void
fetch_block(Replay *replay)
{
	LogReader	reader;
	LogRow		row;
	Size		bytes = 0;
	MemoryContext old;

	MemoryContextReset(replay->block_context);
	old = MemoryContextSwitchTo(replay->block_context);
	replay->nentries = 0;
	replay->entry = 0;
	log_reader_begin_by_epoch(&reader, log_table_require(), GetActiveSnapshot(),
							  replay->next_epoch, replay->to_epoch);
	replay->exhausted = true;
	while (log_reader_next(&reader, &row))
	{
		BlockEntry *entry = &replay->block[replay->nentries++];

		CHECK_FOR_INTERRUPTS();
		entry->log_index = row.log_index;
		entry->epoch = row.epoch;
		entry->data = log_reader_take_entry(&reader, &row, &entry->memory);
		entry->len = row.entry_len;
		bytes += row.entry_len;
		if (replay->nentries == BLOCK_ENTRIES || bytes >= BLOCK_BYTES)
		{
			replay->exhausted = (int64) row.epoch >= replay->to_epoch;
			replay->next_epoch = (int64) row.epoch + 1;
			break;
		}
	}
	log_reader_end(&reader);
	MemoryContextSwitchTo(old);
}

static void
open_entry(Replay *replay)
{
	const BlockEntry *entry = &replay->block[replay->entry];
	WireDecoder *decoder = &replay->decoder;

	/* the row says it is a batch of that epoch: it was checked when inserted */
	if (!wire_decode(decoder, entry->data, entry->len) ||
		decoder->entry.kind != WIRE_EPOCH_BATCH ||
		decoder->entry.epoch != entry->epoch)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("the entry at log_index " UINT64_FORMAT " is not the batch of epoch " UINT64_FORMAT " that its row says",
						entry->log_index, entry->epoch)));
}

/* Move to the next transaction of the vshard. */
static bool
next_match(Replay *replay, WireTxn *txn)
{
	for (;;)
	{
		if (replay->entry < replay->nentries)
		{
			while (wire_next_txn(&replay->decoder, txn))
				for (int i = 0; i < txn->vshard_count && txn->vshards[i] <= replay->vshard; i++)
					if (txn->vshards[i] == replay->vshard)
						return true;
			CHECK_FOR_INTERRUPTS();
			pfree(replay->block[replay->entry].memory);
			replay->entry++;
		}
		else
		{
			if (replay->exhausted)
				return false;
			fetch_block(replay);
		}
		if (replay->entry < replay->nentries)
			open_entry(replay);
	}
}

static bytea *
hold_tx_class(Replay *replay, WireSlice slice)
{
	Size		size = slice.len + VARHDRSZ;

	if (size > replay->tx_class_size)
	{
		if (replay->tx_class != NULL)
			pfree(replay->tx_class);
		replay->tx_class_size = Max(size, 1024);
		replay->tx_class = MemoryContextAlloc(replay->maker.context,
											  replay->tx_class_size);
	}
	SET_VARSIZE(replay->tx_class, size);
	memcpy(VARDATA(replay->tx_class), slice.data, slice.len);
	return replay->tx_class;
}

/* seq_replay(vshard, from_epoch, to_epoch) */
Datum
seq_replay(PG_FUNCTION_ARGS)
{
	FuncCallContext *funcctx;
	Replay	   *replay;
	WireTxn		txn;

	if (SRF_IS_FIRSTCALL())
	{
		MemoryContext old;
		TupleDesc	desc;

		funcctx = SRF_FIRSTCALL_INIT();
		old = MemoryContextSwitchTo(funcctx->multi_call_memory_ctx);
		if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
			elog(ERROR, "seq_replay must return rows");
		funcctx->tuple_desc = BlessTupleDesc(desc);
		funcctx->user_fctx = begin_replay(PG_GETARG_INT32(0),
										  PG_GETARG_INT64(1),
										  PG_GETARG_INT64(2));
		MemoryContextSwitchTo(old);
	}

	funcctx = SRF_PERCALL_SETUP();
	replay = (Replay *) funcctx->user_fctx;
	if (next_match(replay, &txn))
	{
		RowSource	source;
		uint32		plans_offset;
		HeapTuple	tuple;

		source.vshard = replay->vshard;
		source.epoch = replay->decoder.entry.epoch;
		source.position = txn.position;
		source.epoch_system_ms = replay->decoder.entry.epoch_system_ms;
		source.tenant_id = txn.tenant_id;
		source.vshards = txn.vshards;
		source.vshard_count = txn.vshard_count;
		source.plans = txn.plans;
		source.tx_class = hold_tx_class(replay,
										memory_deliverable(&txn, &replay->canonical,
														   &plans_offset));
		row_make(&replay->maker, &source);
		tuple = heap_form_tuple(funcctx->tuple_desc, replay->maker.values,
								replay->maker.nulls);
		SRF_RETURN_NEXT(funcctx, HeapTupleGetDatum(tuple));
	}
	SRF_RETURN_DONE(funcctx);
}
