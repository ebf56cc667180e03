/*
 * positions.c
 *	  Positions and transactions: what a rollback brings back, and the
 *	  session's side of durable cursors.
 *
 * The first call in each (sub)transaction saves where every lossless stream
 * of the consumer stands; streams subscribed later in it are entered with
 * their start.  Rolling back restores the positions, and what has been taken
 * off the queues since then comes from the log.
 *
 * A stream remembers the version of the durable cursor that it continued
 * from.  After a top-level abort the stored cursors are read again, at the
 * start of the next transaction, because what was received in earlier ones
 * without seq_commit() must come again too.
 */
#include "compat.h"

#include "consumer/consumer_impl.h"
#include "utils/memutils.h"

/* Epochs that an idle stream's cursor may lag before it is stored anew. */
#define MAX_CURSOR_AGE 1024

static void
fill_in(SavedPosition *position, const Stream *stream)
{
	position->vshard = stream->vshard;
	position->generation = stream->ref.generation;
	position->next = stream->next;
	position->cursor_version = stream->cursor_version;
	position->cursor = stream->cursor;
	position->overrides = stream->overrides;
	position->received = stream->received;
	position->pending = stream->pending;
}

/* The first key that a rollback, or seq_rewind(), could lead back to. */
static StreamKey
floor_of(const Consumer *consumer, const Stream *stream)
{
	StreamKey	key = stream->next;

	if (stream->cursor_version > 0 &&
		key_before(stream->cursor.epoch, stream->cursor.position, key))
		key = stream->cursor;
	if (stream->prepared &&
		key_before(stream->before_prepared.epoch,
				   stream->before_prepared.position, key))
		key = stream->before_prepared;
	for (SavedPositions *saved = consumer->saved; saved != NULL; saved = saved->outer)
		for (int i = 0; i < saved->n; i++)
		{
			const SavedPosition *position = &saved->positions[i];

			if (position->vshard == stream->vshard &&
				position->generation == stream->ref.generation &&
				key_before(position->next.epoch, position->next.position, key))
				key = position->next;
		}
	return key;
}

/*
 * Publish the floors that have moved, of some streams or, with vshards NULL,
 * of all.  Nothing is allocated: at the end of a transaction nothing may fail.
 */
static void
report_floors(Consumer *consumer, int n, const uint16 *vshards)
{
	ConsumerFloor floors[64];
	int			nfloors = 0;

	for (int i = 0; i < (vshards == NULL ? consumer->nstreams : n); i++)
	{
		Stream	   *stream = vshards == NULL ? &consumer->streams[i] :
			stream_of(consumer, vshards[i]);
		StreamKey	key = floor_of(consumer, stream);

		if (!stream->lossless ||
			(key.epoch == stream->floor.epoch && key.position == stream->floor.position))
			continue;
		stream->floor = key;
		floors[nfloors].ref = stream->ref;
		floors[nfloors].epoch = key.epoch;
		floors[nfloors++].position = key.position;
		if (nfloors == lengthof(floors))
		{
			subscription_report_floors(nfloors, floors);
			nfloors = 0;
		}
	}
	if (nfloors > 0)
		subscription_report_floors(nfloors, floors);
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
consumer_save_positions(Consumer *consumer)
{
	SubTransactionId subid = GetCurrentSubTransactionId();
	SavedPositions *saved = consumer->saved;

	if (saved != NULL && saved->subid == subid)
		return;
	saved = MemoryContextAllocZero(consumer_context, sizeof(SavedPositions));
	saved->size = Max(consumer->nstreams, 1);
	saved->positions = MemoryContextAlloc(consumer_context,
										  sizeof(SavedPosition) * saved->size);
	saved->outer = consumer->saved;
	saved->subid = subid;
	saved->rewind_wanted = consumer->rewind_wanted;
	for (int i = 0; i < consumer->nstreams; i++)
		if (consumer->streams[i].lossless)
			fill_in(&saved->positions[saved->n++], &consumer->streams[i]);
	consumer->saved = saved;
}

bool
consumer_positions_saved(const Consumer *consumer)
{
	return consumer->saved != NULL;
}

void
consumer_enter_positions(Consumer *consumer, int n, const uint16 *vshards,
						 bool chosen)
{
	for (SavedPositions *saved = consumer->saved; saved != NULL; saved = saved->outer)
		for (int i = 0; i < n; i++)
		{
			bool		found;
			SavedPosition *position = place_for(saved, vshards[i], &found);
			StreamKey	before = position->next;

			fill_in(position, stream_of(consumer, vshards[i]));

			/*
			 * It goes on where the stream before it stood; if that is rolled
			 * back, so is this start, unless the user chose it.
			 */
			if (found && !chosen &&
				key_before(before.epoch, before.position, position->next))
				position->next = before;
		}
	report_floors(consumer, n, vshards);
}

static void
forget_innermost(Consumer *consumer)
{
	SavedPositions *saved = consumer->saved;

	consumer->saved = saved->outer;
	pfree(saved->positions);
	pfree(saved);
}

void
positions_forget(Consumer *consumer)
{
	while (consumer->saved != NULL)
		forget_innermost(consumer);
}

/* Go to a key; what was taken off the queue from there on is in the log. */
static void
go_back(Stream *stream, StreamKey key)
{
	if (key_before(stream->log_until.epoch, stream->log_until.position,
				   stream->next))
		stream->log_until = stream->next;
	stream->next = key;
	stream->holed = false;
	stream->moved = true;
}

static void
restore_positions(Consumer *consumer, const SavedPositions *saved)
{
	for (int i = 0; i < saved->n; i++)
	{
		const SavedPosition *position = &saved->positions[i];
		Stream	   *stream = stream_of(consumer, position->vshard);

		/* subscribed anew since: then it is another stream */
		if (stream == NULL || stream->ref.generation != position->generation)
			continue;
		go_back(stream, position->next);
		stream->cursor_version = position->cursor_version;
		stream->cursor = position->cursor;
		stream->overrides = position->overrides;
		stream->received = position->received;
		stream->pending = position->pending;
	}
	consumer->rewinds++;
}

static void
restore_innermost(Consumer *consumer)
{
	restore_positions(consumer, consumer->saved);
	consumer->rewind_wanted = consumer->saved->rewind_wanted;
	forget_innermost(consumer);
}

static bool
has_cursor(const Consumer *consumer)
{
	for (int i = 0; i < consumer->nstreams; i++)
		if (consumer->streams[i].cursor_version > 0)
			return true;
	return false;
}

static void
end_transaction(Consumer *consumer, bool aborted)
{
	bool		called = consumer->saved != NULL;

	/* of nested ones, the outermost has the oldest positions */
	while (aborted && consumer->saved != NULL)
		restore_innermost(consumer);
	positions_forget(consumer);

	for (int i = 0; i < consumer->nstreams; i++)
	{
		consumer->streams[i].pending = false;
		/* another session went on from there: the user's choice is outdated */
		if (consumer->lost)
			consumer->streams[i].overrides = false;
	}

	/* what was received in earlier ones but not committed comes again */
	if (consumer->lost || (aborted && has_cursor(consumer)))
		consumer->reload_wanted = true;
	consumer->lost = false;
	if (called)
		report_floors(consumer, 0, NULL);
}

/*
 * What was received but not committed has to come again if the prepared
 * transaction is rolled back, and nobody will tell us then.
 */
static void
refuse_prepare(const Consumer *consumer)
{
	for (int i = 0; i < consumer->nstreams; i++)
		if (consumer->streams[i].lossless && consumer->streams[i].pending)
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
	const SavedPositions *saved = consumer->saved;

	while (saved != NULL && saved->outer != NULL)
		saved = saved->outer;
	for (int i = 0; saved != NULL && i < saved->n; i++)
	{
		const SavedPosition *before = &saved->positions[i];
		Stream	   *stream = stream_of(consumer, before->vshard);

		if (stream == NULL || stream->ref.generation != before->generation ||
			before->cursor_version > 0 || stream->cursor_version == 0)
			continue;
		stream->prepared = true;
		stream->before_prepared = before->next;
	}
}

static void
at_xact_event(XactEvent event, void *arg)
{
	Consumer   *next;

	if (event == XACT_EVENT_PRE_PREPARE)
		for (Consumer *c = consumers; c != NULL; c = c->next)
			refuse_prepare(c);
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT &&
		event != XACT_EVENT_PREPARE)
		return;
	for (Consumer *c = consumers; c != NULL; c = next)
	{
		next = c->next;
		if (event == XACT_EVENT_PREPARE)
			remember_prepared(c);
		end_transaction(c, event == XACT_EVENT_ABORT);
		if (c->nstreams == 0)
			consumer_free(c);
	}
}

static void
at_subxact_event(SubXactEvent event, SubTransactionId subid,
				 SubTransactionId parent, void *arg)
{
	if (event != SUBXACT_EVENT_ABORT_SUB && event != SUBXACT_EVENT_COMMIT_SUB)
		return;
	for (Consumer *c = consumers; c != NULL; c = c->next)
	{
		if (c->saved == NULL || c->saved->subid != subid)
			continue;
		if (event == SUBXACT_EVENT_ABORT_SUB)
			restore_innermost(c);
		else if (c->saved->outer != NULL && c->saved->outer->subid == parent)
			forget_innermost(c);
		else
			c->saved->subid = parent;
	}
}

void
positions_init(void)
{
	RegisterXactCallback(at_xact_event, NULL);
	RegisterSubXactCallback(at_subxact_event, NULL);
}

uint32
consumer_rewinds(const Consumer *consumer)
{
	return consumer->rewinds;
}

void
consumer_start_at(Consumer *consumer, int n, const uint16 *vshards,
				  StreamKey key, int64 behind_epoch)
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

void
consumer_rewind(Consumer *consumer)
{
	for (SavedPositions *saved = consumer->saved; saved != NULL; saved = saved->outer)
		if (saved->outer == NULL)
			restore_positions(consumer, saved);
	consumer->rewind_wanted = true;
}

bool
consumer_wants_cursors(const Consumer *consumer)
{
	return consumer->rewind_wanted ||
		(consumer->reload_wanted && consumer->saved == NULL);
}

/*
 * One that the user chose keeps the version as well: against what is stored
 * by now its compare-and-set shall fail, and that ends the choice.
 */
void
consumer_forget_cursors(Consumer *consumer)
{
	for (int i = 0; i < consumer->nstreams; i++)
		if (!consumer->streams[i].overrides)
			consumer->streams[i].cursor_version = 0;
	consumer->rewind_wanted = false;
	consumer->reload_wanted = false;
}

static void
start_from_cursor(Consumer *consumer, Stream *stream)
{
	stream->received = false;
	go_back(stream, stream->cursor);
	consumer->rewinds++;
}

void
consumer_set_cursor(Consumer *consumer, const StreamCursor *cursor)
{
	Stream	   *stream = stream_of(consumer, cursor->vshard);

	if (stream == NULL || !stream->lossless)
		return;
	stream->prepared = false;
	if (!stream->overrides)
	{
		stream->cursor = cursor->next;
		stream->cursor_version = cursor->version;
	}
	start_from_cursor(consumer, stream);
}

void
consumer_cursors_loaded(Consumer *consumer)
{
	for (int i = 0; i < consumer->nstreams; i++)
	{
		Stream	   *stream = &consumer->streams[i];

		if (!stream->prepared)
			continue;
		stream->prepared = false;
		stream->received = false;
		go_back(stream, stream->before_prepared);
		consumer->rewinds++;
	}
}

void
consumer_override_cursor(Consumer *consumer, const StreamCursor *cursor)
{
	Stream	   *stream = stream_of(consumer, cursor->vshard);

	stream->overrides = true;
	stream->cursor = cursor->next;
	stream->cursor_version = cursor->version;
	start_from_cursor(consumer, stream);
}

bool
consumer_get_position(Consumer *consumer, uint16 vshard, StreamKey *next)
{
	const Stream *stream = stream_of(consumer, vshard);

	if (stream == NULL)
		return false;
	*next = stream->next;
	return true;
}

int
consumer_get_cursors(Consumer *consumer, StreamCursor *cursors)
{
	int			n = 0;

	for (int i = 0; i < consumer->nstreams; i++)
	{
		const Stream *stream = &consumer->streams[i];

		/* a cursor that only grows old by itself is moved now and then */
		if (!stream->lossless ||
			(!stream->received && !stream->overrides &&
			 stream->cursor_version > 0 &&
			 stream->next.epoch - stream->cursor.epoch < MAX_CURSOR_AGE))
			continue;
		cursors[n].vshard = stream->vshard;
		cursors[n].next = stream->next;
		cursors[n].version = stream->cursor_version;
		n++;
	}
	return n;
}

void
consumer_cursors_stored(Consumer *consumer, int n, const StreamCursor *cursors)
{
	for (int i = 0; i < n; i++)
	{
		Stream	   *stream = stream_of(consumer, cursors[i].vshard);

		stream->cursor_version = cursors[i].version + 1;
		stream->cursor = cursors[i].next;
		stream->overrides = false;
		stream->received = false;
		stream->pending = false;
		/* there was one to continue from: what had stored it has committed */
		if (cursors[i].version > 0)
			stream->prepared = false;
	}
}

void
consumer_cursors_lost(Consumer *consumer)
{
	consumer->lost = true;
}

bool
consumer_has_lost(const Consumer *consumer)
{
	return consumer->lost;
}
