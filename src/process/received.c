/*
 * received.c
 *	  What a source has sent and is not stored yet: the rows of one seq_feed().
 *
 * A row comes as one message of a binary COPY.  The entry of a large one is used
 * where libpq has put it, with a varlena header in place of its length; small ones
 * are copied, so that there is not one piece of memory for each.
 */
#include "compat.h"

#include "libpq-fe.h"
#include "log/memory.h"
#include "log/step.h"
#include "miscadmin.h"
#include "port/pg_bswap.h"
#include "process/received.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define FIELDS 5
#define LARGE_BYTES (256 * 1024)

/* Its last byte is the terminator. */
static const char signature[] = "PGCOPY\n\377\r\n";

static MemoryContext context = NULL;
static Size rows_size = 0;
static Size acks_size = 0;

/* Messages of libpq's that are in use. */
static char **kept = NULL;
static Size kept_size = 0;
static int	nkept = 0;
static bool begun; /* the header was there */

/* One message, while it is looked at. */
typedef struct Cursor
{
	char	   *at;
	char	   *end;
} Cursor;

typedef struct Field
{
	char	   *data;
	int32		len; /* -1: null */
} Field;

static bool
take(Cursor *cursor, Size size, char **data)
{
	if ((Size) (cursor->end - cursor->at) < size)
		return false;
	*data = cursor->at;
	cursor->at += size;
	return true;
}

static bool
take_int16(Cursor *cursor, int16 *value)
{
	char	   *data;
	uint16		raw;

	if (!take(cursor, sizeof(raw), &data))
		return false;
	memcpy(&raw, data, sizeof(raw));
	*value = (int16) pg_ntoh16(raw);
	return true;
}

static bool
take_int32(Cursor *cursor, int32 *value)
{
	char	   *data;
	uint32		raw;

	if (!take(cursor, sizeof(raw), &data))
		return false;
	memcpy(&raw, data, sizeof(raw));
	*value = (int32) pg_ntoh32(raw);
	return true;
}

static bool
take_header(Cursor *cursor)
{
	char	   *data;
	int32		flags;
	int32		extension;

	return take(cursor, sizeof(signature), &data) &&
		memcmp(data, signature, sizeof(signature)) == 0 &&
		take_int32(cursor, &flags) && flags == 0 &&
		take_int32(cursor, &extension) && extension >= 0 &&
		take(cursor, (Size) extension, &data);
}

static bool
take_field(Cursor *cursor, Field *field)
{
	if (!take_int32(cursor, &field->len) || field->len < -1)
		return false;
	return field->len == -1 || take(cursor, (Size) field->len, &field->data);
}

static bool
int64_of(const Field *field, int64 *value)
{
	uint64		raw;

	if (field->len != sizeof(raw))
		return false;
	memcpy(&raw, field->data, sizeof(raw));
	*value = (int64) pg_ntoh64(raw);
	return true;
}

/* For the next message that is kept. */
static void
make_room(void)
{
	memory_grow(context, (void **) &kept, &kept_size, (Size) nkept + 1, sizeof(char *));
}

void
received_begin(Received *received, uint64 asked)
{
	if (context == NULL)
		context = AllocSetContextCreate(TopMemoryContext, "calvin_seq received",
										ALLOCSET_DEFAULT_SIZES);
	received_drop(received);
	received->asked = asked;
	make_room();
}

void
received_drop(Received *received)
{
	while (nkept > 0)
		PQfreemem(kept[--nkept]);
	kept = NULL;
	kept_size = rows_size = acks_size = 0;
	begun = false;
	memset(received, 0, sizeof(*received));
	if (context != NULL)
		MemoryContextReset(context);
}

/* As a bytea; *uses_message tells whether it lies in the message. */
static bytea *
entry_of(const Field *field, bool *uses_message)
{
	bytea	   *entry;

	*uses_message = field->len >= LARGE_BYTES;
	if (*uses_message)
	{
		/* the four bytes before it were its length */
		entry = (bytea *) TYPEALIGN_DOWN(ALIGNOF_INT, field->data - VARHDRSZ);
		memmove(VARDATA(entry), field->data, (Size) field->len);
	}
	else
	{
		entry = MemoryContextAlloc(context, (Size) field->len + VARHDRSZ);
		memcpy(VARDATA(entry), field->data, (Size) field->len);
	}
	SET_VARSIZE(entry, (Size) field->len + VARHDRSZ);
	return entry;
}

static bool
add_end(Received *received, const Field *fields)
{
	int64		end;
	int64		applied;
	char		digest[17] = "";
	char	   *rest;

	if (!int64_of(&fields[0], &end) || !int64_of(&fields[3], &applied) ||
		fields[4].len != 16 || end < 0 || applied < end)
		return false;
	memcpy(digest, fields[4].data, 16);
	received->end_digest = strtoull(digest, &rest, 16);
	received->end_index = (uint64) end;
	received->applied_index = (uint64) applied;
	received->complete = *rest == '\0';
	return received->complete;
}

/* Is that as much as was asked for?  Whoever sends more has no end in mind. */
static bool
is_enough(const Received *received)
{
	return received->bytes + (uint64) received->n * COPIED_ROW_BYTES >= received->asked;
}

static bool
is_time(int64 value)
{
	return TIMESTAMP_NOT_FINITE(value) || IS_VALID_TIMESTAMP(value);
}

/* *taken: the message is part of it now. */
static bool
add_row(Received *received, const Field *fields, bool *taken)
{
	CopiedRow	row;
	int64		appended_at;

	if (fields[2].len == -1)
		return add_end(received, fields);
	if (!int64_of(&fields[0], &row.log_index) || row.log_index <= 0 ||
		!int64_of(&fields[1], &appended_at) || !is_time(appended_at) ||
		(uint32) fields[2].len > WIRE_MAX_ENTRY || is_enough(received) ||
		(received->n > 0 && row.log_index <= received->rows[received->n - 1].log_index))
		return false;
	row.appended_at = (TimestampTz) appended_at;
	memory_grow(context, (void **) &received->rows, &rows_size,
				(Size) received->n + 1, sizeof(CopiedRow));
	received->bytes += (uint64) fields[2].len;
	received->largest = Max(received->largest, (uint64) fields[2].len);
	row.entry = entry_of(&fields[2], taken);
	received->rows[received->n++] = row;
	return true;
}

static bool
parse(Received *received, Cursor *cursor, bool *taken)
{
	int16		nfields;
	Field		fields[FIELDS] = {0};

	if (!begun && !take_header(cursor))
		return false;
	/* it comes with the first row, or by itself */
	if (!begun && cursor->at == cursor->end)
	{
		begun = true;
		return true;
	}
	begun = true;
	if (!take_int16(cursor, &nfields))
		return false;
	if (nfields == -1)
		return received->complete;
	if (nfields != FIELDS || received->complete)
		return false;
	for (int i = 0; i < FIELDS; i++)
		if (!take_field(cursor, &fields[i]))
			return false;
	return cursor->at == cursor->end && add_row(received, fields, taken);
}

bool
received_add(Received *received, char *message, int size)
{
	Cursor		cursor = {message, message + size};
	bool		taken = false;
	bool		valid;

	/* freed by received_drop() from now on, also after an error */
	kept[nkept++] = message;
	make_room();
	valid = parse(received, &cursor, &taken);
	if (!taken)
		PQfreemem(kept[--nkept]);
	return valid;
}

static void
note_ack(Received *received, const WireEntry *entry)
{
	Ack		   *ack;

	memory_grow(context, (void **) &received->acks, &acks_size,
				(Size) received->nacks + 1, sizeof(Ack));
	ack = &received->acks[received->nacks++];
	ack->epoch = entry->epoch;
	ack->position = entry->position;
	ack->vshard = (uint16) Min(entry->vshard_id, PG_UINT16_MAX);
}

bool
received_step(Received *received, MachineState *state)
{
	MachineCounters counters = {0};
	WireDecoder decoder;
	MachineInput input;

	wire_decoder_init(&decoder, NULL, 0, NULL, 0);
	for (int i = 0; i < received->n; i++)
	{
		const CopiedRow *copied = &received->rows[i];
		LogRow		row = {0};

		CHECK_FOR_INTERRUPTS();
		if ((uint64) copied->log_index <= state->last_applied_index)
			return false;
		row.log_index = (uint64) copied->log_index;
		row.entry = (const uint8 *) VARDATA(copied->entry);
		row.entry_len = VARSIZE(copied->entry) - VARHDRSZ;
		step_input(&row, &decoder, &input);
		(void) machine_step(state, &counters, &input);
		if (input.kind == MACHINE_IN_ACK)
			note_ack(received, &decoder.entry);
	}
	return state->last_applied_index == received->end_index &&
		state->digest == received->end_digest;
}
