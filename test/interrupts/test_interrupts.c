/*
 * test_interrupts.c
 *	  How long a session works without looking for interrupts.
 *
 * Every few milliseconds of processor time a signal looks at InterruptPending: if it
 * is clear it is set, and the next CHECK_FOR_INTERRUPTS() of anybody, ours or the
 * server's, clears it.  How long that took is noted, with where the program was when it
 * became longer than ever.
 */
#include "postgres.h"

#include <execinfo.h>
#include <signal.h>
#include <time.h>

#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(interrupts_watch);
PG_FUNCTION_INFO_V1(interrupts_longest);
PG_FUNCTION_INFO_V1(interrupts_where);

#define TICK_NS 1000000
#define MAX_FRAMES 40

static timer_t timer;
static bool watching = false;
static volatile int64 set_at;	/* ns of processor time; 0: not set by us */
static volatile int64 longest;
static void *frames[MAX_FRAMES];
static int	nframes;

static int64
cpu_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return now.tv_sec * INT64CONST(1000000000) + now.tv_nsec;
}

static void
tick(int signo)
{
	int			saved = errno;
	int64		now = cpu_ns();

	if (InterruptPending && set_at != 0)
	{
		if (now - set_at > longest)
		{
			longest = now - set_at;
			nframes = backtrace(frames, MAX_FRAMES);
		}
	}
	else
	{
		set_at = now;
		InterruptPending = true;
	}
	errno = saved;
}

static void
set_timer(bool on)
{
	struct itimerspec every = {{0, on ? TICK_NS : 0}, {0, on ? TICK_NS : 0}};

	if (timer_settime(timer, 0, &every, NULL) != 0)
		elog(ERROR, "timer_settime: %m");
}

/* interrupts_watch(): begin anew */
Datum
interrupts_watch(PG_FUNCTION_ARGS)
{
	if (!watching)
	{
		struct sigaction action;
		struct sigevent event;

		/* it loads a library the first time */
		nframes = backtrace(frames, MAX_FRAMES);
		memset(&action, 0, sizeof(action));
		action.sa_handler = tick;
		action.sa_flags = SA_RESTART;
		memset(&event, 0, sizeof(event));
		event.sigev_notify = SIGEV_SIGNAL;
		event.sigev_signo = SIGRTMIN;
		if (sigaction(SIGRTMIN, &action, NULL) != 0 ||
			timer_create(CLOCK_PROCESS_CPUTIME_ID, &event, &timer) != 0)
			elog(ERROR, "timer_create: %m");
		watching = true;
	}
	set_timer(false);
	longest = 0;
	nframes = 0;
	set_at = 0;
	set_timer(true);
	PG_RETURN_VOID();
}

/* interrupts_longest() -> float8: ms, and that is the end of it */
Datum
interrupts_longest(PG_FUNCTION_ARGS)
{
	if (watching)
		set_timer(false);
	PG_RETURN_FLOAT8(longest / 1e6);
}

/* interrupts_where() -> text: the functions that it was in */
Datum
interrupts_where(PG_FUNCTION_ARGS)
{
	char	  **names = backtrace_symbols(frames, nframes);
	StringInfoData where;

	initStringInfo(&where);
	for (int i = 0; i < nframes; i++)
		appendStringInfo(&where, "%s\n", names[i]);
	free(names);
	PG_RETURN_TEXT_P(cstring_to_text(where.data));
}
