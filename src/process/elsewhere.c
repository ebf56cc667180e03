/*
 * elsewhere.c
 *	  Whether another host has gone on, while the one that is followed has nothing new.
 *
 * A primary that was replaced and does not know it, since it is cut off from the others or
 * nobody is left there to tell it, answers a follower for ever that there is nothing new.
 * So where nothing has come for calvin_seq.follower_timeout each host is asked, by a
 * connection that is closed again, whether it has our log and has applied more.  A single
 * host is asked as well: an address can lead to another server than it did.
 */
#include "compat.h"

#include "process/conninfo.h"
#include "process/elsewhere.h"
#include "process/errand.h"
#include "shared/clock.h"
#include "shared/settings.h"

static Errand errand;
static int	asked = 0;		/* hosts in this round; 0: none is under way */
static int64 round_ended = 0; /* as clock_ms() tells time */

void
elsewhere_ready(int events)
{
	errand_ready(&errand, events);
}

void
elsewhere_stop(void)
{
	errand_end(&errand);
	asked = 0;
}

/* Begin with the next host, when it is time. */
static ElsewhereNext
begin(const char *conninfo, int64 since, int turn, SourceWait *wait)
{
	int64		left = Max(since, round_ended) + calvin_follower_timeout - clock_ms();

	if (asked == 0 && left > 0)
	{
		wait->ms = (long) left;
		return ELSEWHERE_WAITS;
	}
	if (asked == conninfo_hosts(conninfo))
	{
		asked = 0;
		round_ended = clock_ms();
		return ELSEWHERE_AGAIN;
	}
	asked++;
	if (source_start_some(&errand.source, conninfo, turn + asked, 1) == SOURCE_FAILED)
		errand_end(&errand);
	else
		errand_begin(&errand);
	return ELSEWHERE_AGAIN;
}

static ElsewhereNext
answered(PGresult *rows, const MachineState *here, int *turn)
{
	uint64		applied;
	bool		more = source_number(rows, 1, 0, &applied) && applied > here->last_applied_index;

	PQclear(rows);
	if (!more)
		return ELSEWHERE_AGAIN;
	*turn += asked;
	elsewhere_stop();
	return ELSEWHERE_FOUND;
}

ElsewhereNext
elsewhere_some(const char *conninfo, const MachineState *here, int64 since, int *turn,
			   SourceWait *wait)
{
	PGresult   *rows;
	char	   *text;

	wait->socket = PGINVALID_SOCKET;
	wait->ms = -1;
	if (errand.phase == ERRAND_NONE)
		return begin(conninfo, since, *turn, wait);
	switch (errand_some(&errand, &rows, &text, wait))
	{
		case ERRAND_WAITS:
			return ELSEWHERE_WAITS;
		case ERRAND_ARRIVED:
			errand_ask(&errand, text, "applied_index", here);
			break;
		case ERRAND_ANSWERED:
			return answered(rows, here, turn);
		case ERRAND_AGAIN:
		case ERRAND_FAILED:
			break;
	}
	return ELSEWHERE_AGAIN;
}
