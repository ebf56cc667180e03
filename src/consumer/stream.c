/*
 * stream.c
 *	  A consumer's stream: the live queues, spliced with the log where they
 *	  lack something.
 *
 * When the consumer notices a hole, the log is walked from the first epoch
 * that a subscription lacks to the last one applied, once for all of them.
 * The walk may take several calls; the queues have to wait meanwhile.  What
 * they hold then of the epochs walked is passed over by its keys.
 */
#include "compat.h"

#include "consumer/cursor.h"
#include "consumer/holding.h"
#include "consumer/owned.h"
#include "consumer/positions.h"
#include "consumer/receiving.h"
#include "consumer/state.h"
#include "consumer/stream.h"
#include "log/batches.h"
#include "log/cursors.h"
#include "log/needs.h"
#include "log/table.h"
#include "shared/database.h"

/* The walk of one consumer, in the consumer's memory. */
typedef struct Filler
{
	BatchWalk  *walk;
	bool		walking;
	uint32		rewinds; /* of the consumer when the walk began */
	uint64		to_epoch;
	WireTxn		txn;	 /* whose participants are being looked at */
	int			participant;
} Filler;

static Filler *
get_filler(Consumer *consumer)
{
	MemoryContext old;
	Filler	   *filler;

	if (consumer->filler != NULL)
		return consumer->filler;
	old = MemoryContextSwitchTo(consumer->context);
	filler = palloc0(sizeof(Filler));
	filler->walk = batch_walk_create(consumer->name);
	MemoryContextSwitchTo(old);
	consumer->filler = filler;
	return filler;
}

static bool
start_walk(Consumer *consumer, Filler *filler)
{
	uint64		from_epoch;

	if (!receiving_hole(consumer, &from_epoch, &filler->to_epoch))
		return false;
	batch_walk_bind(filler->walk, consumer->log);
	batch_walk_start(filler->walk, from_epoch, filler->to_epoch);
	filler->walking = true;
	filler->rewinds = consumer->rewinds;
	filler->txn.vshard_count = 0;
	filler->participant = 0;
	return true;
}

static void
end_walk(Filler *filler)
{
	batch_walk_stop(filler->walk);
	filler->walking = false;
}

/* The next transaction of the walk, or false at its end. */
static bool
walk_next(Consumer *consumer, Filler *filler, Delivery *delivery)
{
	for (;;)
	{
		while (filler->participant < filler->txn.vshard_count)
		{
			uint16		vshard = filler->txn.vshards[filler->participant++];

			if (receiving_takes(consumer, vshard,
							   batch_walk_entry(filler->walk)->epoch,
							   filler->txn.position))
			{
				batch_walk_deliver(filler->walk, &filler->txn, vshard, delivery);
				return true;
			}
		}
		filler->txn.vshard_count = 0;
		filler->participant = 0;
		if (!batch_walk_next(filler->walk, ACCESS_LATEST, &filler->txn))
			return false;
	}
}

static void
from_message(const ReceivedTxn *txn, Delivery *delivery)
{
	const QueueMessage *message = txn->message;
	struct varlena *tx_class = queue_message_tx_class(message);

	delivery->vshard = txn->vshard;
	delivery->epoch = message->epoch;
	delivery->position = message->position;
	delivery->epoch_system_ms = message->epoch_system_ms;
	delivery->tenant_id = message->tenant_id;
	delivery->vshards = message->vshards;
	delivery->vshard_count = message->vshard_count;
	delivery->datum = tx_class;
	delivery->tx_class.data = (const uint8_t *) VARDATA(tx_class);
	delivery->tx_class.len = VARSIZE(tx_class) - VARHDRSZ;
	delivery->plans.data = delivery->tx_class.data + message->plans_offset;
	delivery->plans.len = message->plans_len;
}

/* Take over the stored cursors; their positions too, if they are to count. */
static void
load_cursors(Consumer *consumer)
{
	StreamCursor *cursors = palloc(sizeof(StreamCursor) * WIRE_VSHARDS);
	uint16		vshards[WIRE_VSHARDS];
	int			n = 0;

	for (int i = 0; i < consumer->nstreams; i++)
		if (consumer->streams[i].lossless)
			vshards[n++] = consumer->streams[i].vshard;
	n = cursors_load(consumer->name, n, vshards, cursors);
	cursor_forget(consumer);
	for (int i = 0; i < n; i++)
		cursor_set(consumer, &cursors[i]);
	cursor_all_set(consumer);
	pfree(cursors);
}

bool
stream_next(Consumer *consumer, Delivery *delivery)
{
	Filler	   *filler = get_filler(consumer);

	/* a call of the C interface may be in another subtransaction, or behind a rewind */
	positions_save(consumer);
	if (consumer->rewind_wanted)
		load_cursors(consumer);
	for (;;)
	{
		ReceivedTxn txn;

		if (filler->walking && filler->rewinds != consumer->rewinds)
			end_walk(filler);
		if (filler->walking)
		{
			if (walk_next(consumer, filler, delivery))
				return true;
			receiving_hole_filled(consumer, filler->to_epoch);
			end_walk(filler);
		}
		switch (receiving_next(consumer, &txn))
		{
			case RECEIVE_TXN:
				from_message(&txn, delivery);
				return true;
			case RECEIVE_EMPTY:
				return false;
			case RECEIVE_HOLE:
				(void) start_walk(consumer, filler);
				break;
		}
	}
}

void
stream_begin(Consumer *consumer)
{
	consumer_check(consumer);
	log_table_require_same(consumer->log, consumer->name);

	/*
	 * At the start of a transaction the cursors' positions are what its
	 * rollback leads back to; later on it is those before seq_rewind().
	 */
	if (!positions_saved(consumer) && cursor_wanted(consumer))
		load_cursors(consumer);
	positions_save(consumer);
	if (cursor_wanted(consumer))
		load_cursors(consumer);
}

static uint64
first_epoch(int n, const StreamCursor *cursors)
{
	uint64		first = MACHINE_NO_EPOCH;

	for (int i = 0; i < n; i++)
		first = Min(first, cursors[i].next.epoch);
	return first;
}

pg_noreturn static void
report_truncating(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("the log is being truncated past where the cursor stands"),
			 errdetail("Whether it may be is decided before the cursor is stored."),
			 errhint("Roll back, and receive again.")));
}

/* Cursors for which there was nothing in what has gone since begin behind it. */
static void
pass_quiet(Consumer *consumer, int n, StreamCursor *cursors)
{
	for (int i = 0; i < n; i++)
	{
		StreamKey  *next = &cursors[i].next;
		uint64		through;

		if (subscription_quiet(&stream_of(consumer, cursors[i].vshard)->ref,
							   next->epoch, next->position, &through) &&
			next->epoch <= through)
		{
			next->epoch = through + 1;
			next->position = 0;
		}
	}
}

/*
 * What stands in what another session removes just now waits for that.  If the
 * truncation went through, cursors for which there was nothing in it go on
 * behind it, as stored ones do.
 */
static void
settle_cursors(Consumer *consumer, LogNeed *need, int n, StreamCursor *cursors)
{
	for (;;)
	{
		needs_begin(need, database_mine());
		pass_quiet(consumer, n, cursors);
		if (!needs_fenced(need, first_epoch(n, cursors)))
			return;
		if (cursors_stored_here())
			report_truncating();
		needs_wait(need, first_epoch(n, cursors));
		pass_quiet(consumer, n, cursors);
		needs_require(first_epoch(n, cursors), consumer->name);
	}
}

int
stream_commit(Consumer *consumer)
{
	StreamCursor *cursors = palloc(sizeof(StreamCursor) * WIRE_VSHARDS);
	LogNeed		need;
	int			n;

	stream_begin(consumer);
	holding_refuse_taken_back(consumer->name);
	if (consumer->loss == LOSS_NONE && consumer->gave_up)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("cannot commit the position of \"%s\": a subscription was given up after a receive in this transaction",
						consumer->name),
				 errdetail("What was received through it will come again."),
				 errhint("Subscribe anew in a transaction of its own.")));
	n = cursor_positions(consumer, cursors);
	owned_check_cursors(consumer->name, n, cursors);
	settle_cursors(consumer, &need, n, cursors);
	if (consumer->loss != LOSS_NONE ||
		!cursors_store(consumer->name, n, cursors))
	{
		/* so it stays to the end of the transaction */
		consumer->loss = LOSS_MOVED;
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("the durable cursor \"%s\" was moved by another session",
						consumer->name),
				 errdetail("What this session received since it last committed was, or will be, processed there."),
				 errhint("Roll back, and receive again.")));
	}
	owned_check_positions(consumer->name, n, cursors);
	/* a truncation that began meanwhile may not have seen it */
	if (n > 0 && !needs_settled(&need, first_epoch(n, cursors)))
	{
		if (needs_fenced(&need, first_epoch(n, cursors)))
			report_truncating();
		needs_require(first_epoch(n, cursors), consumer->name);
	}
	/* nobody can drop what the cursors are in any more */
	log_table_require_same(consumer->log, consumer->name);
	cursor_stored(consumer, n, cursors);
	consumer->stores |= n > 0;
	pfree(cursors);
	return n;
}

bool
stream_position(Consumer *consumer, uint16 vshard, StreamKey *next)
{
	const Stream *stream = stream_of(consumer, vshard);

	if (stream == NULL)
		return false;
	*next = stream->next;
	return true;
}

void
stream_rewind(Consumer *consumer)
{
	stream_begin(consumer);
	positions_rewind(consumer);
}
