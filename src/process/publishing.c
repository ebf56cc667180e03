/*
 * publishing.c
 *	  Which handlers there are in a database, for who starts their workers.
 *
 * The sequencer has better things to do than to wait here, so it does not wait for long
 * for a lock, and an error here is no reason for it to stop: it looks again later.
 */
#include "compat.h"

#include "access/xact.h"
#include "log/definitions.h"
#include "log/table.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "process/permitted.h"
#include "process/publishing.h"
#include "shared/clock.h"
#include "shared/handler_slot.h"
#include "storage/lwlock.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/wait_event.h"

/* How long a lock is waited for, and when it is tried again after an error. */
#define LOCK_PATIENCE "100ms"
#define MIN_RETRY_MS 500
#define MAX_RETRY_MS 60000

static bool due = true;
static int64 not_before = 0;
static int	retry_ms = 0;

/* As many workers of a definition as there can be at most. */
static int
workers_of(const HandlerDefinition *definition)
{
	return Min(definition->workers, calvin_max_handlers);
}

/* A task for each worker of a definition. */
static int
add_tasks(const HandlerDefinition *definition, HandlerTask *tasks, int n)
{
	for (int i = 0; i < workers_of(definition); i++)
	{
		HandlerTask *task = &tasks[n++];

		memset(task, 0, sizeof(*task));
		task->database = MyDatabaseId;
		task->role = definition->role;
		task->name = definition->name;
		task->id = definition->id;
		task->definition = definition->definition;
		task->number = i;
	}
	return n;
}

static void
publish(DatabaseSlot *slot)
{
	HandlerDefinition *definitions = NULL;
	HandlerTask *tasks;
	int			ndefinitions = 0;
	int			most = 0;
	int			n = 0;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	/* whoever has changed something tells before his invalidations are sent */
	InvalidateSystemCaches();
	(void) set_config_option("lock_timeout", LOCK_PATIENCE, PGC_SUSET, PGC_S_SESSION,
							 GUC_ACTION_LOCAL, true, 0, false);
	if (log_table_find() != NULL)
		ndefinitions = definitions_list(&definitions);
	for (int i = 0; i < ndefinitions; i++)
		most += workers_of(&definitions[i]);
	tasks = palloc(sizeof(HandlerTask) * Max(most, 1));
	for (int i = 0; i < ndefinitions; i++)
	{
		HandlerFunction function;
		HandlerRefusal refusal;

		if (handler_permitted(&definitions[i], &function, &refusal) &&
			handler_has_group(&definitions[i], &refusal))
			n = add_tasks(&definitions[i], tasks, n);
	}
	handler_slots_publish(slot, tasks, n, ndefinitions > 0);
	CommitTransactionCommand();
}

/* As after an error of the sequencer, but for its rest. */
static void
clean_up(void)
{
	HOLD_INTERRUPTS();
	EmitErrorReport();
	AbortOutOfAnyTransaction();
	LWLockReleaseAll();
	pgstat_report_wait_end();
	FlushErrorState();
	MemoryContextSwitchTo(TopMemoryContext);
	RESUME_INTERRUPTS();
}

bool
publishing_serve(DatabaseSlot *slot, long *wait_ms)
{
	*wait_ms = -1;
	if (handler_slots_take_told(slot))
	{
		due = true;
		not_before = 0;
		retry_ms = 0;
	}
	if (!due)
		return false;
	if (not_before > clock_ms())
	{
		*wait_ms = (long) (not_before - clock_ms());
		return false;
	}
	PG_TRY();
	{
		publish(slot);
		due = false;
	}
	PG_CATCH();
	{
		clean_up();
		retry_ms = retry_ms == 0 ? MIN_RETRY_MS : Min(retry_ms * 2, MAX_RETRY_MS);
		not_before = clock_ms() + retry_ms;
	}
	PG_END_TRY();
	return true;
}
