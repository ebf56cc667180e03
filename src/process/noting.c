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
#include "utils/builtins.h"

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
static bool complained = false;

void
noting_want(const char *arguments)
{
	strlcpy(wanted, arguments, sizeof(wanted));
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

/* The answer: a value, or NULL and what there is to be done instead. */
static char *
take_value(SourceWait *wait, bool *again)
{
	PGresult   *row;
	SourceStatus status = source_results(&source, &row);
	char	   *value = NULL;

	*again = false;
	if (status == SOURCE_WAITS)
	{
		*again = waits(wait);
		return NULL;
	}
	if (status == SOURCE_READY && PQresultStatus(row) == PGRES_TUPLES_OK &&
		PQntuples(row) == 1 && PQnfields(row) == 1)
		value = pstrdup(PQgetvalue(row, 0, 0));
	else if (row != NULL && PQresultErrorField(row, PG_DIAG_MESSAGE_PRIMARY) != NULL)
		*again = fail(PQresultErrorField(row, PG_DIAG_MESSAGE_PRIMARY));
	else
		*again = fail(source_error(&source));
	PQclear(row);
	return value;
}

static bool
settled(SourceWait *wait)
{
	bool		again;
	char	   *schema = take_value(wait, &again);

	if (schema == NULL)
		return again;
	if (source_send(&source, psprintf("SELECT %s.seq_feed_note(%s)",
									  quote_identifier(schema), wanted)) == SOURCE_FAILED)
		return fail(source_error(&source));
	phase = PHASE_NOTING;
	return true;
}

static bool
noted(SourceWait *wait)
{
	bool		again;
	char	   *stored = take_value(wait, &again);

	if (stored == NULL)
		return again;
	if (strcmp(stored, "t") != 0)
		return fail("It has less of the log than there is here.");
	complained = false;
	end();
	return false;
}

bool
noting_some(const char *conninfo, SourceWait *wait)
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
	if (source_start_primary(&source, conninfo) == SOURCE_FAILED)
		return fail(source_error(&source));
	phase = PHASE_CONNECTING;
	return true;
}
