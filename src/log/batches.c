/*
 * batches.c
 *	  Walking the transactions of a range of epochs in the log.
 */
#include "compat.h"

#include "log/base.h"
#include "log/batches.h"
#include "log/memory.h"
#include "log/reader.h"
#include "miscadmin.h"
#include "utils/memutils.h"

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
	TimestampTz appended_at;
	const uint8 *data;
	uint32		len;
	void	   *memory;
} BlockEntry;

struct BatchWalk
{
	const char *consumer; /* that it is for, or NULL */
	bool		group;	  /* or for a group, which is told of what it lacks */
	bool		lacks;	  /* epochs that it was to begin with are not there */
	bool		keeps;	  /* entries behind the present one stay */
	Oid			log;	  /* the only one it reads, unless InvalidOid */
	uint64		next_epoch; /* to be fetched next */
	uint64		to_epoch;
	bool		exhausted;	/* the log has nothing more in the range */
	int			nread;		/* by read_block(), not to be handed out yet */
	int			nentries;	/* of the block */
	int			entry;		/* the one that is walked, or nentries */
	bool		open;		/* the decoder is on it */
	int			decoded;	/* the one that the decoder has, or -1 */
	Oid			kept_of;	/* seq_log that the block is of */
	uint64		block_from; /* of this epoch on the block has all there is */
	BlockEntry	block[BLOCK_ENTRIES];
	MemoryContext block_context;
	WireDecoder decoder;
	WireBuffer	canonical;
};

BatchWalk *
batch_walk_create(const char *consumer)
{
	BatchWalk  *walk = palloc0(sizeof(BatchWalk));

	walk->consumer = consumer;
	walk->exhausted = true;
	walk->block_context = AllocSetContextCreate(CurrentMemoryContext,
												"calvin_seq batches",
												ALLOCSET_DEFAULT_SIZES);
	wire_decoder_init(&walk->decoder,
					  palloc(sizeof(WireTxn) * STAGED_TXNS), STAGED_TXNS,
					  palloc(sizeof(uint16) * STAGED_VSHARDS), STAGED_VSHARDS);
	wire_buffer_init(&walk->canonical, memory_realloc, CurrentMemoryContext);
	return walk;
}

void
batch_walk_bind(BatchWalk *walk, Oid log)
{
	walk->log = log;
}

void
batch_walk_for_group(BatchWalk *walk)
{
	walk->group = true;
}

bool
batch_walk_lacks(BatchWalk *walk)
{
	bool		lacks = walk->lacks;

	walk->lacks = false;
	return lacks;
}

void
batch_walk_keep(BatchWalk *walk)
{
	walk->keeps = true;
}

Size
batch_walk_kept(const BatchWalk *walk)
{
	Size		bytes = 0;

	for (int i = 0; i < walk->nentries; i++)
		bytes += walk->block[i].len;
	return bytes;
}

void
batch_walk_seek(BatchWalk *walk, uint64 from_epoch, uint64 to_epoch)
{
	int			n = walk->nentries;

	if (n == 0 || from_epoch < walk->block_from ||
		from_epoch > walk->block[n - 1].epoch ||
		to_epoch < walk->block[n - 1].epoch)
	{
		batch_walk_start(walk, from_epoch, to_epoch);
		return;
	}
	walk->entry = 0;
	while (walk->block[walk->entry].epoch < from_epoch)
		walk->entry++;
	walk->open = false;
	walk->lacks = false;
	walk->next_epoch = walk->block[n - 1].epoch + 1;
	walk->to_epoch = Min(to_epoch, WIRE_MAX_EPOCH);
	walk->exhausted = walk->next_epoch > walk->to_epoch;
}

void
batch_walk_set_log(BatchWalk *walk, Oid log)
{
	if (walk->kept_of != log)
		batch_walk_stop(walk);
	walk->kept_of = log;
}

void
batch_walk_start(BatchWalk *walk, uint64 from_epoch, uint64 to_epoch)
{
	batch_walk_stop(walk);
	walk->next_epoch = from_epoch;
	walk->to_epoch = Min(to_epoch, WIRE_MAX_EPOCH);
	walk->exhausted = from_epoch > walk->to_epoch;
}

void
batch_walk_stop(BatchWalk *walk)
{
	walk->nentries = 0;
	walk->entry = 0;
	walk->open = false;
	walk->decoded = -1;
	walk->lacks = false;
	walk->exhausted = true;
	MemoryContextReset(walk->block_context);
	wire_buffer_free(&walk->canonical);
}

/* Read a block; returns whether it begins with the epoch that is to come. */
static bool
read_block(BatchWalk *walk, const LogAccess *access)
{
	LogReader	reader;
	LogRow		row;
	Size		bytes = 0;
	int			n = 0;
	bool		more = false;
	MemoryContext old;

	/* an error on the way leaves an empty block, to be fetched again */
	walk->nentries = 0;
	walk->entry = 0;
	walk->decoded = -1;
	walk->block_from = walk->next_epoch;
	MemoryContextReset(walk->block_context);

	old = MemoryContextSwitchTo(walk->block_context);
	log_reader_begin_by_epoch(&reader, access, (int64) walk->next_epoch,
							  (int64) walk->to_epoch);
	while (!more && log_reader_next(&reader, &row))
	{
		BlockEntry *entry = &walk->block[n++];

		CHECK_FOR_INTERRUPTS();
		entry->log_index = row.log_index;
		entry->epoch = row.epoch;
		entry->appended_at = row.appended_at;
		entry->data = log_reader_take_entry(&reader, &row, &entry->memory);
		entry->len = row.entry_len;
		bytes += row.entry_len;
		more = n == BLOCK_ENTRIES || bytes >= BLOCK_BYTES;
	}
	log_reader_end(&reader);
	MemoryContextSwitchTo(old);
	walk->nread = n;
	walk->exhausted = !more;
	return n > 0 && walk->block[0].epoch == walk->next_epoch;
}

static void
fetch_block(BatchWalk *walk, AccessSnapshot kind)
{
	LogAccess	access;
	int			n;

	log_access_begin(&access, 0, kind);
	if (OidIsValid(walk->log))
		log_table_require_same(walk->log, walk->consumer);
	if (!read_block(walk, &access))
	{
		/*
		 * What is missing at the beginning is a gap of epochs, or was
		 * truncated.  The base tells, seen together with what is there.
		 */
		log_access_end(&access);
		log_access_begin(&access, ACCESS_SNAPSHOTS, kind);
		if (!read_block(walk, &access))
		{
			if (!walk->group)
				base_require_epoch(&access, walk->next_epoch, walk->consumer);
			walk->lacks = true;
		}
	}
	log_access_end(&access);

	n = walk->nread;
	walk->nentries = n;
	if (n > 0)
	{
		walk->next_epoch = walk->block[n - 1].epoch + 1;
		walk->exhausted |= walk->next_epoch > walk->to_epoch;
	}
}

static void
open_entry(BatchWalk *walk)
{
	const BlockEntry *entry = &walk->block[walk->entry];
	WireDecoder *decoder = &walk->decoder;

	if (walk->decoded == walk->entry)
	{
		wire_rewind(decoder);
		walk->open = true;
		return;
	}
	walk->decoded = -1;
	/* the row says it is a batch of that epoch: it was checked when inserted */
	if (!wire_decode(decoder, entry->data, entry->len) ||
		decoder->entry.kind != WIRE_EPOCH_BATCH ||
		decoder->entry.epoch != entry->epoch)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("the entry at log_index " UINT64_FORMAT " is not the batch of epoch " UINT64_FORMAT " that its row says",
						entry->log_index, entry->epoch)));
	walk->decoded = walk->entry;
	walk->open = true;
}

bool
batch_walk_next(BatchWalk *walk, AccessSnapshot kind, WireTxn *txn)
{
	for (;;)
	{
		if (walk->entry == walk->nentries)
		{
			if (walk->exhausted)
				return false;
			fetch_block(walk, kind);
			continue;
		}
		if (!walk->open)
			open_entry(walk);
		if (wire_next_txn(&walk->decoder, txn))
			return true;

		CHECK_FOR_INTERRUPTS();
		walk->open = false;
		if (!walk->keeps)
			pfree(walk->block[walk->entry].memory);
		walk->entry++;
	}
}

const WireEntry *
batch_walk_entry(const BatchWalk *walk)
{
	return &walk->decoder.entry;
}

TimestampTz
batch_walk_appended_at(const BatchWalk *walk)
{
	return walk->block[walk->entry].appended_at;
}

void
batch_walk_deliver(BatchWalk *walk, const WireTxn *txn, uint16 vshard,
				   Delivery *delivery)
{
	uint32		plans_offset;

	delivery->vshard = vshard;
	delivery->epoch = walk->decoder.entry.epoch;
	delivery->position = txn->position;
	delivery->epoch_system_ms = walk->decoder.entry.epoch_system_ms;
	delivery->tenant_id = txn->tenant_id;
	delivery->vshards = txn->vshards;
	delivery->vshard_count = txn->vshard_count;
	delivery->plans = txn->plans;
	delivery->tx_class = memory_deliverable(txn, &walk->canonical, &plans_offset);
	delivery->datum = NULL;
}
