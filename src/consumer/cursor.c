/*
 * cursor.c
 *	  The session's side of durable cursors: which ones it continued from.
 *
 * A stream remembers the version of the durable cursor that it continued from:
 * what seq_commit() compares before it sets.
 */
#include "compat.h"

#include "consumer/cursor.h"
#include "consumer/state.h"

/* Epochs that an idle stream's cursor may lag before it is stored anew. */
#define MAX_CURSOR_AGE 1024

bool
cursor_wanted(const Consumer *consumer)
{
	return consumer->rewind_wanted ||
		(consumer->reload_wanted && consumer->saved == NULL);
}

/*
 * One that the user chose keeps the version as well: against what is stored
 * by now its compare-and-set shall fail, and that ends the choice.
 */
void
cursor_forget(Consumer *consumer)
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
	stream_go_back(stream, stream->cursor);
	consumer->rewinds++;
}

void
cursor_set(Consumer *consumer, const StreamCursor *cursor)
{
	Stream	   *stream = stream_of(consumer, cursor->vshard);

	if (stream == NULL || !stream->lossless)
		return;
	stream->prepared = false;
	if (!stream->overrides)
	{
		stream->cursor = cursor->next;
		stream->cursor_version = cursor->version;
		stream->cursor_incarnation = cursor->incarnation;
		stream->cursor_stored_by = cursor->stored_by;
	}
	start_from_cursor(consumer, stream);
}

void
cursor_all_set(Consumer *consumer)
{
	for (int i = 0; i < consumer->nstreams; i++)
	{
		Stream	   *stream = &consumer->streams[i];

		if (!stream->prepared)
			continue;
		stream->prepared = false;
		stream->received = false;
		stream_go_back(stream, stream->before_prepared);
		consumer->rewinds++;
	}
}

void
cursor_override(Consumer *consumer, const StreamCursor *cursor)
{
	Stream	   *stream = stream_of(consumer, cursor->vshard);

	stream->overrides = true;
	stream->cursor = cursor->next;
	stream->cursor_version = cursor->version;
	stream->cursor_incarnation = cursor->incarnation;
	stream->cursor_stored_by = cursor->stored_by;
	start_from_cursor(consumer, stream);
}

int
cursor_positions(Consumer *consumer, StreamCursor *cursors)
{
	int			n = 0;

	for (int i = 0; i < consumer->nstreams; i++)
	{
		const Stream *stream = &consumer->streams[i];

		/* a cursor that only grows old by itself is moved now and then */
		if (!stream->lossless ||
			(!stream->received && !stream->overrides &&
			 stream->cursor_version > 0 &&
			 stream->next.epoch < stream->cursor.epoch + MAX_CURSOR_AGE))
			continue;
		cursors[n].vshard = stream->vshard;
		cursors[n].next = stream->next;
		cursors[n].version = stream->cursor_version;
		cursors[n].incarnation = stream->cursor_incarnation;
		cursors[n].stored_by = stream->cursor_stored_by;
		n++;
	}
	return n;
}

void
cursor_stored(Consumer *consumer, int n, const StreamCursor *cursors)
{
	for (int i = 0; i < n; i++)
	{
		Stream	   *stream = stream_of(consumer, cursors[i].vshard);

		stream->cursor_version = cursors[i].version + 1;
		stream->cursor_incarnation = cursors[i].incarnation;
		stream->cursor_stored_by = cursors[i].stored_by;
		stream->cursor = cursors[i].next;
		stream->overrides = false;
		stream->received = false;
		stream->pending = false;
		/* there was one to continue from: what had stored it has committed */
		if (cursors[i].version > 0)
			stream->prepared = false;
	}
}
