/*
 * reaching.c
 *	  A follower's way to its source, which may be any of several hosts.
 *
 * libpq tries one host after the other, and waits for one that is silent, since it has lost
 * its power or is cut off, for all of connect_timeout.  Meanwhile another one may have been
 * promoted.  So where a host lets us wait, a scout is sent to those behind it, again and
 * again; whichever of the two is there first is the source.  The host that is waited for
 * keeps its time, for it may only be far away.
 */
#include "compat.h"

#include "process/conninfo.h"
#include "process/reaching.h"
#include "shared/clock.h"
#include "storage/latch.h"

/* A host that lets us wait so long is not waited for alone. */
#define ALONE_MS 200

/* What the scout waits for one host, and what it rests behind the last. */
#define SCOUT_HOST_MS 1000
#define SCOUT_REST_MS 300

static int	turn = 0;
static bool ready[REACHING_SOCKETS];
static const char *to;			/* the connection string */
static int	nhosts = 1;			/* that it leads to */
static Source scout;
static int	scout_turn;
static int64 scout_due;			/* as clock_ms() tells time */
static char waited_for[sizeof(scout.tried)]; /* by the source, when the scout was sent */

int
reaching_turn(void)
{
	return turn;
}

void
reaching_ready(int which)
{
	ready[which] = true;
}

void
reaching_stop(void)
{
	source_close(&scout);
}

void
reaching_pass_over(const Source *source)
{
	turn = (turn + source->passed + 1) % nhosts;
}

void
reaching_begin_with(int first)
{
	turn = first % nhosts;
}

SourceStatus
reaching_start(Source *source, const char *conninfo)
{
	reaching_stop();
	ready[0] = false;
	to = conninfo;
	nhosts = conninfo_hosts(conninfo);
	waited_for[0] = '\0';
	return source_start(source, conninfo, turn);
}

/* Go on with one of the two. */
static SourceStatus
go_on(Source *source, int which, SourceWait *wait)
{
	SourceStatus status = SOURCE_WAITS;

	if (ready[which])
	{
		ready[which] = false;
		status = source_connect(source);
	}
	if (status == SOURCE_WAITS && source_is_silent(source))
		return SOURCE_FAILED;
	if (status == SOURCE_WAITS)
		source_wait(source, wait);
	return status;
}

static void
scout_rest(void)
{
	source_close(&scout);
	scout_due = clock_ms() + SCOUT_REST_MS;
}

/*
 * To the hosts from one on, and not as far as the one that is waited for: while it looks
 * for a standby, say, libpq would come to that before it takes another server.
 */
static SourceStatus
scout_send(const Source *source, int from)
{
	int			left = nhosts - (from - (turn + source->passed)) % nhosts;

	scout_turn = from;
	ready[1] = false;
	if (source_start_some(&scout, to, from, left) == SOURCE_FAILED)
		return SOURCE_FAILED;
	source_hurry(&scout, SCOUT_HOST_MS);
	return SOURCE_WAITS;
}

/*
 * To the host behind the one that it is at, unless it has come round: twice, since hosts
 * that refuse at once are not counted as passed.
 */
static SourceStatus
scout_go_on(const Source *source)
{
	int			next = scout_turn + scout.passed + 1;

	if (next - (turn + source->passed) >= 2 * nhosts)
		return SOURCE_FAILED;
	return scout_send(source, next);
}

/* Those hosts that are behind the one that "source" waits for. */
static SourceStatus
scout_some(const Source *source, SourceWait *wait)
{
	SourceStatus status = SOURCE_WAITS;

	if (!source_is_open(&scout))
	{
		if (clock_ms() >= scout_due)
			status = scout_send(source, turn + source->passed + 1);
	}
	else
	{
		status = go_on(&scout, 1, wait);
		if (status == SOURCE_READY)
			return status;
		if (status == SOURCE_FAILED && scout.silent)
			status = scout_go_on(source);
	}
	/* it may have begun with the same one */
	while (status == SOURCE_WAITS && source_is_open(&scout) &&
		   strcmp(scout.tried, source->tried) == 0)
		status = scout_go_on(source);
	if (status == SOURCE_FAILED)
		scout_rest();
	if (source_is_open(&scout))
		source_wait(&scout, wait);
	else
	{
		wait->socket = PGINVALID_SOCKET;
		wait->ms = (long) Max(scout_due - clock_ms(), 0);
	}
	return SOURCE_WAITS;
}

SourceStatus
reaching_some(Source *source, SourceWait waits_for[REACHING_SOCKETS])
{
	SourceStatus status = go_on(source, 0, &waits_for[0]);

	if (status == SOURCE_WAITS && nhosts > 1)
	{
		/* each host has some time alone */
		if (strcmp(waited_for, source->tried) != 0)
		{
			strlcpy(waited_for, source->tried, sizeof(waited_for));
			source_close(&scout);
			scout_due = clock_ms() + ALONE_MS;
		}
		if (scout_some(source, &waits_for[1]) == SOURCE_WAITS)
			return SOURCE_WAITS;
		source_close(source);
		*source = scout;
		memset(&scout, 0, sizeof(scout));
		/* where the other connections begin, too */
		turn = scout_turn;
		return SOURCE_READY;
	}
	if (status != SOURCE_WAITS)
		reaching_stop();
	/* the next attempt begins behind it */
	if (status == SOURCE_FAILED && source->silent)
		reaching_pass_over(source);
	return status;
}
