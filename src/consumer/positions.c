/*
 * positions.c
 *	  Positions and transactions: what a rollback brings back.
 *
 * The first receive in each (sub)transaction saves where every lossless stream
 * of the consumer stands; streams subscribed later in it are entered with
 * their start.  Rolling back restores the positions, and what has been taken
 * off the queues since then comes from the log.
 *
 * After a top-level abort the stored cursors are read again, at the start of the
 * next transaction, because what was received in earlier ones without
 * seq_commit() must come again too.
 */
#include "compat.h"

#include "consumer/holding.h"
#include "consumer/positions.h"
#include "consumer/state.h"
#include "utils/memutils.h"

static void
fill_in(SavedPosition *position, const Stream *stream)
{
	position->vshard = stream->vshard;
	position->generation = stream->ref.generation;
	position->next = stream->next;
	position->cursor_version = stream->cursor_version;
	position->cursor_incarnation = stream->cursor_incarnation;
	position->cursor_stored_by = stream->cursor_stored_by;
	position->cursor = stream->cursor;
	position->overrides = stream->overrides;
	position->received = stream->received;
	position->pending = stream->pending;
	position->cursorless = stream->cursor_version == 0;
	position->given_up = false;
}

/* The first key that a rollback, or seq_rewind(), could lead back to. */
static StreamKey
floor_of(const Consumer *consumer, const Stream *stream)
{
	StreamKey	key = stream->next;

	if (stream->cursor_version > 0 && key_less(stream->cursor, key))
		key = stream->cursor;
	if (stream->prepared && key_less(stream->before_prepared, key))
		key = stream->before_prepared;
	for (SavedPositions *saved = consumer->saved; saved != NULL; saved = saved->outer)
		for (int i = 0; i < saved->n; i++)
		{
			const SavedPosition *position = &saved->positions[i];

			if (position->vshard == stream->vshard &&
				position->generation == stream->ref.generation &&
				key_less(position->next, key))
				key = position->next;
		}
	return key;
}

static void
set_floor(const Consumer *consumer, Stream *stream)
{
	StreamKey	floor = floor_of(consumer, stream);

	if (!stream->lossless || key_equal(floor, stream->floor))
		return;
	stream->floor = floor;
	stream->moved = true;
}

/* A place for one more position, or for another one of the same vshard. */
static SavedPosition *
place_for(SavedPositions *saved, uint16 vshard, bool *found)
{
	*found = true;
	for (int i = 0; i < saved->n; i++)
		if (saved->positions[i].vshard == vshard)
			return &saved->positions[i];
	*found = false;
	if (saved->n == saved->size)
	{
		saved->positions = repalloc(saved->positions,
									sizeof(SavedPosition) * saved->size * 2);
		saved->size *= 2;
	}
	return &saved->positions[saved->n++];
}

void
positions_save(Consumer *consumer)
{
	SubTransactionId subid = GetCurrentSubTransactionId();
	SavedPositions *saved = consumer->saved;

	if (saved != NULL && saved->subid == subid)
		return;
	saved = MemoryContextAllocZero(consumer->context, sizeof(SavedPositions));
	saved->size = Max(consumer->nstreams, 1);
	saved->positions = MemoryContextAlloc(consumer->context,
										  sizeof(SavedPosition) * saved->size);
	saved->outer = consumer->saved;
	saved->subid = subid;
	saved->rewind_wanted = consumer->rewind_wanted;
	saved->gave_up = consumer->gave_up;
	saved->stores = consumer->stores;
	for (int i = 0; i < consumer->nstreams; i++)
		if (consumer->streams[i].lossless)
			fill_in(&saved->positions[saved->n++], &consumer->streams[i]);
	consumer->saved = saved;
}

bool
positions_saved(const Consumer *consumer)
{
	return consumer->saved != NULL;
}

void
positions_enter(Consumer *consumer, int n, const uint16 *vshards, bool chosen)
{
	for (SavedPositions *saved = consumer->saved; saved != NULL; saved = saved->outer)
		for (int i = 0; i < n; i++)
		{
			bool		found;
			SavedPosition *position = place_for(saved, vshards[i], &found);
			StreamKey	before = position->next;
			bool		cursorless = position->cursorless;
			bool		given_up = found && (position->given_up || position->pending);

			fill_in(position, stream_of(consumer, vshards[i]));
			if (found)
				position->cursorless = cursorless;
			position->given_up = given_up;

			/*
			 * It goes on where the stream before it stood; if that is rolled
			 * back, so is this start, unless the user chose it.
			 */
			if (found && !chosen && key_less(before, position->next))
				position->next = before;
		}
	for (int i = 0; i < n; i++)
		set_floor(consumer, stream_of(consumer, vshards[i]));
}

static void
forget_innermost(Consumer *consumer)
{
	SavedPositions *saved = consumer->saved;

	consumer->saved = saved->outer;
	pfree(saved->positions);
	pfree(saved);
}

static const SavedPositions *
outermost(const Consumer *consumer)
{
	const SavedPositions *saved = consumer->saved;

	while (saved != NULL && saved->outer != NULL)
		saved = saved->outer;
	return saved;
}

/* With what was known of the cursors then, or just the positions. */
static void
restore_positions(Consumer *consumer, const SavedPositions *saved, bool cursors)
{
	for (int i = 0; i < saved->n; i++)
	{
		const SavedPosition *position = &saved->positions[i];
		Stream	   *stream = stream_of(consumer, position->vshard);

		/* subscribed anew since: then it is another stream */
		if (stream == NULL || stream->ref.generation != position->generation)
			continue;
		stream_go_back(stream, position->next);
		stream->received = position->received;
		stream->pending = position->pending;
		if (!cursors)
			continue;
		stream->cursor_version = position->cursor_version;
		stream->cursor_incarnation = position->cursor_incarnation;
		stream->cursor_stored_by = position->cursor_stored_by;
		stream->cursor = position->cursor;
		stream->overrides = position->overrides;
	}
	consumer->rewinds++;
}

/* Has something that was pending then been given up since? */
static bool
gave_up_before(const Consumer *consumer, const SavedPositions *saved)
{
	for (int i = 0; i < saved->n; i++)
	{
		const SavedPosition *position = &saved->positions[i];
		const Stream *stream = stream_of(unconstify(Consumer *, consumer), position->vshard);

		if (position->given_up ||
			(position->pending &&
			 (stream == NULL || stream->ref.generation != position->generation)))
			return true;
	}
	return false;
}

static void
restore_innermost(Consumer *consumer)
{
	restore_positions(consumer, consumer->saved, true);
	consumer->rewind_wanted = consumer->saved->rewind_wanted;
	consumer->gave_up = consumer->saved->gave_up || gave_up_before(consumer, consumer->saved);
	consumer->stores = consumer->saved->stores;
	forget_innermost(consumer);
}

void
positions_rewind(Consumer *consumer)
{
	const SavedPositions *saved = outermost(consumer);

	if (saved != NULL)
		/* what this transaction itself has stored is what is gone back to */
		restore_positions(consumer, saved, !consumer->stores);
	consumer->rewind_wanted = true;
	holding_rewound(consumer->name);
}

static bool
has_cursor(const Consumer *consumer)
{
	for (int i = 0; i < consumer->nstreams; i++)
		if (consumer->streams[i].cursor_version > 0)
			return true;
	return false;
}

/*
 * Where a cursor failed with rows left, the receives of a transaction that is
 * committed, without having stored a cursor, are taken back as well.
 */
static void
end_transaction(Consumer *consumer, bool rolled_back)
{
	bool		called = consumer->saved != NULL;
	bool		aborted = rolled_back || holding_failed(consumer->name);

	if (!rolled_back)
		holding_committed(consumer->name, consumer->stores);

	/* of nested ones, the outermost has the oldest positions */
	while (aborted && consumer->saved != NULL)
		restore_innermost(consumer);
	while (consumer->saved != NULL)
		forget_innermost(consumer);

	for (int i = 0; i < consumer->nstreams; i++)
	{
		consumer->streams[i].pending = false;
		/* another session went on from there: the user's choice is outdated */
		if (consumer->loss == LOSS_MOVED)
			consumer->streams[i].overrides = false;
	}

	/* what was received in earlier ones but not committed comes again */
	if (consumer->loss == LOSS_MOVED || (aborted && has_cursor(consumer)))
		consumer->reload_wanted = true;
	if (rolled_back)
		holding_taken_back(consumer->name);
	consumer->loss = LOSS_NONE;
	consumer->gave_up = false;
	consumer->stores = false;
	if (!called)
		return;
	for (int i = 0; i < consumer->nstreams; i++)
		set_floor(consumer, &consumer->streams[i]);
	consumer_report(consumer);
}

/*
 * What was received but not committed has to come again if the prepared
 * transaction is rolled back, and nobody will tell us then; not of what has been
 * subscribed anew or given up since, either.
 */
static void
refuse_prepare(const Consumer *consumer)
{
	const SavedPositions *saved = outermost(consumer);
	bool		pending = consumer->gave_up;

	for (int i = 0; i < consumer->nstreams; i++)
		pending |= consumer->streams[i].lossless && consumer->streams[i].pending;
	/* nor would one that has a first cursor in it, and was given up */
	for (int i = 0; consumer->stores && saved != NULL && i < saved->n; i++)
		pending |= saved->positions[i].cursorless &&
			consumer->by_vshard[saved->positions[i].vshard] < 0;
	if (pending)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot PREPARE a transaction that has received without seq_commit()"),
				 errdetail("If it were rolled back later, subscription \"%s\" would not go back.",
						   consumer->name)));
}

/*
 * If the prepared transaction is rolled back, no cursor tells where a stream
 * stood that had none before.
 */
static void
remember_prepared(Consumer *consumer)
{
	const SavedPositions *saved = outermost(consumer);

	for (int i = 0; saved != NULL && i < saved->n; i++)
	{
		const SavedPosition *before = &saved->positions[i];
		Stream	   *stream = stream_of(consumer, before->vshard);

		if (stream == NULL || stream->ref.generation != before->generation ||
			!before->cursorless || stream->cursor_version == 0)
			continue;
		stream->prepared = true;
		stream->before_prepared = before->next;
	}
}

static void
at_xact_event(XactEvent event, void *arg)
{
	Consumer   *next;

	for (Consumer *c = consumer_first(); c != NULL; c = next)
	{
		next = c->link;
		switch (event)
		{
			case XACT_EVENT_PRE_PREPARE:
				refuse_prepare(c);
				pg_fallthrough;
			case XACT_EVENT_PRE_COMMIT:
				if (c->stores)
					holding_refuse_commit(c->name);
				break;
			case XACT_EVENT_PREPARE:
				remember_prepared(c);
				pg_fallthrough;
			case XACT_EVENT_COMMIT:
			case XACT_EVENT_ABORT:
				end_transaction(c, event == XACT_EVENT_ABORT);
				if (c->nstreams == 0)
					consumer_free(c);
				break;
			default:
				break;
		}
	}
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT ||
		event == XACT_EVENT_PREPARE)
		holding_end_transaction();
}

static void
at_subxact_event(SubXactEvent event, SubTransactionId subid,
				 SubTransactionId parent, void *arg)
{
	if (event != SUBXACT_EVENT_ABORT_SUB && event != SUBXACT_EVENT_COMMIT_SUB)
		return;
	for (Consumer *c = consumer_first(); c != NULL; c = c->link)
	{
		if (c->saved == NULL || c->saved->subid != subid)
			continue;
		if (event == SUBXACT_EVENT_ABORT_SUB)
		{
			restore_innermost(c);
			consumer_report(c);
		}
		else if (c->saved->outer != NULL && c->saved->outer->subid == parent)
			forget_innermost(c);
		else
			c->saved->subid = parent;
	}
}

void
positions_init(void)
{
	static bool registered = false;

	if (registered)
		return;
	registered = true;
	RegisterXactCallback(at_xact_event, NULL);
	RegisterSubXactCallback(at_subxact_event, NULL);
}
