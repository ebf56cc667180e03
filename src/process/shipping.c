/*
 * shipping.c
 *	  Acknowledgements of a follower, to its source: over a connection of their own, since
 *	  the other one waits for what the source appends.
 *
 *	   IDLE --> CONNECTING --> SETTLING --> IDLE --> SECURING --> SENDING --> IDLE
 *
 * What is waiting is sent, when it cannot be lost here any more: a transaction whose
 * commit was asynchronous is visible before, and the source would have the acknowledgement
 * of what has not happened.  The source answers where its log ends then.  When the log
 * here has come so far, they have come back with it, and are waiting no more: whatever is
 * still there then is sent next.  So nothing needs to be remembered of what was sent, by
 * anybody; whatever ends meanwhile, they are sent again, and the source appends what it
 * has not got.
 *
 * With several hosts this connection may lead to another server than the one that is
 * followed.  So the command is one of that log only which has our digest where we are: no
 * other log is given acknowledgements of this one.
 */
#include "compat.h"

#include "access/xact.h"
#include "lib/stringinfo.h"
#include "log/acks.h"
#include "log/completion.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "process/durable.h"
#include "process/shipping.h"
#include "process/source_state.h"
#include "shared/clock.h"
#include "shared/follower.h"
#include "shared/pause.h"
#include "shared/settings.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

/* So many at a time. */
#define MOST 1000

/* It is looked without a sign, for what a prepared transaction has stored, that often. */
#define LOOK_INTERVAL_MS 10000

/* After that long without anything to send the connection is closed. */
#define LINGER_MS 60000

#define MIN_REST_MS 100
#define MOST_REST_MS 5000

/* How often it is looked whether standbys have confirmed what is to be sent, doubling. */
#define MIN_SECURE_MS 2
#define MOST_SECURE_MS 200

typedef enum Phase
{
	PHASE_IDLE,
	PHASE_CONNECTING,
	PHASE_SETTLING,
	PHASE_SECURING,
	PHASE_SENDING
} Phase;

static Source source;
static Phase phase = PHASE_IDLE;
static bool ready;
static char schema[NAMEDATALEN * 2 + 3];
static uint64 told;		/* follower_acks() at the last look */
static bool more = true; /* there may be some, sign or not */
static uint64 until;	/* they are back when the log here has come so far; 0: none are out */
static int64 rest_until = 0; /* as clock_ms() tells time, as the others are */
static int	rest_ms = 0;
static int64 look_due = 0;
static int64 used_at = 0;
static bool complained = false;
static int	passed = 0;	 /* hosts that have another log, from this turn on */
static int	passed_turn = 0;
static char *securing = NULL;  /* the command that is sent when all up to there is safe */
static XLogRecPtr secure_lsn;
static int64 secure_look = 0;  /* as clock_ms() tells time */
static int	secure_ms;

void
shipping_ready(int events)
{
	ready = true;
	if (events & WL_SOCKET_READABLE)
		source_heard(&source);
}

static void
forget_securing(void)
{
	if (securing != NULL)
		pfree(securing);
	securing = NULL;
}

void
shipping_stop(void)
{
	source_close(&source);
	forget_securing();
	phase = PHASE_IDLE;
	more = true;
	until = 0;
}

static void
rest(void)
{
	rest_ms = rest_ms == 0 ? MIN_REST_MS : Min(rest_ms * 2, MOST_REST_MS);
	rest_until = clock_ms() + rest_ms;
}

/* They stay where they are; say so, once. */
static bool
fail(DatabaseSlot *slot, char *message)
{
	message = psprintf("acknowledgements cannot be shipped: %s", message);
	follower_set_error(slot, message);
	if (!complained)
		ereport(LOG,
				(errmsg("calvin_seq follower: %s", message)));
	complained = true;
	shipping_stop();
	rest();
	return true;
}

static bool
waits(DatabaseSlot *slot, SourceWait *wait)
{
	if (source_is_silent(&source))
		return fail(slot, source_error(&source));
	source_wait(&source, wait);
	return false;
}

/* Nothing to do for so long. */
static bool
sleeps(SourceWait *wait, int64 ms)
{
	wait->ms = (long) Max(ms, 0);
	return false;
}

/*
 * With "sent" there are some that the source may have had before: those are back too, if
 * they are in the log here, whoever has brought them there.
 */
static int
list_waiting(bool sent, Ack **acks, bool *all)
{
	MemoryContext context = CurrentMemoryContext;
	MemoryContext old;
	int			left = 0;
	int			n;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	old = MemoryContextSwitchTo(context);
	n = acks_list(MOST, acks);
	*all = n < MOST;
	for (int i = 0; sent && i < n; i++)
	{
		Ack			ack = (*acks)[i];

		CHECK_FOR_INTERRUPTS();
		if (completion_has_ack(ack.epoch, ack.position, ack.vshard))
			acks_remove(&ack, 1);
		else
			(*acks)[left++] = ack;
	}
	if (sent)
		n = left;
	MemoryContextSwitchTo(old);
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);
	return n;
}

static char *
command(const Ack *acks, int n, const MachineState *stored)
{
	StringInfoData epochs;
	StringInfoData positions;
	StringInfoData vshards;

	initStringInfo(&epochs);
	initStringInfo(&positions);
	initStringInfo(&vshards);
	for (int i = 0; i < n; i++)
	{
		const char *comma = i == 0 ? "" : ",";

		appendStringInfo(&epochs, "%s" UINT64_FORMAT, comma, acks[i].epoch);
		appendStringInfo(&positions, "%s%u", comma, acks[i].position);
		appendStringInfo(&vshards, "%s%u", comma, acks[i].vshard);
	}
	return psprintf("SELECT %s.seq_feed_acks('{%s}', '{%s}', '{%s}') %s",
					schema, epochs.data, positions.data, vshards.data,
					source_with_our_log(schema, stored));
}

static bool
begin(DatabaseSlot *slot, const char *conninfo, int turn, const MachineState *stored,
	  SourceWait *wait)
{
	int64		now = clock_ms();
	uint64		sign = follower_acks(slot);
	Ack		   *acks;
	bool		all;
	int			n;

	if (now < rest_until)
		return sleeps(wait, rest_until - now);
	/* the log that comes wakes us; if it does not, they are asked for again */
	if (until > stored->last_applied_index && now < look_due)
		return sleeps(wait, look_due - now);
	if (!more && sign == told && now < look_due)
	{
		if (source_is_open(&source) && now - used_at > LINGER_MS)
			source_close(&source);
		return sleeps(wait, look_due - now);
	}
	n = list_waiting(until > 0, &acks, &all);
	told = sign;
	look_due = now + LOOK_INTERVAL_MS;
	until = 0;
	if (n == 0)
	{
		more = !all;
		return true;
	}
	used_at = now;
	if (!source_is_open(&source))
	{
		more = true;
		ready = false;
		if (turn != passed_turn)
			passed = 0;
		passed_turn = turn;
		if (source_start_primary(&source, conninfo, turn + passed) == SOURCE_FAILED)
			return fail(slot, source_error(&source));
		phase = PHASE_CONNECTING;
		return true;
	}
	forget_securing();
	securing = MemoryContextStrdup(TopMemoryContext, command(acks, n, stored));
	secure_lsn = durable_wal_end();
	secure_look = now;
	secure_ms = MIN_SECURE_MS;
	phase = PHASE_SECURING;
	return true;
}

/* Nothing comes from the source meanwhile, unless it is that it has gone. */
static bool
secure(DatabaseSlot *slot, SourceWait *wait)
{
	int64		now = clock_ms();
	bool		sent;

	if (now < secure_look)
		return sleeps(wait, secure_look - now);
	if (!durable_by_now(secure_lsn))
	{
		secure_look = now + secure_ms;
		secure_ms = Min(secure_ms * 2, MOST_SECURE_MS);
		return sleeps(wait, secure_look - now);
	}
	phase = PHASE_SENDING;
	sent = source_send(&source, securing) != SOURCE_FAILED;
	forget_securing();
	return sent || fail(slot, source_error(&source));
}

static bool
go_on_connecting(DatabaseSlot *slot, SourceWait *wait)
{
	SourceStatus status = SOURCE_WAITS;

	if (ready)
		status = source_connect(&source);
	ready = false;
	if (status == SOURCE_WAITS)
		return waits(slot, wait);
	if (status == SOURCE_FAILED || source_settle(&source) == SOURCE_FAILED)
		return fail(slot, source_error(&source));
	phase = PHASE_SETTLING;
	return true;
}

static bool
not_ours(DatabaseSlot *slot)
{
	return fail(slot, pstrdup("the source does not answer as this version does"));
}

/* A result with rows, or none and what there is to be done instead. */
static bool
take_rows(DatabaseSlot *slot, SourceWait *wait, PGresult **rows, bool *again)
{
	SourceStatus status = source_results(&source, rows);
	ExecStatusType answer = PQresultStatus(*rows);
	const char *error;

	if (status == SOURCE_WAITS)
	{
		*again = waits(slot, wait);
		return false;
	}
	if (status == SOURCE_READY && answer == PGRES_TUPLES_OK)
		return true;
	error = PQresultErrorField(*rows, PG_DIAG_MESSAGE_PRIMARY);
	if (error != NULL)
		*again = fail(slot, psprintf("the source answers: %s", source_text(error)));
	else if (status == SOURCE_FAILED || (*rows != NULL && answer == PGRES_FATAL_ERROR))
		*again = fail(slot, source_error(&source));
	else
		*again = not_ours(slot);
	PQclear(*rows);
	return false;
}

static bool
settled(DatabaseSlot *slot, SourceWait *wait)
{
	PGresult   *rows;
	bool		again;
	char	   *name;

	if (!take_rows(slot, wait, &rows, &again))
		return again;
	name = source_schema(rows);
	PQclear(rows);
	if (name == NULL)
		return not_ours(slot);
	strlcpy(schema, name, sizeof(schema));
	phase = PHASE_IDLE;
	return true;
}

static bool
sent(DatabaseSlot *slot, const MachineState *stored, SourceWait *wait)
{
	PGresult   *rows;
	bool		again;
	bool		none;
	bool		valid;

	if (!take_rows(slot, wait, &rows, &again))
		return again;
	none = PQntuples(rows) == 0;
	valid = source_number(rows, 1, 0, &until);
	PQclear(rows);
	if (none)
	{
		passed++;
		return fail(slot, psprintf("the log at %s has another digest at log_index " UINT64_FORMAT ", or is not applied as far",
								   source_host(&source), stored->last_applied_index));
	}
	if (!valid)
		return not_ours(slot);
	PAUSE_POINT("shipping: answered");
	phase = PHASE_IDLE;
	complained = false;
	more = true;
	/* they are back by now, or somebody between has them, or they were lost there */
	if (until <= stored->last_applied_index)
		rest();
	else
		rest_ms = 0;
	return true;
}

bool
shipping_some(DatabaseSlot *slot, const char *conninfo, int turn,
			  const MachineState *stored, SourceWait *wait)
{
	wait->socket = PGINVALID_SOCKET;
	wait->ms = -1;
	switch (phase)
	{
		case PHASE_IDLE:
			return begin(slot, conninfo, turn, stored, wait);
		case PHASE_CONNECTING:
			return go_on_connecting(slot, wait);
		case PHASE_SETTLING:
			return settled(slot, wait);
		case PHASE_SECURING:
			return secure(slot, wait);
		case PHASE_SENDING:
			break;
	}
	return sent(slot, stored, wait);
}
