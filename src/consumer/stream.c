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

#include "log/append.h"
#include "log/base.h"
#include "log/batches.h"
#include "log/cursors.h"
#include "log/reader.h"
#include "log/snapshots.h"
#include "consumer/stream.h"
#include "utils/memutils.h"

/* The walk of one consumer, in its own memory context. */
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
	Filler	   *filler = consumer_attachment(consumer);
	MemoryContext context;
	MemoryContext old;

	if (filler != NULL)
		return filler;
	context = AllocSetContextCreate(CurrentMemoryContext, "calvin_seq stream",
									ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(context);
	filler = palloc0(sizeof(Filler));
	filler->walk = batch_walk_create(consumer_name(consumer));
	MemoryContextSwitchTo(old);
	consumer_attach(consumer, context, filler);
	return filler;
}

static bool
start_walk(Consumer *consumer, Filler *filler)
{
	uint64		from_epoch;

	if (!consumer_hole(consumer, &from_epoch, &filler->to_epoch))
		return false;
	batch_walk_start(filler->walk, from_epoch, filler->to_epoch);
	filler->walking = true;
	filler->rewinds = consumer_rewinds(consumer);
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

			if (consumer_takes(consumer, vshard,
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
from_message(const ConsumerTxn *txn, Delivery *delivery)
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

bool
stream_next(Consumer *consumer, Delivery *delivery)
{
	Filler	   *filler = get_filler(consumer);

	for (;;)
	{
		ConsumerTxn txn;

		if (filler->walking && filler->rewinds != consumer_rewinds(consumer))
			end_walk(filler);
		if (filler->walking)
		{
			if (walk_next(consumer, filler, delivery))
				return true;
			consumer_hole_filled(consumer, filler->to_epoch);
			end_walk(filler);
		}
		switch (consumer_next(consumer, &txn))
		{
			case CONSUMER_TXN:
				from_message(&txn, delivery);
				return true;
			case CONSUMER_EMPTY:
				return false;
			case CONSUMER_HOLE:
				(void) start_walk(consumer, filler);
				break;
		}
	}
}

/* Take over the stored cursors; their positions too, if they are to count. */
static void
load_cursors(Consumer *consumer)
{
	StreamCursor *cursors = palloc(sizeof(StreamCursor) * WIRE_VSHARDS);
	int			n = cursors_load(consumer_name(consumer), cursors);

	consumer_forget_cursors(consumer);
	for (int i = 0; i < n; i++)
		consumer_set_cursor(consumer, &cursors[i]);
	consumer_cursors_loaded(consumer);
	pfree(cursors);
}

void
stream_begin(Consumer *consumer)
{
	consumer_check(consumer);

	/*
	 * At the start of a transaction the cursors' positions are what its
	 * rollback leads back to; later on it is those before seq_rewind().
	 */
	if (!consumer_positions_saved(consumer) && consumer_wants_cursors(consumer))
		load_cursors(consumer);
	consumer_save_positions(consumer);
	if (consumer_wants_cursors(consumer))
		load_cursors(consumer);
}

/*
 * The cursors of just these vshards; "from" goes before their positions.
 * Returns the first epoch that one of them wants of the log, or "none".
 */
static uint64
start_at_cursors(Consumer *consumer, int n, const uint16 *vshards,
				 const StreamKey *from, uint64 none)
{
	StreamCursor *cursors = palloc(sizeof(StreamCursor) * WIRE_VSHARDS);
	StreamCursor *stored[WIRE_VSHARDS] = {NULL};
	int			ncursors = cursors_load(consumer_name(consumer), cursors);
	uint64		first = none;

	for (int i = 0; i < ncursors; i++)
		stored[cursors[i].vshard] = &cursors[i];
	for (int i = 0; i < n; i++)
	{
		StreamCursor start = {vshards[i], {0, 0}, 0};

		if (stored[vshards[i]] != NULL)
			start = *stored[vshards[i]];
		if (from != NULL)
		{
			start.next = *from;
			consumer_override_cursor(consumer, &start);
		}
		else if (start.version > 0)
			consumer_set_cursor(consumer, &start);
		else
			continue;
		first = Min(first, start.next.epoch);
	}
	pfree(cursors);
	return first;
}

/* A cursor that is ahead of the log was stored for another one. */
static void
require_cursor_in_log(const LogAccess *access, const char *name,
					  const StreamCursor *furthest)
{
	int64		end = log_last_epoch(access);
	MachineState base;

	if (end < 0 && snapshots_base(access, &base))
		end = (int64) base.last_applied_epoch;
	if ((int64) furthest->next.epoch <= end + 1)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("the durable cursor \"%s\" of vshard %u is beyond the end of the log",
					name, furthest->vshard),
			 errdetail("It waits for epoch " UINT64_FORMAT "; the next epoch of the log is " INT64_FORMAT ".",
					   furthest->next.epoch, end + 1),
			 errhint("It may be that of another log. Subscribe with from_epoch to start elsewhere, or use seq_drop_cursor().")));
}

/*
 * What cannot be had must not cost the subscriptions that it would replace,
 * this session's or another one's.
 */
static void
require_start(const char *name, int n, const uint16 *vshards,
			  const StreamKey *from)
{
	LogAccess	access;
	uint64		first = MACHINE_NO_EPOCH;
	StreamCursor furthest = {0, {0, 0}, 0};

	if (from != NULL)
		first = from->epoch;
	else
	{
		StreamCursor *cursors = palloc(sizeof(StreamCursor) * WIRE_VSHARDS);
		int			ncursors = cursors_load(name, cursors);

		for (int c = 0; c < ncursors; c++)
			for (int i = 0; i < n; i++)
			{
				if (cursors[c].vshard != vshards[i])
					continue;
				first = Min(first, cursors[c].next.epoch);
				if (cursors[c].next.epoch >= furthest.next.epoch)
					furthest = cursors[c];
			}
		pfree(cursors);
	}
	log_access_begin(&access, ACCESS_SNAPSHOTS, ACCESS_LATEST);
	base_require_epoch(&access, first, name);
	require_cursor_in_log(&access, name, &furthest);
	log_access_end(&access);
}

/* Begin at the cursors, at "from", or with what is not in the log yet. */
static void
start_consumer(Consumer *consumer, int n, const uint16 *vshards, uint64 start,
			   bool lossless, const StreamKey *from)
{
	LogAccess	access;
	int64		before;
	MachineState base;
	StreamKey	key;

	log_access_begin(&access, ACCESS_SNAPSHOTS, ACCESS_LATEST);
	before = log_epoch_before(&access, (int64) start + 1);
	/* a log that is being restored may have its base, and no batches yet */
	if (before < 0 && snapshots_base(&access, &base))
		before = (int64) base.last_applied_epoch;
	key.epoch = (uint64) (before + 1);
	key.position = 0;
	consumer_start_at(consumer, n, vshards, key, before);
	if (lossless)
	{
		uint64		first = start_at_cursors(consumer, n, vshards, from, key.epoch);

		if (first < key.epoch)
			base_require_epoch(&access, first, consumer_name(consumer));
	}
	/* before the floors: who sees those has to know what it reads of the log */
	consumer_report(consumer);
	if (lossless)
		consumer_enter_positions(consumer, n, vshards, from != NULL);
	log_access_end(&access);
}

void
stream_subscribe(DatabaseSlot *database, const char *name, int n,
				 const uint16 *vshards, Size ring_size, bool lossless,
				 const StreamKey *from)
{
	uint64		start;
	uint64		log_end = (uint64) append_committed_end();
	Consumer   *consumer;

	if (lossless)
		require_start(name, n, vshards, from);
	consumer = consumer_subscribe(database, name, n, vshards, ring_size,
								  lossless, log_end, &start);
	PG_TRY();
	{
		start_consumer(consumer, n, vshards, start, lossless, from);
	}
	PG_CATCH();
	{
		(void) consumer_unsubscribe(consumer, n, vshards);
		PG_RE_THROW();
	}
	PG_END_TRY();
}

int
stream_commit(Consumer *consumer)
{
	StreamCursor *cursors = palloc(sizeof(StreamCursor) * WIRE_VSHARDS);
	int			n;

	stream_begin(consumer);
	n = consumer_get_cursors(consumer, cursors);
	if (consumer_has_lost(consumer) ||
		!cursors_store(consumer_name(consumer), n, cursors))
	{
		consumer_cursors_lost(consumer);
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("the durable cursor \"%s\" was moved by another session",
						consumer_name(consumer)),
				 errdetail("What this session received since it last committed was, or will be, processed there."),
				 errhint("Roll back, and receive again.")));
	}
	consumer_cursors_stored(consumer, n, cursors);
	pfree(cursors);
	return n;
}

void
stream_rewind(Consumer *consumer)
{
	stream_begin(consumer);
	consumer_rewind(consumer);
}
