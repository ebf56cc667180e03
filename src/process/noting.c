/*
 * noting.c
 *	  A follower of a standby tells the standby's primary where it is.
 *
 *	   IDLE --> CONNECTING --> SETTLING --> NOTING --> IDLE
 *
 * A standby cannot store it, and its primary would truncate what the follower has not got.
 * The standby cannot pass it on either, since it may not log in there.  So the follower
 * does, if one of its hosts is a primary, by a connection that is closed again.  Whoever
 * has named the standby alone is told so, once, and goes on following.
 */
#include "compat.h"

#include "process/noting.h"
#include "storage/latch.h"

typedef enum Phase
{
	PHASE_IDLE,
	PHASE_CONNECTING,
	PHASE_SETTLING,
	PHASE_NOTING
} Phase;

static Source source;
static Phase phase = PHASE_IDLE;
static bool ready;			/* the socket is, for who connects */
static char wanted[1000];	/* empty: nothing is to be told */
static MachineState stored; /* behind our last row, for it to be told who has it as well */
static bool complained = false;

void
noting_want(const char *arguments, const MachineState *here)
{
	strlcpy(wanted, arguments, sizeof(wanted));
	stored = *here;
}

void
noting_ready(int events)
{
	ready = true;
	if (events & WL_SOCKET_READABLE)
		source_heard(&source);
}

/* Until it is wanted again. */
static void
end(void)
{
	source_close(&source);
	phase = PHASE_IDLE;
	wanted[0] = '\0';
}

void
noting_forget(void)
{
	end();
	complained = false;
}

static bool
fail(const char *why)
{
	if (!complained)
		ereport(LOG,
				(errmsg("calvin_seq follower: the primary of the standby that is followed is not told how far the log has come here"),
				 errdetail("%s", why),
				 errhint("Have the primary among the hosts of the connection string: until then its truncation does not heed this follower.")));
	complained = true;
	end();
	return false;
}

static bool
waits(SourceWait *wait)
{
	if (source_is_silent(&source))
		return fail(source_error(&source));
	source_wait(&source, wait);
	return false;
}

static bool
connecting(SourceWait *wait)
{
	SourceStatus status = SOURCE_WAITS;

	if (ready)
		status = source_connect(&source);
	ready = false;
	if (status == SOURCE_WAITS)
		return waits(wait);
	if (status == SOURCE_FAILED || source_settle(&source) == SOURCE_FAILED)
		return fail(source_error(&source));
	phase = PHASE_SETTLING;
	return true;
}

/* A result with rows, or none and what there is to be done instead. */
static bool
take_rows(SourceWait *wait, PGresult **rows, bool *again)
{
	SourceStatus status = source_results(&source, rows);
	const char *error;

	if (status == SOURCE_WAITS)
	{
		*again = waits(wait);
		return false;
	}
	if (status == SOURCE_READY && PQresultStatus(*rows) == PGRES_TUPLES_OK)
		return true;
	error = PQresultErrorField(*rows, PG_DIAG_MESSAGE_PRIMARY);
	*again = fail(error != NULL ? source_text(error) : source_error(&source));
	PQclear(*rows);
	return false;
}

static bool
settled(SourceWait *wait)
{
	PGresult   *rows;
	bool		again;
	char	   *schema;
	char	   *sql;

	if (!take_rows(wait, &rows, &again))
		return again;
	schema = source_schema(rows);
	PQclear(rows);
	if (schema == NULL)
		return fail("It does not answer as this version does.");
	/* nothing where the log is another one: it would heed us for nothing */
	sql = psprintf("SELECT %s.seq_feed_note(%s) FROM %s.seq_feed_state(" UINT64_FORMAT ")"
				   " WHERE found_index OPERATOR(pg_catalog.=) " UINT64_FORMAT
				   " AND digest OPERATOR(pg_catalog.=) '%016llx'",
				   schema, wanted, schema, stored.last_applied_index,
				   stored.last_applied_index, (unsigned long long) stored.digest);
	if (source_send(&source, sql) == SOURCE_FAILED)
		return fail(source_error(&source));
	phase = PHASE_NOTING;
	return true;
}

static bool
noted(SourceWait *wait)
{
	PGresult   *rows;
	bool		again;
	bool		noted;
	const char *answer;

	if (!take_rows(wait, &rows, &again))
		return again;
	noted = source_value(rows, 1, 0, &answer) && strcmp(answer, "t") == 0;
	PQclear(rows);
	if (!noted)
		return fail("It has another log, or less of it than there is here.");
	complained = false;
	end();
	return false;
}

bool
noting_some(const char *conninfo, int turn, SourceWait *wait)
{
	wait->socket = PGINVALID_SOCKET;
	wait->ms = -1;
	switch (phase)
	{
		case PHASE_IDLE:
			break;
		case PHASE_CONNECTING:
			return connecting(wait);
		case PHASE_SETTLING:
			return settled(wait);
		case PHASE_NOTING:
			return noted(wait);
	}
	if (wanted[0] == '\0')
		return false;
	ready = false;
	if (source_start_primary(&source, conninfo, turn) == SOURCE_FAILED)
		return fail(source_error(&source));
	phase = PHASE_CONNECTING;
	return true;
}
