/*
 * retention.c
 *	  Removing what is older than calvin_seq.retention, and needed by nobody.
 *
 * The sequencer does it in between, since it is there on a primary alone and may be
 * late for a moment.  It goes by short steps, each a transaction, which wait for nobody:
 * whoever is in the way is left alone until the next time.  What is too young tells when
 * to come back; where there is nothing left to remove, nothing can become due before an
 * entry that is appended now is old enough.
 */
#include "compat.h"

#include <limits.h>

#include "access/xact.h"
#include "consumer/truncation.h"
#include "libpq/pqsignal.h"
#include "log/table.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "process/life.h"
#include "process/retention.h"
#include "shared/clock.h"
#include "shared/settings.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* From one look to the next where somebody is in the way, or new things get old. */
#define LEAST_INTERVAL_MS 1000
#define MOST_INTERVAL_MS 10000

/* Appended with a time in the past, something may be due without a sign. */
#define LONGEST_WAIT_MS (60 * 60 * 1000)

/* After errors, doubling. */
#define MOST_RETRY_MS (10 * 60 * 1000)

/* A lock that is not had by then is somebody's who is in the way. */
#define LOCK_TIMEOUT "100ms"

/* Of its time a busy worker gives so much, at most. */
#define BUSY_FACTOR 10

static int64 due = 0;			/* as clock_ms() tells time */
static int	retention = 0;		/* the settings that goes by */
static int	max_consumer_lag = 0;
static int	failures = 0;

static int64
interval_ms(void)
{
	int64		interval = (int64) calvin_retention * 1000 / 20;

	return Min(Max(interval, LEAST_INTERVAL_MS), MOST_INTERVAL_MS);
}

static TruncationStep
run_step(DatabaseSlot *slot, TimestampTz *too_young)
{
	TruncationStep step = TRUNCATION_DONE;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	(void) set_config_option("lock_timeout", LOCK_TIMEOUT, PGC_SUSET, PGC_S_SESSION,
							 GUC_ACTION_LOCAL, true, 0, false);
	/* for SQL in what the owner of our tables may have attached to them */
	PushActiveSnapshot(GetTransactionSnapshot());
	pgstat_report_activity(STATE_RUNNING, "removing what is older than calvin_seq.retention");
	/* where it is gone, the worker's own duty tells */
	if (log_table_find() != NULL)
		step = truncation_step(slot, GetCurrentTimestamp() -
							   calvin_retention * USECS_PER_SEC, too_young);
	PopActiveSnapshot();
	CommitTransactionCommand();
	pgstat_report_stat(false);
	return step;
}

static bool
is_expected(int sqlerrcode)
{
	return sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE ||
		sqlerrcode == ERRCODE_QUERY_CANCELED ||
		sqlerrcode == ERRCODE_T_R_SERIALIZATION_FAILURE ||
		sqlerrcode == ERRCODE_T_R_DEADLOCK_DETECTED;
}

/* Somebody in the way may end with an error as well; false after another one. */
static bool
try_step(DatabaseSlot *slot, TruncationStep *step, TimestampTz *too_young)
{
	volatile bool succeeded = true;

	*step = TRUNCATION_HELD;
	/* the server ends a wait for a lock by that signal, which is ignored else */
	pqsignal(SIGINT, StatementCancelHandler);
	PG_TRY();
	{
		*step = run_step(slot, too_young);
	}
	PG_CATCH();
	{
		if (is_expected(geterrcode()))
			life_clean_up_quietly();
		else
		{
			succeeded = false;
			life_clean_up();
		}
	}
	PG_END_TRY();
	pqsignal(SIGINT, COMPAT_SIG_IGN);
	QueryCancelPending = false;
	return succeeded;
}

/* In how many ms to look again. */
static int64
next_look(TruncationStep step, TimestampTz too_young)
{
	int64		wait = (int64) calvin_retention * 1000;

	if (step == TRUNCATION_HELD)
		return interval_ms();
	if (too_young != 0)
		wait -= (GetCurrentTimestamp() - too_young) / 1000;
	return Min(Max(wait + 1, interval_ms()), LONGEST_WAIT_MS);
}

bool
retention_serve(DatabaseSlot *slot, bool busy, long *wait_ms)
{
	int64		start = clock_ms();
	TruncationStep step;
	TimestampTz too_young = 0;

	*wait_ms = -1;
	if (calvin_retention == 0)
	{
		retention = 0;
		return false;
	}
	if (retention != calvin_retention || max_consumer_lag != calvin_max_consumer_lag)
	{
		retention = calvin_retention;
		max_consumer_lag = calvin_max_consumer_lag;
		due = failures = 0;
	}
	if (start < due)
	{
		*wait_ms = (long) Min(due - start, INT_MAX);
		return false;
	}

	if (!try_step(slot, &step, &too_young))
	{
		int64		retry = (int64) LEAST_INTERVAL_MS << Min(failures, 20);

		failures++;
		due = clock_ms() + Min(retry, MOST_RETRY_MS);
	}
	else
	{
		failures = 0;
		if (step != TRUNCATION_MORE)
			due = clock_ms() + next_look(step, too_young);
		else if (busy)
			due = clock_ms() + (clock_ms() - start) * BUSY_FACTOR;
	}
	*wait_ms = 0;
	return true;
}
