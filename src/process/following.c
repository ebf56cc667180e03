/*
 * following.c
 *	  A database that follows: what its worker does in place of sequencing.
 *
 *	   RESTING --time--> CONNECTING --> SETTLING --> COMPARING --> NOTING --> COMPARING --> FEEDING
 *		  ^						 ^			  ^			 ^			  ^ ^		  ^			   ^ |
 *		  +--- whatever fails ---+------------+----------+------------+-|---------+------------+ |
 *																		+--- now and then <------+
 *
 * Noting tells the source what it need not keep for us: what is durable here.  Not before
 * we know that it is our source, since it keeps the rest; and what that was found by is
 * compared again, since only now it is kept.
 * Comparing proves that what is here is a part of the source's log, or says why it is
 * not.  Each feed brings the rows behind that, and the source's digest behind those:
 * nothing is stored that does not lead to it.  The next feed is asked for before the
 * rows of the last one are stored, so that the source works meanwhile.
 *
 * Where we are is what the log here ends with, and is not stored anywhere else.  So it
 * does not matter when this process ends: what was committed is there, what was not
 * comes again.  The commit waits for no disk and no standby; the applier does, before
 * it delivers.
 */
#include "compat.h"

#include <unistd.h>

#include "access/xact.h"
#include "commands/dbcommands.h"
#include "log/acks.h"
#include "log/following.h"
#include "log/identity.h"
#include "log/owner.h"
#include "log/reader.h"
#include "log/snapshots.h"
#include "log/states.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "process/comparing.h"
#include "process/elsewhere.h"
#include "process/following.h"
#include "process/life.h"
#include "process/noting.h"
#include "process/reaching.h"
#include "process/received.h"
#include "process/shipping.h"
#include "process/source_state.h"
#include "shared/clock.h"
#include "shared/database.h"
#include "shared/follower.h"
#include "shared/pause.h"
#include "shared/settings.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* Bytes of entries that are asked for at a time. */
#define FEED_BYTES (4 * 1024 * 1024)

/* An entry after which the connection is made anew: libpq keeps its memory. */
#define HUGE_ENTRY (32 * 1024 * 1024)

/* Between attempts, doubling: a source that is gone may be replaced any moment. */
#define MIN_REST_MS 50
#define MOST_REST_MS 500
/* what somebody has to mend is looked at less often */
#define MOST_MEND_MS 5000

/* How often the source is told where we are. */
#define NOTE_INTERVAL_MS Min(10000, calvin_follower_timeout / 3)

/* For how long the source waits for more: as long it has a snapshot. */
#define FEED_WAIT_MS Min(10000, calvin_follower_timeout / 3)

typedef enum Phase
{
	PHASE_RESTING,
	PHASE_CONNECTING,
	PHASE_SETTLING,
	PHASE_NOTING,
	PHASE_COMPARING,
	PHASE_FEEDING
} Phase;

static bool looked = false; /* "following" is what the table says */
static bool follows;
static Following following; /* its strings are in "memory" */
static Oid	extension = InvalidOid;
static MemoryContext memory = NULL;
static MemoryContext scratch = NULL; /* of one call of following_some() */

static Source source;
static Phase phase = PHASE_RESTING;
static int64 rest_until = 0; /* as clock_ms() tells time */
static int	rest_ms = 0;
static FollowerState logged = FOLLOWER_NONE; /* what was said last in the server log */

static char *database_name; /* in "memory" */
static char schema[NAMEDATALEN * 2 + 3]; /* the extension's there, quoted */
static MachineState here;	/* behind our last row */
static uint64 begins;		/* our log, behind that log_index */
static bool virgin;			/* there never was a row */
static bool named;			/* our log has an identity, */
static pg_uuid_t identity;	/* which is this */
static bool identified;		/* it has one, or the source's has none */
static bool copying;		/* a feed's rows are coming */
static bool noted_once;		/* on this connection; where we begin is known there */
static bool compared_since; /* and it was compared since */
static bool asked_again;	/* and it has refused to go on, which was not explained */
static int64 note_due;	   /* as clock_ms() tells time */
static int64 news_at;	   /* the same: something has come, or the connection was made */
static Received received;

void
following_ready(int which, int events)
{
	if (phase == PHASE_CONNECTING)
	{
		reaching_ready(which);
		return;
	}
	if (which == 1)
	{
		shipping_ready(events);
		return;
	}
	if (which == 2)
	{
		noting_ready(events);
		return;
	}
	if (which == 3)
	{
		elsewhere_ready(events);
		return;
	}
	if (events & WL_SOCKET_READABLE)
		source_heard(&source);
}

static void
rest(int most_ms)
{
	source_close(&source);
	reaching_stop();
	elsewhere_stop();
	shipping_stop();
	received_drop(&received);
	copying = noted_once = compared_since = false;
	phase = PHASE_RESTING;
	rest_ms = rest_ms == 0 ? MIN_REST_MS : Min(rest_ms * 2, most_ms);
	rest_until = clock_ms() + rest_ms;
}

void
following_failed(DatabaseSlot *slot)
{
	if (looked && follows && following.mode == FOLLOWING_PULL)
		follower_set_state(slot, FOLLOWER_FAILED);
	following_forget();
}

void
following_recheck(void)
{
	looked = false;
}

void
following_forget(void)
{
	looked = false;
	source_close(&source);
	reaching_stop();
	elsewhere_stop();
	shipping_stop();
	noting_forget();
	received_drop(&received);
	copying = noted_once = compared_since = false;
	phase = PHASE_RESTING;
	rest_ms = 0;
	rest_until = 0;
}

/* It cannot go on: say so, once, and try again later. */
static FollowingNext
fail(DatabaseSlot *slot, FollowerState state, char *message, const char *hint)
{
	/* it may be one that was replaced, and does not know that: another host comes next */
	if (state != FOLLOWER_UNREACHABLE && source_is_open(&source))
		reaching_pass_over(&source);
	follower_set_state(slot, state);
	follower_set_error(slot, hint == NULL ? message :
					   psprintf("%s; %s", message, hint));
	if (state != logged)
		ereport(LOG,
				(errmsg("calvin_seq follower: %s", message),
				 errdetail("It follows %s.", following.source),
				 hint == NULL ? 0 : errhint("%c%s.", pg_toupper((unsigned char) hint[0]), hint + 1)));
	logged = state;
	rest(state == FOLLOWER_UNREACHABLE || state == FOLLOWER_SOURCE_BEHIND ?
		 MOST_REST_MS : MOST_MEND_MS);
	return FOLLOWING_AGAIN;
}

static FollowingNext
lost(DatabaseSlot *slot)
{
	return fail(slot, FOLLOWER_UNREACHABLE,
				psprintf("no connection to the source: %s", source_error(&source)), NULL);
}

/* It says something, but not what our functions do. */
static FollowingNext
not_ours(DatabaseSlot *slot)
{
	return fail(slot, FOLLOWER_REFUSED,
				pstrdup("the source does not answer as this version does"),
				"have both servers run the same version of calvin_seq");
}

/* False, and none: the extension is gone, or another one. */
static bool
start_transaction(DatabaseSlot *slot)
{
	const LogTable *table;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	table = log_table_find();
	if (table != NULL && (!OidIsValid(extension) || table->extension == extension) &&
		database_bind(slot, table->log))
	{
		extension = table->extension;
		return true;
	}
	AbortCurrentTransaction();
	MemoryContextSwitchTo(scratch);
	return false;
}

static void
end_transaction(void)
{
	CommitTransactionCommand();
	MemoryContextSwitchTo(scratch);
}

static void
remember(const Following *found)
{
	MemoryContext old;

	MemoryContextReset(memory);
	old = MemoryContextSwitchTo(memory);
	following = *found;
	following.source = pstrdup(found->source);
	following.conninfo = found->conninfo == NULL ? NULL : pstrdup(found->conninfo);
	database_name = get_database_name(MyDatabaseId);
	MemoryContextSwitchTo(old);
}

/*
 * What does the table say?  If it is what it has said before, all goes on.  False if it
 * is gone.
 */
static bool
look(DatabaseSlot *slot)
{
	Following	found;
	bool		now;

	if (!start_transaction(slot))
		return false;
	now = following_find(&found);
	if (!now || !follows || found.mode != following.mode ||
		memcmp(&found.id, &following.id, sizeof(found.id)) != 0)
	{
		following_forget();
		if (now)
			remember(&found);
		follows = now;
		logged = FOLLOWER_NONE;
		follower_set_state(slot, FOLLOWER_NONE);
	}
	end_transaction();
	looked = true;
	return true;
}

static FollowingNext
waits(DatabaseSlot *slot, SourceWait *wait)
{
	if (source_is_silent(&source))
	{
		reaching_pass_over(&source);
		return lost(slot);
	}
	source_wait(&source, wait);
	return FOLLOWING_WAITS;
}

static FollowingNext
ask(DatabaseSlot *slot, const char *sql, Phase next)
{
	if (source_send(&source, sql) == SOURCE_FAILED)
		return lost(slot);
	phase = next;
	return FOLLOWING_AGAIN;
}

static FollowingNext
begin(DatabaseSlot *slot, SourceWait *wait)
{
	int64		left = rest_until - clock_ms();

	if (left > 0)
	{
		wait->socket = PGINVALID_SOCKET;
		wait->ms = (long) left;
		return FOLLOWING_WAITS;
	}
	if (logged == FOLLOWER_NONE)
		follower_set_state(slot, FOLLOWER_CONNECTING);
	pgstat_report_activity(STATE_RUNNING, "connecting to the source");
	if (reaching_start(&source, following.conninfo) == SOURCE_FAILED)
		return lost(slot);
	phase = PHASE_CONNECTING;
	return FOLLOWING_AGAIN;
}

static FollowingNext
go_on_connecting(DatabaseSlot *slot, SourceWait waits_for[REACHING_SOCKETS])
{
	switch (reaching_some(&source, waits_for))
	{
		case SOURCE_WAITS:
			return FOLLOWING_WAITS;
		case SOURCE_FAILED:
			return lost(slot);
		case SOURCE_READY:
			break;
	}
	follower_set_host(slot, source_host(&source));
	if (source_settle(&source) == SOURCE_FAILED)
		return lost(slot);
	phase = PHASE_SETTLING;
	return FOLLOWING_AGAIN;
}

/* What is the end of the log here, and the state behind it? */
static bool
look_here(DatabaseSlot *slot)
{
	PublishedState published;
	LogAccess	access;
	MachineState base;
	uint64		end;

	if (!start_transaction(slot))
		return false;
	database_read(slot, &published);
	log_access_begin(&access, ACCESS_SNAPSHOTS | ACCESS_IDENTITY, ACCESS_LATEST);
	snapshots_begin(&access, &base);
	end = (uint64) log_last_index(&access);
	begins = base.last_applied_index;
	virgin = end == 0 &&
		(base.last_applied_index == 0 ||
		 base.last_applied_index == (uint64) following.first_base);
	if (end == 0)
		here = base;
	else
		states_find(&access, end, &published.machine, &here);
	identified = named = identity_of_log(&access, &identity);
	log_access_end(&access);
	end_transaction();
	return true;
}

static FollowingNext
compare(DatabaseSlot *slot)
{
	char		sql[NAMEDATALEN * 2 + 200];

	if (!look_here(slot))
		return FOLLOWING_GONE;
	pgstat_report_activity(STATE_RUNNING, "comparing digests with the source");
	if (logged == FOLLOWER_NONE)
		follower_set_state(slot, FOLLOWER_COMPARING);
	snprintf(sql, sizeof(sql), "SELECT * FROM %s.seq_feed_state(" UINT64_FORMAT ")",
			 schema, here.last_applied_index);
	return ask(slot, sql, PHASE_COMPARING);
}

/* What people call us. */
static char *
own_name(void)
{
	char		host[256] = "";

	(void) gethostname(host, sizeof(host) - 1);
	/* names of databases are in whatever encoding */
	return source_text(psprintf("%.100s/%.80s", cluster_name != NULL && cluster_name[0] != '\0' ? cluster_name : host,
								database_name));
}

/*
 * Where we are, as the arguments of seq_feed_note().  The base may not have been taken up
 * by the applier.
 */
static char *
own_position(DatabaseSlot *slot)
{
	PublishedState published;

	database_read(slot, &published);
	return psprintf("'%s', %s, " UINT64_FORMAT, identity_text(&following.id),
					quote_literal_cstr(own_name()),
					Max(published.machine.last_applied_index, begins));
}

/* Tell the source where we are. */
static FollowingNext
note(DatabaseSlot *slot)
{
	PublishedState published;

	database_read(slot, &published);
	if (published.machine.last_applied_index == here.last_applied_index &&
		published.machine.digest != here.digest)
		return fail(slot, FOLLOWER_OTHER_HISTORY,
					psprintf("what was applied here at log_index " UINT64_FORMAT " is not what the source has sent",
							 here.last_applied_index),
					"the log here was changed: begin anew in an empty database");
	note_due = clock_ms() + NOTE_INTERVAL_MS;
	return ask(slot, psprintf("SELECT %s.seq_feed_note(%s)", schema, own_position(slot)),
			   PHASE_NOTING);
}

static FollowingNext
ask_for_more(DatabaseSlot *slot, uint64 behind)
{
	char		sql[NAMEDATALEN * 2 + 300];

	snprintf(sql, sizeof(sql),
			 "COPY (SELECT * FROM %s.seq_feed(" UINT64_FORMAT ", %d, '%d ms')) TO STDOUT (FORMAT binary)",
			 schema, behind, FEED_BYTES, (int) FEED_WAIT_MS);
	copying = false;
	return ask(slot, sql, PHASE_FEEDING);
}

/* An answer that is an error: the source does not serve us, or has not enough to. */
static FollowingNext
refused(DatabaseSlot *slot, PGresult *result)
{
	const char *code = PQresultErrorField(result, PG_DIAG_SQLSTATE);
	const char *primary = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
	ExecStatusType status = PQresultStatus(result);
	char	   *message;
	bool		passing;
	bool		again;

	if (code == NULL || primary == NULL)
	{
		PQclear(result);
		return result != NULL && status == PGRES_FATAL_ERROR ? lost(slot) : not_ours(slot);
	}
	message = psprintf("the source answers: %s", source_text(primary));
	/* of the server that shuts down, starts up, or needs its rows, or has them locked */
	passing = strncmp(code, "57", 2) == 0 || strncmp(code, "40", 2) == 0 ||
		strncmp(code, "08", 2) == 0 || strncmp(code, "53", 2) == 0 ||
		strcmp(code, "55P03") == 0;
	/* what is wrong with the logs is seen when they are compared; if not, this is it */
	again = phase == PHASE_FEEDING && strcmp(code, "55000") == 0 && !asked_again;
	PQclear(result);
	if (again)
	{
		asked_again = true;
		rest(MOST_REST_MS);
		return FOLLOWING_AGAIN;
	}
	return fail(slot, passing ? FOLLOWER_UNREACHABLE : FOLLOWER_REFUSED, message,
				passing ? NULL :
				"the role needs EXECUTE on seq_feed, seq_feed_state and seq_feed_note there, with calvin_seq preloaded");
}

/* The rows that the source was asked for; false if there are none, and what is next then. */
static bool
get_rows(DatabaseSlot *slot, SourceWait *wait, PGresult **result, FollowingNext *next)
{
	switch (source_results(&source, result))
	{
		case SOURCE_WAITS:
			*next = waits(slot, wait);
			return false;
		case SOURCE_FAILED:
			PQclear(*result);
			*next = lost(slot);
			return false;
		case SOURCE_READY:
			break;
	}
	if (PQresultStatus(*result) == PGRES_TUPLES_OK)
		return true;
	*next = refused(slot, *result);
	return false;
}

static FollowingNext
settled(DatabaseSlot *slot, SourceWait *wait)
{
	PGresult   *result;
	FollowingNext next;
	bool		none;
	char	   *name;

	if (!get_rows(slot, wait, &result, &next))
		return next;
	none = PQntuples(result) == 0;
	name = source_schema(result);
	PQclear(result);
	if (none)
		return fail(slot, FOLLOWER_REFUSED,
					pstrdup("the source has no extension calvin_seq in that database"),
					"see to it that the connection leads to the right database");
	if (name == NULL)
		return not_ours(slot);
	strlcpy(schema, name, sizeof(schema));
	noted_once = compared_since = false;
	return compare(slot);
}

static FollowingNext
noted(DatabaseSlot *slot, SourceWait *wait)
{
	PGresult   *result;
	FollowingNext next;
	const char *answer;
	bool		valid;
	bool		stored;

	if (!get_rows(slot, wait, &result, &next))
		return next;
	valid = source_value(result, 1, 0, &answer);
	stored = valid && strcmp(answer, "t") == 0;
	PQclear(result);
	if (!valid)
		return not_ours(slot);
	/* a standby cannot */
	if (!stored)
		noting_want(own_position(slot), &here);
	noted_once = true;
	return compared_since ? ask_for_more(slot, here.last_applied_index) : compare(slot);
}

/* Is that still what we follow?  In the transaction that has the append lock. */
static bool
follows_still(void)
{
	Following	now;

	return following_find(&now) && now.mode == FOLLOWING_PULL &&
		memcmp(&now.id, &following.id, sizeof(now.id)) == 0;
}

/*
 * What an empty log gets before its first row, and one without an identity: that of the
 * source, and its base.
 */
static FollowingNext
adopt(DatabaseSlot *slot, const SourceState *there, bool with_base)
{
	const LogTable *table;
	LogIdentity self;
	bool		still;

	if (!start_transaction(slot))
		return FOLLOWING_GONE;
	table = log_table_require();
	self = log_become_worker(table);
	append_lock();
	still = follows_still();
	if (still && with_base)
	{
		if (append_committed_end() != (int64) here.last_applied_index)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("the log is not empty any more")));
		following.first_base = (int64) there->base.last_applied_index;
		snapshots_lock(table);
		following_put(&following);
	}
	if (still && there->identified && !identified)
		identity_adopt(&there->identity);
	if (still && with_base)
		snapshots_rebase(table, &there->base);
	end_transaction();
	log_become_self(&self);
	/* we begin elsewhere */
	noted_once = noted_once && !with_base;
	if (still)
		return compare(slot);
	following_forget();
	return FOLLOWING_AGAIN;
}

/* Nothing is wrong with the two logs as far as it was compared. */
static FollowingNext
agreed(DatabaseSlot *slot, const SourceState *there)
{
	if (!identified && there->identified)
		return adopt(slot, there, false);
	if (!noted_once)
		return note(slot);
	identified = identified || there->log_end > 0;
	follower_set_proved(slot, here.last_applied_index);
	follower_set_source_index(slot, there->applied);
	follower_set_state(slot, there->applied > here.last_applied_index ?
					   FOLLOWER_CATCHING_UP : FOLLOWER_FOLLOWING);
	ereport(LOG,
			(errmsg("calvin_seq follower: connected to %s, goes on behind log_index " UINT64_FORMAT,
					source_host(&source), here.last_applied_index),
			 errdetail("It follows %s, which has applied up to log_index " UINT64_FORMAT ".",
					   following.source, there->applied)));
	logged = FOLLOWER_NONE;
	compared_since = true;
	news_at = clock_ms();
	received_begin(&received, FEED_BYTES);
	return ask_for_more(slot, here.last_applied_index);
}

static FollowingNext
compare_with(DatabaseSlot *slot, const SourceState *there)
{
	Difference	difference;

	if (!comparing_finds(there, &following, named ? &identity : NULL, &here, &difference))
		return agreed(slot, there);
	if (difference.state == FOLLOWER_TRUNCATED && virgin)
		return adopt(slot, there, true);
	return fail(slot, difference.state, difference.message, difference.hint);
}

static FollowingNext
compared(DatabaseSlot *slot, SourceWait *wait)
{
	PGresult   *result;
	FollowingNext next;
	SourceState there;
	bool		valid;

	if (!get_rows(slot, wait, &result, &next))
		return next;
	valid = source_state_read(result, &there);
	PQclear(result);
	if (!valid)
		return not_ours(slot);
	return compare_with(slot, &there);
}

/*
 * Is what is in the log now, in this transaction, what was received?  With our triggers
 * alone it is.
 */
static void
require_stored(const MachineState *then)
{
	LogAccess	access;
	MachineState stored;

	if (log_table_require()->bare)
		return;
	log_access_begin(&access, ACCESS_SNAPSHOTS | ACCESS_IDENTITY, ACCESS_SELF);
	states_find(&access, PG_INT64_MAX, &here, &stored);
	log_access_end(&access);
	if (stored.last_applied_index != then->last_applied_index ||
		stored.digest != then->digest)
		ereport(ERROR,
				(errcode(ERRCODE_TRIGGERED_ACTION_EXCEPTION),
				 errmsg("a trigger on seq_log has changed what the source has sent"),
				 errdetail("At log_index " UINT64_FORMAT " the digest is %016llx, and that of the source %016llx.",
						   stored.last_applied_index, (unsigned long long) stored.digest,
						   (unsigned long long) then->digest)));
}

/* Put the rows into the log; false if it is gone. */
static bool
store(DatabaseSlot *slot, const MachineState *then)
{
	LogIdentity self;
	bool		still;

	pgstat_report_activity(STATE_RUNNING, "storing entries of the source");
	PAUSE_POINT("following: received");
	if (!start_transaction(slot))
		return false;
	self = log_become_worker(log_table_require());
	append_lock();
	still = follows_still();
	if (still && append_committed_end() != (int64) here.last_applied_index)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the log was changed while it follows"),
				 errdetail("It ended at log_index " UINT64_FORMAT ", and does now at " INT64_FORMAT ".",
						   here.last_applied_index, append_committed_end())));
	if (still)
	{
		append_copies(received.rows, received.n);
		require_stored(then);
		/* of ours that have been there and are back */
		if (received.nacks > 0)
			acks_remove(received.acks, received.nacks);
	}
	PAUSE_POINT("following: before the commit");
	end_transaction();
	log_become_self(&self);
	PAUSE_POINT("following: committed");
	if (!still)
	{
		following_forget();
		return true;
	}
	follower_note_stored(slot, (uint64) received.n, received.bytes,
						 received.rows[received.n - 1].appended_at);
	here = *then;
	life_succeeded();
	return true;
}

/* What was received is here now. */
static void
show_progress(DatabaseSlot *slot)
{
	follower_set_source_index(slot, received.applied_index);
	follower_set_proved(slot, here.last_applied_index);
	follower_set_state(slot, received.applied_index > here.last_applied_index ?
					   FOLLOWER_CATCHING_UP : FOLLOWER_FOLLOWING);
}

/* A feed is complete. */
static FollowingNext
fed(DatabaseSlot *slot)
{
	MachineState then = here;
	FollowingNext next = FOLLOWING_AGAIN;
	bool		huge = received.largest >= HUGE_ENTRY;
	bool		due;

	if (!received_step(&received, &then))
		return fail(slot, FOLLOWER_OTHER_HISTORY,
					psprintf("what the source has sent behind log_index " UINT64_FORMAT " does not lead to its digest at log_index " UINT64_FORMAT,
							 here.last_applied_index, received.end_index),
					"it was not stored, and is asked for again");
	if (received.n > 0 && !identified)
	{
		/* the source's log was empty, and has got its identity with these */
		received_drop(&received);
		return compare(slot);
	}
	rest_ms = 0;
	asked_again = false;
	if (received.n > 0)
		news_at = clock_ms();
	/* the source goes on while we store, unless it is to be told something else first */
	due = clock_ms() >= note_due;
	if (!huge && !due)
		next = ask_for_more(slot, then.last_applied_index);
	if (phase != PHASE_FEEDING)
		return next;
	if (received.n == 0)
		life_succeeded();
	else if (!store(slot, &then))
		return FOLLOWING_GONE;
	if (phase == PHASE_FEEDING)
		show_progress(slot);
	if (phase == PHASE_FEEDING && huge)
	{
		rest(0);
		rest_ms = 0;
	}
	received_begin(&received, FEED_BYTES);
	source_heard(&source);
	if (phase == PHASE_FEEDING && due)
		return note(slot);
	return next;
}

static FollowingNext
feed(DatabaseSlot *slot, SourceWait *wait)
{
	PGresult   *result;
	SourceStatus status;

	while (copying)
	{
		char	   *message;
		int			size;

		status = source_row(&source, &message, &size);
		if (status == SOURCE_WAITS)
			return waits(slot, wait);
		if (status == SOURCE_FAILED)
			return lost(slot);
		if (message == NULL)
			copying = false;
		else if (!received_add(&received, message, size))
			return not_ours(slot);
		CHECK_FOR_INTERRUPTS();
	}
	for (;;)
	{
		status = source_result(&source, &result);
		if (status == SOURCE_WAITS)
		{
			if (received.complete == false && received.n == 0)
				pgstat_report_activity(STATE_IDLE, "waiting for the source to apply more");
			return waits(slot, wait);
		}
		if (status == SOURCE_FAILED)
			return lost(slot);
		if (result == NULL)
			return received.complete ? fed(slot) : not_ours(slot);
		if (PQresultStatus(result) == PGRES_COPY_OUT)
		{
			PQclear(result);
			copying = true;
			return FOLLOWING_AGAIN;
		}
		if (PQresultStatus(result) != PGRES_COMMAND_OK)
			return refused(slot, result);
		PQclear(result);
	}
}

static FollowingNext
follow_some(DatabaseSlot *slot, SourceWait waits_for[FOLLOWING_SOCKETS])
{
	SourceWait *wait = &waits_for[0];

	if (!looked && !look(slot))
		return FOLLOWING_GONE;
	if (!follows)
		return FOLLOWING_NOT;
	if (following.mode != FOLLOWING_PULL)
	{
		life_succeeded();
		pgstat_report_activity(STATE_IDLE, following.mode == FOLLOWING_FED ?
							   "the log is fed by logical replication" :
							   "waiting for seq_follow() or seq_unfollow()");
		wait->socket = PGINVALID_SOCKET;
		wait->ms = -1;
		return FOLLOWING_WAITS;
	}
	switch (phase)
	{
		case PHASE_RESTING:
			return begin(slot, wait);
		case PHASE_CONNECTING:
			return go_on_connecting(slot, waits_for);
		case PHASE_SETTLING:
			return settled(slot, wait);
		case PHASE_NOTING:
			return noted(slot, wait);
		case PHASE_COMPARING:
			return compared(slot, wait);
		case PHASE_FEEDING:
			break;
	}
	return feed(slot, wait);
}

/* Another host has what this one has not: from there on. */
static FollowingNext
change_host(int turn)
{
	reaching_begin_with(turn);
	ereport(LOG,
			(errmsg("calvin_seq follower: %s has nothing new behind log_index " UINT64_FORMAT ", and another host has",
					source_host(&source), here.last_applied_index),
			 errdetail("It follows %s.", following.source)));
	rest(0);
	rest_ms = 0;
	return FOLLOWING_AGAIN;
}

/* What goes on beside the feed, by connections of its own. */
static FollowingNext
do_beside(DatabaseSlot *slot, SourceWait waits_for[FOLLOWING_SOCKETS])
{
	int			turn = reaching_turn();
	bool		more = false;

	more |= shipping_some(slot, following.conninfo, turn, &here, &waits_for[1]);
	more |= noting_some(following.conninfo, turn, &waits_for[2]);
	switch (elsewhere_some(following.conninfo, &here, news_at, &turn, &waits_for[3]))
	{
		case ELSEWHERE_WAITS:
			break;
		case ELSEWHERE_AGAIN:
			more = true;
			break;
		case ELSEWHERE_FOUND:
			return change_host(turn);
	}
	return more ? FOLLOWING_AGAIN : FOLLOWING_WAITS;
}

FollowingNext
following_some(DatabaseSlot *slot, SourceWait waits_for[FOLLOWING_SOCKETS])
{
	FollowingNext next;

	if (memory == NULL)
	{
		memory = AllocSetContextCreate(TopMemoryContext, "calvin_seq following",
									   ALLOCSET_DEFAULT_SIZES);
		scratch = AllocSetContextCreate(TopMemoryContext, "calvin_seq following, for now",
										ALLOCSET_DEFAULT_SIZES);
	}
	MemoryContextReset(scratch);
	MemoryContextSwitchTo(scratch);
	for (int i = 1; i < FOLLOWING_SOCKETS; i++)
	{
		waits_for[i].socket = PGINVALID_SOCKET;
		waits_for[i].ms = -1;
	}
	next = follow_some(slot, waits_for);
	if (compared_since && (next == FOLLOWING_AGAIN || next == FOLLOWING_WAITS) &&
		do_beside(slot, waits_for) == FOLLOWING_AGAIN)
		next = FOLLOWING_AGAIN;
	MemoryContextSwitchTo(TopMemoryContext);
	return next;
}
