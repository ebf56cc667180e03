/*
 * elsewhere.c
 *	  Whether another host has gone on, while the one that is followed has nothing new.
 *
 *	   IDLE --in time--> CONNECTING --> SETTLING --> ASKING --> IDLE
 *		^										   |
 *		+----------- for each host of several -----+
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
#include "shared/clock.h"
#include "shared/settings.h"
#include "storage/latch.h"

typedef enum Phase
{
	PHASE_IDLE,
	PHASE_CONNECTING,
	PHASE_SETTLING,
	PHASE_ASKING
} Phase;

static Source source;
static Phase phase = PHASE_IDLE;
static bool ready;			/* the socket is, for who connects */
static int	asked = 0;		/* hosts in this round; 0: none is under way */
static int64 round_ended = 0; /* as clock_ms() tells time */

void
elsewhere_ready(int events)
{
	ready = true;
	if (events & WL_SOCKET_READABLE)
		source_heard(&source);
}

void
elsewhere_stop(void)
{
	source_close(&source);
	phase = PHASE_IDLE;
	asked = 0;
}

/* With this host; the next one is asked by the next call. */
static ElsewhereNext
done(void)
{
	source_close(&source);
	phase = PHASE_IDLE;
	return ELSEWHERE_AGAIN;
}

static ElsewhereNext
waits(SourceWait *wait)
{
	if (source_is_silent(&source))
		return done();
	source_wait(&source, wait);
	return ELSEWHERE_WAITS;
}

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
	ready = false;
	if (source_start_some(&source, conninfo, turn + asked, 1) == SOURCE_FAILED)
		return done();
	phase = PHASE_CONNECTING;
	return ELSEWHERE_AGAIN;
}

static ElsewhereNext
connecting(SourceWait *wait)
{
	SourceStatus status = SOURCE_WAITS;

	if (ready)
		status = source_connect(&source);
	ready = false;
	if (status == SOURCE_WAITS)
		return waits(wait);
	if (status == SOURCE_FAILED || source_settle(&source) == SOURCE_FAILED)
		return done();
	phase = PHASE_SETTLING;
	return ELSEWHERE_AGAIN;
}

static ElsewhereNext
settled(const MachineState *here, SourceWait *wait)
{
	PGresult   *rows;
	SourceStatus status = source_results(&source, &rows);
	char	   *schema;
	char	   *sql;

	if (status == SOURCE_WAITS)
		return waits(wait);
	schema = source_schema(rows);
	PQclear(rows);
	if (status == SOURCE_FAILED || schema == NULL)
		return done();
	sql = psprintf("SELECT applied_index FROM %s.seq_feed_state(" UINT64_FORMAT ")"
				   " WHERE found_index OPERATOR(pg_catalog.=) " UINT64_FORMAT
				   " AND digest OPERATOR(pg_catalog.=) '%016llx'",
				   schema, here->last_applied_index, here->last_applied_index,
				   (unsigned long long) here->digest);
	if (source_send(&source, sql) == SOURCE_FAILED)
		return done();
	phase = PHASE_ASKING;
	return ELSEWHERE_AGAIN;
}

static ElsewhereNext
answered(const MachineState *here, int *turn, SourceWait *wait)
{
	PGresult   *rows;
	SourceStatus status = source_results(&source, &rows);
	uint64		applied;
	bool		more;

	if (status == SOURCE_WAITS)
		return waits(wait);
	more = source_number(rows, 1, 0, &applied) && applied > here->last_applied_index;
	PQclear(rows);
	if (status == SOURCE_FAILED || !more)
		return done();
	*turn += asked;
	elsewhere_stop();
	return ELSEWHERE_FOUND;
}

ElsewhereNext
elsewhere_some(const char *conninfo, const MachineState *here, int64 since, int *turn,
			   SourceWait *wait)
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
			return settled(here, wait);
		case PHASE_ASKING:
			return answered(here, turn, wait);
	}
	return begin(conninfo, since, *turn, wait);
}
