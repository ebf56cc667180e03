/*
 * noting.c
 *	  A follower of a standby tells the standby's primary where it is.
 *
 * A standby cannot store it, and its primary would truncate what the follower has not got.
 * The standby cannot pass it on either, since it may not log in there.  So the follower
 * does, if one of its hosts is a primary, by a connection that is closed again.  Whoever
 * has named the standby alone is told so, once, and goes on following.
 */
#include "compat.h"

#include "process/errand.h"
#include "process/noting.h"

static Errand errand;
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
	errand_ready(&errand, events);
}

/* Until it is wanted again. */
static void
end(void)
{
	errand_end(&errand);
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
noted(PGresult *rows)
{
	const char *answer;
	bool		stored_there = source_value(rows, 1, 0, &answer) && strcmp(answer, "t") == 0;

	PQclear(rows);
	if (!stored_there)
		return fail("It has another log, or less of it than there is here.");
	complained = false;
	end();
	return false;
}

bool
noting_some(const char *conninfo, int turn, SourceWait *wait)
{
	PGresult   *rows;
	char	   *text;

	wait->socket = PGINVALID_SOCKET;
	wait->ms = -1;
	if (errand.phase == ERRAND_NONE)
	{
		if (wanted[0] == '\0')
			return false;
		if (source_start_primary(&errand.source, conninfo, turn) == SOURCE_FAILED)
			return fail(source_error(&errand.source));
		errand_begin(&errand);
		return true;
	}
	switch (errand_some(&errand, &rows, &text, wait))
	{
		case ERRAND_WAITS:
			return false;
		case ERRAND_AGAIN:
			break;
		case ERRAND_ARRIVED:
			/* nothing where the log is another one: it would heed us for nothing */
			errand_ask(&errand, text, psprintf("%s.seq_feed_note(%s)", text, wanted), &stored);
			break;
		case ERRAND_ANSWERED:
			return noted(rows);
		case ERRAND_FAILED:
			return fail(text);
	}
	return true;
}
