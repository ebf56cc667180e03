/*
 * start.c
 *	  Where streams begin: at a key, at their durable cursors, or with what is not
 *	  in the log yet.
 */
#include "compat.h"

#include "consumer/cursor.h"
#include "consumer/positions.h"
#include "consumer/start.h"
#include "consumer/state.h"
#include "log/append.h"
#include "log/base.h"
#include "log/cursors.h"
#include "log/reader.h"
#include "log/snapshots.h"

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
	int			ncursors = cursors_load(consumer->name, n, vshards, cursors);
	uint64		first = none;

	for (int i = 0; i < ncursors; i++)
		stored[cursors[i].vshard] = &cursors[i];
	for (int i = 0; i < n; i++)
	{
		StreamCursor start = {vshards[i], {0, 0}, 0, 0};

		if (stored[vshards[i]] != NULL)
			start = *stored[vshards[i]];
		if (from != NULL)
		{
			start.next = *from;
			cursor_override(consumer, &start);
		}
		else if (start.version > 0)
			cursor_set(consumer, &start);
		else
			continue;
		first = Min(first, start.next.epoch);
	}
	pfree(cursors);
	return first;
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

	if (from != NULL)
		first = from->epoch;
	else
	{
		StreamCursor *cursors = palloc(sizeof(StreamCursor) * WIRE_VSHARDS);
		int			ncursors = cursors_load(name, n, vshards, cursors);

		for (int c = 0; c < ncursors; c++)
			first = Min(first, cursors[c].next.epoch);
		pfree(cursors);
	}
	log_access_begin(&access, ACCESS_SNAPSHOTS, ACCESS_LATEST);
	base_require_epoch(&access, first, name);
	log_access_end(&access);
}

/*
 * What subscriptions begin with: the first key they want, and the highest
 * epoch of which nothing will come on the queues, -1 if there is none.
 */
static void
start_at(Consumer *consumer, int n, const uint16 *vshards, StreamKey key,
		 int64 behind_epoch)
{
	for (int i = 0; i < n; i++)
	{
		Stream	   *stream = stream_of(consumer, vshards[i]);

		stream->next = key;
		stream->moved = true;
		if (stream->lossless)
			stream->log_until.epoch = (uint64) (behind_epoch + 1);
	}
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
	start_at(consumer, n, vshards, key, before);
	if (lossless)
	{
		uint64		first = start_at_cursors(consumer, n, vshards, from, key.epoch);

		if (first < key.epoch)
			base_require_epoch(&access, first, consumer->name);
	}
	if (lossless)
		positions_enter(consumer, n, vshards, from != NULL);
	consumer_report(consumer);
	log_access_end(&access);
}

void
start_streams(DatabaseSlot *database, const char *name, int n,
				 const uint16 *vshards, Size ring_size, bool lossless,
				 const StreamKey *from)
{
	uint64		start;
	Oid			log = log_table_require()->log;
	uint64		log_end = (uint64) append_committed_end();
	Consumer   *consumer;

	positions_init();
	if (lossless)
		require_start(name, n, vshards, from);
	consumer = consumer_subscribe(database, log, name, n, vshards, ring_size,
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
