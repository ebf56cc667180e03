/*
 * start.c
 *	  Where streams begin: at a key, at their durable cursors, or with what is not
 *	  in the log yet.
 */
#include "compat.h"

#include "consumer/cursor.h"
#include "consumer/owned.h"
#include "consumer/positions.h"
#include "consumer/start.h"
#include "consumer/state.h"
#include "log/append.h"
#include "log/cursors.h"
#include "log/hint.h"
#include "log/needs.h"
#include "log/reader.h"
#include "log/snapshots.h"
#include "shared/pause.h"

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
		StreamCursor start = {vshards[i], {0, 0}, 0, 0, 0};

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

/* The first epoch that subscriptions would want of the log. */
static uint64
wanted_epoch(const char *name, int n, const uint16 *vshards,
			 const StreamKey *from)
{
	StreamCursor *cursors;
	int			ncursors;
	uint64		first = MACHINE_NO_EPOCH;

	if (from != NULL)
		return from->epoch;
	cursors = palloc(sizeof(StreamCursor) * n);
	ncursors = cursors_load(name, n, vshards, cursors);
	for (int c = 0; c < ncursors; c++)
		first = Min(first, cursors[c].next.epoch);
	pfree(cursors);
	return first;
}

/* A cursor that is ahead of the log was stored for another one. */
static void
require_cursors_in_log(const char *name, int n, const uint16 *vshards)
{
	StreamCursor *cursors = palloc(sizeof(StreamCursor) * n);
	int			ncursors = cursors_load(name, n, vshards, cursors);
	LogAccess	access;
	MachineState base;
	int64		end;

	log_access_begin(&access, ACCESS_SNAPSHOTS, ACCESS_LATEST);
	end = log_last_epoch(&access);
	if (end < 0 && snapshots_base(&access, &base))
		end = (int64) base.last_applied_epoch;
	log_access_end(&access);
	for (int i = 0; i < ncursors; i++)
		if (cursors[i].next.epoch > (uint64) (end + 1))
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("the durable cursor \"%s\" of vshard %u is beyond the end of the log",
							name, cursors[i].vshard),
					 errdetail("It waits for epoch " UINT64_FORMAT "; the next epoch of the log is " INT64_FORMAT ".",
							   cursors[i].next.epoch, end + 1),
					 errhint_for_role("It may be that of another log. Subscribe with from_epoch to start elsewhere, or use seq_drop_cursor().")));
	pfree(cursors);
}

/*
 * What cannot be had must not cost the subscriptions that it would replace,
 * this session's or another one's.  A truncation under way decides about it.
 */
static void
require_start(DatabaseSlot *database, const char *name, int n,
			  const uint16 *vshards, const StreamKey *from)
{
	LogNeed		need;
	uint64		first;

	needs_begin(&need, database);
	first = wanted_epoch(name, n, vshards, from);
	while (needs_fenced(&need, first))
	{
		needs_wait(&need, first);
		first = wanted_epoch(name, n, vshards, from);
	}
	needs_require(first, name);
	if (from == NULL)
		require_cursors_in_log(name, n, vshards);
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

/* Begin with what is not in the log yet; returns that epoch. */
static uint64
start_at_end(Consumer *consumer, int n, const uint16 *vshards, uint64 start)
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
	log_access_end(&access);
	key.epoch = (uint64) (before + 1);
	key.position = 0;
	start_at(consumer, n, vshards, key, before);
	return key.epoch;
}

/*
 * Go back, or ahead, to the cursors or to "from".  A truncation looks at the
 * floors when they are published: one that looked before that has decided
 * without these.  Then its end is waited for, and what is left of the log is
 * looked at anew; cursors it has moved along are read again.
 */
static void
start_in_log(Consumer *consumer, int n, const uint16 *vshards, LogNeed *need,
			 uint64 end, const StreamKey *from)
{
	bool		again = false;

	for (;;)
	{
		uint64		first = start_at_cursors(consumer, n, vshards, from, end);

		if (from != NULL)
			first = from->epoch;
		PAUSE_POINT("start: before the base is looked at");
		if (first < end || again)
			needs_require(first, consumer->name);
		positions_enter(consumer, n, vshards, from != NULL);
		PAUSE_POINT("start: before the floors are told");
		consumer_report(consumer);
		if (needs_settled(need, first))
			return;
		needs_wait(need, first);
		needs_begin(need, need->database);
		again = true;
	}
}

static void
start_consumer(Consumer *consumer, int n, const uint16 *vshards,
			   DatabaseSlot *database, uint64 start, bool lossless,
			   const StreamKey *from)
{
	LogNeed		need;
	uint64		end;

	needs_begin(&need, database);
	end = start_at_end(consumer, n, vshards, start);
	if (lossless)
		start_in_log(consumer, n, vshards, &need, end, from);
	else
		consumer_report(consumer);
}

/* Subscriptions to a log that is gone have nothing in common with new ones. */
static void
forget_other_log(const char *name, Oid log)
{
	Consumer   *consumer = consumer_find(name);

	if (consumer != NULL && consumer->log != log)
		(void) consumer_unsubscribe(consumer, 0, NULL);
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
	owned_check_start(name, n, vshards, from);
	if (lossless)
		require_start(database, name, n, vshards, from);
	forget_other_log(name, log);
	consumer = consumer_subscribe(database, log, name, n, vshards, ring_size,
								  lossless, log_end, &start);
	consumer->log = log;
	PG_TRY();
	{
		start_consumer(consumer, n, vshards, database, start, lossless, from);
	}
	PG_CATCH();
	{
		(void) consumer_unsubscribe(consumer, n, vshards);
		PG_RE_THROW();
	}
	PG_END_TRY();
}
