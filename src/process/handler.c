/*
 * handler.c
 *	  The worker that calls a function for what a group fetches.
 *
 * It connects as the role that has asked for it, with that role's settings, and never
 * is more.  Each transaction fetches for the group, calls the function and moves the
 * group's positions: so what the function has done is there once, or not at all.
 *
 * An error undoes the transaction.  The partitions it was about then go on singly, a
 * transaction at a time, until as many have succeeded as had been fetched; so the one
 * that fails is found.  What fails is noted with the position of its partition, in a
 * transaction of its own, and tried again later each time; after max_attempts it is
 * parked.  Other partitions go on meanwhile.
 *
 * A function that takes the worker, or the server, with it leaves no error.  So a
 * partition goes on singly in each new worker too, and before the function is called
 * for one of those, the attempt is noted and committed; it is taken back with what
 * succeeds.
 *
 * Nothing is held while there is nothing to do: the worker waits outside of a
 * transaction.
 */
#include "compat.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "consumer/fetch.h"
#include "consumer/parking.h"
#include "libpq/pqsignal.h"
#include "log/attach.h"
#include "log/table.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "process/calling.h"
#include "process/worker.h"
#include "shared/clock.h"
#include "shared/fetchers.h"
#include "shared/handler_slot.h"
#include "shared/pause.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

/* Between attempts at a transaction: doubling from the first to the last. */
#define FIRST_RETRY_MS 100
#define LAST_RETRY_MS 60000

/* After an error that has nothing to do with a transaction. */
#define REST_MS 1000
#define LONGEST_REST_MS 30000

/* So often in a row a serialization failure is no attempt. */
#define SERIALIZATION_RETRIES 10

/* All of this is of this process, and in TopMemoryContext. */
static HandlerArgs args;
static HandlerWanted wanted;
static DatabaseSlot *slot;
static uint64 mask[FETCH_MASK_WORDS]; /* the group's vshards */
static bool known = false;	/* the three below, and mask, are filled in */
static int	partitions;
static int *singly;			/* how many of a partition are to be done one by one */
static bool *avoid;
static TimestampTz next_retry; /* of what was passed over, 0: none */
static int	conflicts = 0;	/* serialization failures in a row */
static int	rest_ms = 0;

/* What the transaction under way is about, for when it fails. */
typedef struct Attempt
{
	bool		calling;	/* it has come to the function */
	bool		noted;		/* the attempt was committed before */
	int			n;
	int			max_attempts;
	int		   *rows;		/* by partition */
	int			partition;	/* of a single one */
	GroupKey	key;
} Attempt;

static Attempt attempt;

static void
leave_slot(int code, Datum arg)
{
	fetchers_leave(false);
	handler_slots_leave(args.slot, code != 0);
}

/* Commands that need us to leave, changed settings. */
static void
serve_signals(void)
{
	CHECK_FOR_INTERRUPTS();
	if (handler_slots_stop_asked(args.slot))
		proc_exit(0);
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
}

static void
begin_transaction(void)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
}

/*
 * What is to be called now.  The sequencer has looked before this worker was started;
 * if that has changed, it is told to look again, and this worker is done.
 */
static FetchGroup *
find_work(HandlerDefinition *definition, Oid *function, HandlerForm *form)
{
	FetchGroup *group = NULL;
	Registration **registrations;
	int			n = registry_list(&registrations);

	for (int i = 0; i < n; i++)
		if (registrations[i]->id == wanted.group)
			group = group_require(NameStr(registrations[i]->name));
	if (group == NULL || group->id != wanted.group ||
		!handlers_find(wanted.group, definition) ||
		definition->definition != wanted.definition ||
		handlers_resolve(definition, function, form) != NULL)
	{
		AbortCurrentTransaction();
		handler_slots_note_changed(MyDatabaseId);
		proc_exit(0);
	}
	return group;
}

/* Once: which vshards the group has, and that nothing is known of its partitions. */
static void
get_to_know(const FetchGroup *group)
{
	MemoryContext old;

	if (known)
		return;
	old = MemoryContextSwitchTo(TopMemoryContext);
	partitions = group->partitions;
	memcpy(mask, group->mask, sizeof(mask));
	singly = palloc(sizeof(int) * partitions);
	avoid = palloc(sizeof(bool) * partitions);
	attempt.rows = palloc0(sizeof(int) * partitions);
	for (int i = 0; i < partitions; i++)
		singly[i] = 1;
	known = true;
	MemoryContextSwitchTo(old);
}

static void
begin_attempt(const HandlerDefinition *definition)
{
	attempt.calling = false;
	attempt.noted = false;
	attempt.n = 0;
	attempt.partition = -1;
	attempt.max_attempts = definition->max_attempts;
	memset(attempt.rows, 0, sizeof(int) * partitions);
}

/*
 * Fetch and call, for partitions that are to go on singly or for the others; or for
 * one of them.  Returns how many transactions were processed.
 */
static int
run(FetchGroup *group, const HandlerDefinition *definition, Oid function,
	HandlerForm form, bool one_by_one, int only)
{
	FetchRequest request = {0};
	Fetch	   *fetch;
	Calling    *calling;
	Delivery	delivery;
	int			partition;

	for (int i = 0; i < partitions; i++)
		avoid[i] = (singly[i] > 0) != one_by_one;
	request.group = group;
	request.max_txns = one_by_one ? 1 : definition->batch;
	request.deadline = 0;
	request.partition = only;
	request.avoid = only >= 0 ? NULL : avoid;
	request.heed_retries = true;
	fetch = fetch_begin(&request);
	calling = calling_begin(function, form);
	while (fetch_next(fetch, &delivery, &partition))
	{
		attempt.n++;
		attempt.rows[partition]++;
		attempt.partition = partition;
		attempt.key = (GroupKey){delivery.epoch, delivery.position, delivery.vshard};
		calling_add(calling, &delivery);
	}
	fetch_end(fetch);
	if (fetch_next_retry(fetch) != 0 &&
		(next_retry == 0 || fetch_next_retry(fetch) < next_retry))
		next_retry = fetch_next_retry(fetch);
	if (attempt.n > 0 && (!one_by_one || only >= 0))
	{
		attempt.calling = true;
		calling_call(calling);
	}
	return attempt.n;
}

/* Park what a partition, which is taken, has next; what comes then was not tried yet. */
static void
park_next(FetchGroup *group, int partition, GroupKey key, uint32 attempts,
		  const char *reason)
{
	GroupStore	store;
	GroupPosition position;

	parking_park(group, key, attempts, reason);
	(void) fetch_take(group, partition, true, &store, &position);
	position.attempts = 0;
	position.retry_at = 0;
	position.error = NULL;
	group_store_write(&store, partition, &position);
	group_store_end(&store);
}

/*
 * Note that the next one of a partition is tried; false: not any more, since it has been
 * tried too often, or another worker has done it.
 */
static bool
note_attempt(FetchGroup *group, int partition, GroupKey key, int max_attempts)
{
	static char ended[] = "the worker that ran the handler ended in it";
	GroupStore	store;
	GroupPosition position;
	bool		tried;

	(void) fetch_take(group, partition, true, &store, &position);
	tried = !group_key_less(key, position.next) &&
		(int) position.attempts < max_attempts;
	if (tried)
	{
		position.attempts++;
		position.retry_at = 0;
		position.error = ended;
		group_store_write(&store, partition, &position);
	}
	group_store_end(&store);
	if (!tried && !group_key_less(key, position.next))
		park_next(group, partition, key, position.attempts,
				  position.error != NULL ? position.error : ended);
	return tried;
}

/* The next one of a partition has failed: not before a while again, or not at all. */
static void
note_failure(FetchGroup *group, const char *message)
{
	GroupStore	store;
	GroupPosition position;
	bool		next;
	bool		park;

	(void) fetch_take(group, attempt.partition, true, &store, &position);
	next = !group_key_less(attempt.key, position.next);
	if (next && !attempt.noted)
		position.attempts++;
	park = next && (int) position.attempts >= attempt.max_attempts;
	position.retried++;
	if (next)
	{
		int64		delay = Min((int64) FIRST_RETRY_MS << Min(position.attempts - 1, 10),
								LAST_RETRY_MS);

		position.retry_at = GetCurrentTimestamp() + delay * 1000;
		position.error = pstrdup(message);
		group_store_write(&store, attempt.partition, &position);
	}
	group_store_end(&store);
	if (park)
		park_next(group, attempt.partition, attempt.key, position.attempts, message);
}

static FetchGroup *
begin_work(HandlerDefinition *definition, Oid *function, HandlerForm *form)
{
	FetchGroup *group;

	begin_transaction();
	group = find_work(definition, function, form);
	get_to_know(group);
	begin_attempt(definition);
	return group;
}

static void
commit_work(int processed)
{
	PAUSE_POINT("handler: before the commit");
	CommitTransactionCommand();
	if (processed == 0)
		return;
	handler_slots_count(args.slot, (uint64) processed, 0);
	conflicts = 0;
	rest_ms = 0;
}

/* One of the partitions that go on singly; false: there is nothing. */
static bool
work_singly(void)
{
	HandlerDefinition definition;
	HandlerForm form;
	Oid			function;
	FetchGroup *group;
	int			partition;
	GroupKey	key;
	bool		tried;

	/* which one is it? */
	group = begin_work(&definition, &function, &form);
	if (run(group, &definition, function, form, true, -1) == 0)
	{
		CommitTransactionCommand();
		return false;
	}
	partition = attempt.partition;
	key = attempt.key;
	AbortCurrentTransaction();

	group = begin_work(&definition, &function, &form);
	tried = note_attempt(group, partition, key, definition.max_attempts);
	CommitTransactionCommand();
	PAUSE_POINT("handler: attempt noted");
	if (!tried)
		return true;

	group = begin_work(&definition, &function, &form);
	attempt.noted = true;
	if (run(group, &definition, function, form, true, partition) > 0)
		singly[partition]--;
	commit_work(attempt.n);
	return true;
}

static bool
work(void)
{
	HandlerDefinition definition;
	HandlerForm form;
	Oid			function;
	FetchGroup *group = begin_work(&definition, &function, &form);
	int			processed = run(group, &definition, function, form, false, -1);

	commit_work(processed);
	return processed > 0;
}

/*
 * After an error, with what it jumped to as the exception stack: undo, and see to it that
 * it is tried again.
 */
static void
clean_up(void)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
	ErrorData  *error;

	error_context_stack = NULL;
	HOLD_INTERRUPTS();
	disable_all_timeouts(false);
	QueryCancelPending = false;
	EmitErrorReport();
	error = CopyErrorData();
	handler_slots_report_error(args.slot, error->message);
	AbortOutOfAnyTransaction();
	LWLockReleaseAll();
	ConditionVariableCancelSleep();
	pgstat_report_wait_end();
	FlushErrorState();
	MemoryContextSwitchTo(TopMemoryContext);
	RESUME_INTERRUPTS();
	calling_failed(error);
	MemoryContextSwitchTo(old);
}

/* What is to be done about the last error, which may raise another one. */
static void
deal_with_error(void)
{
	const ErrorData *error = calling_error();
	HandlerDefinition definition;
	HandlerForm form;
	Oid			function;
	int			n = attempt.n;

	if (error == NULL)
		return;
	if (n > 0 && (error->sqlerrcode == ERRCODE_T_R_SERIALIZATION_FAILURE ||
				  error->sqlerrcode == ERRCODE_T_R_DEADLOCK_DETECTED) &&
		conflicts++ < SERIALIZATION_RETRIES)
	{
		calling_forget_error();
		return;
	}
	conflicts = 0;
	if (!attempt.calling)
	{
		/* it is not about what was fetched */
		rest_ms = rest_ms == 0 ? REST_MS : Min(rest_ms * 2, LONGEST_REST_MS);
		calling_forget_error();
		return;
	}
	handler_slots_count(args.slot, 0, 1);
	if (n > 1)
	{
		for (int i = 0; i < partitions; i++)
			singly[i] = Max(singly[i], attempt.rows[i]);
		calling_forget_error();
		return;
	}
	begin_transaction();
	note_failure(find_work(&definition, &function, &form), error->message);
	CommitTransactionCommand();
	singly[attempt.partition] = Max(singly[attempt.partition], 1);
	calling_forget_error();
}

static void
wait_for_work(void)
{
	static uint32 wait_event = 0;
	int			events = WL_LATCH_SET | WL_EXIT_ON_PM_DEATH;
	long		left = -1;

	if (next_retry != 0)
		left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), next_retry);
	if (rest_ms > 0)
		left = rest_ms;
	if (left == 0)
		return;
	if (left > 0)
		events |= WL_TIMEOUT;
	pgstat_report_stat(true);
	pgstat_report_activity(STATE_IDLE, rest_ms > 0 ?
						   "waiting to try again after an error" :
						   "waiting for transactions to handle");
	(void) WaitLatch(MyLatch, events, left,
					 compat_wait_event(wait_event, "CalvinSeqHandler"));
	ResetLatch(MyLatch);
}

/* Look, with this worker in the list of those who wait, and wait if there is nothing. */
static void
look_and_wait(void)
{
	fetchers_join(slot, wanted.group, mask);
	for (;;)
	{
		serve_signals();
		if (slot->database != MyDatabaseId)
			proc_exit(0);
		fetchers_looked();
		next_retry = 0;
		if (rest_ms == 0 && (work_singly() || work()))
			break;
		wait_for_work();
		rest_ms = 0;
	}
	fetchers_leave(true);
}

static void
main_loop(void)
{
	for (;;)
	{
		bool		some;

		serve_signals();
		deal_with_error();
		next_retry = 0;
		some = false;
		if (rest_ms == 0)
		{
			some = work_singly();
			some |= work();
		}
		if (!some)
			look_and_wait();
	}
}

void
calvin_seq_handler_main(Datum arg)
{
	sigjmp_buf	jump;

	memcpy(&args, MyBgworkerEntry->bgw_extra, sizeof(args));
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	pqsignal(SIGINT, StatementCancelHandler);
	BackgroundWorkerUnblockSignals();
	if (!handler_slots_claim(&args, &wanted))
		proc_exit(0);
	before_shmem_exit(leave_slot, (Datum) 0);

	BackgroundWorkerInitializeConnectionByOid(args.database, args.role, 0);
	SetConfigOption("application_name", worker_handler.name, PGC_USERSET, PGC_S_SESSION);
	pgstat_report_appname(worker_handler.name);
	MemoryContextSwitchTo(TopMemoryContext);
	begin_transaction();
	slot = attach_database();
	CommitTransactionCommand();

	if (sigsetjmp(jump, 1) != 0)
	{
		clean_up();
		fetchers_leave(false);
		serve_signals();
	}
	PG_exception_stack = &jump;
	main_loop();
}
