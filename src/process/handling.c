/*
 * handling.c
 *	  What a handler worker does in its transactions: fetch, call, move the position; or
 *	  take note of what has failed.
 *
 * Trusted partitions (trust.h) are fetched together, and the handler is called for what
 * they give, in one transaction.  If that fails nobody knows of which, or it is the first
 * failure of one: they are doubted from then on.
 *
 * A doubted partition is handled by itself, in two transactions.  The first one takes it
 * and notes an attempt with its position; the second one fetches, calls, and moves the
 * position, which forgets the attempt.  So if the process dies the attempt is there.
 * Between the two a lock of the session keeps others away, who would take the attempt for
 * one that has failed.  What fails in the second one does so in a subtransaction: the
 * error is noted, with the time of the next attempt, before the partition is free.  And
 * the first one parks what has had its attempts.
 */
#include "compat.h"

#include "access/xact.h"
#include "commands/trigger.h"
#include "consumer/fetch.h"
#include "consumer/parking.h"
#include "consumer/taken.h"
#include "log/attach.h"
#include "log/definitions.h"
#include "log/parked.h"
#include "log/table.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "pgstat.h"
#include "process/calling.h"
#include "process/handling.h"
#include "process/permitted.h"
#include "process/trust.h"
#include "shared/fetchers.h"
#include "shared/pause.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

/* So many in a row of what passes by itself are no attempts, of each partition. */
#define CONFLICTS_FORGIVEN 10

/* No more of an error's message is kept. */
#define MAX_MESSAGE 8192

/* What is noted with an attempt, for the case that nobody comes back from it. */
#define NOTED "the worker that ran the handler ended in it"

typedef enum HandlingPhase
{
	PHASE_OTHER,
	PHASE_CALL	/* up to the commit of what was called */
} HandlingPhase;

/* A doubted partition, and the attempt that was noted. */
typedef struct Attempt
{
	int			partition;	/* -1: there is none */
	GroupKey	from;		/* where it stands */
	uint32		before;		/* attempts, before this one, */
	const char *error;		/* and what is said of them; in round_context */
	bool		forgiven;	/* the call has failed, and that was forgiven */
} Attempt;

static HandlerSlot *slot;
static HandlerTask task;
static HandlerDefinition definition;
static DatabaseSlot *database = NULL;
static uint64 mask[FETCH_MASK_WORDS];
static Trust trust;
static bool trust_begun = false;
static bool *avoid; /* partitions: not in this fetch */
static bool doubted_first = false; /* in the next round */
static bool joined = false; /* those that wait for the group */
static TimestampTz next_retry;
static MemoryContext round_context;
static HandlingPhase phase = PHASE_OTHER;
static Attempt attempt = {.partition = -1};
static int *conflicts;	/* of each partition, in a row, */
static int	other_conflicts = 0; /* and outside of calls */
static bool outcome_noted = false; /* of the attempt, if this transaction commits */
static HandlerRows rows; /* of the last call; in round_context */
static GroupKey *froms;	/* of each row: where its partition stood */

/*
 * Transactions
 */

/*
 * While the outcome of an attempt is not noted, others leave the partition alone, even if
 * the transaction failed at its commit and no lock keeps them out.  They are told by the
 * locks that go after this, or not at all.
 */
static void
at_xact_event(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT && outcome_noted)
		handler_slot_attempt(slot, -1);
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT)
		outcome_noted = false;
}

void
handling_begin(HandlerSlot *own_slot, const HandlerTask *own_task)
{
	slot = own_slot;
	task = *own_task;
	round_context = AllocSetContextCreate(TopMemoryContext, "calvin_seq handled",
										  ALLOCSET_DEFAULT_SIZES);
	RegisterXactCallback(at_xact_event, NULL);
}

static void
start(bool read_committed)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	if (read_committed)
		XactIsoLevel = XACT_READ_COMMITTED;
	/* the owner of our tables may have attached something to them, which runs SQL */
	PushActiveSnapshot(GetTransactionSnapshot());
	MemoryContextSwitchTo(round_context);
}

static FetchGroup *
give_up(void)
{
	AbortCurrentTransaction();
	MemoryContextSwitchTo(round_context);
	return NULL;
}

/* Is the handler that is defined now the one that this worker is of, as its role? */
static bool
is_own_definition(void)
{
	return definition.definition == task.definition && definition.id == task.id &&
		definition.role == task.role;
}

/* Begin one, with the group locked against its end; NULL, and none, if that is gone. */
static FetchGroup *
begin(HandlerFunction *function)
{
	HandlerRefusal refusal;
	FetchGroup *group;

	start(false);
	if (calling_be_role(task.role) && log_table_find() != NULL &&
		definitions_find(NameStr(task.name), &definition) && is_own_definition() &&
		handler_permitted(&definition, function, &refusal))
	{
		group = group_require(NameStr(task.name));
		if (group->id == task.id)
			return group;
	}
	return give_up();
}

/*
 * The same to note what has become of an attempt, whatever handler there is by now, and
 * whatever isolation the calls are to have: what is noted is in nobody's way.
 */
static FetchGroup *
begin_to_note(void)
{
	Registration *registration;

	start(true);
	if (calling_be_role(task.role) && log_table_find() != NULL)
	{
		registration = registry_find(NameStr(task.name));
		if (registration != NULL && registration->id == task.id)
			return group_require(NameStr(task.name));
	}
	return give_up();
}

static void
commit(void)
{
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(round_context);
}

static void
first_look(const FetchGroup *group)
{
	MemoryContext old;

	database = attach_database();
	if (trust_begun)
		return;
	old = MemoryContextSwitchTo(TopMemoryContext);
	trust_begin(&trust, group->partitions, definition.batch);
	conflicts = palloc0(sizeof(int) * group->partitions);
	avoid = palloc(sizeof(bool) * group->partitions);
	trust_begun = true;
	MemoryContextSwitchTo(old);
	memcpy(mask, group->mask, sizeof(mask));
}

/* This process does not wait any more; has it looked to the end since it was woken? */
static void
stop_waiting(bool looked)
{
	if (joined)
		fetchers_leave(looked);
	joined = false;
}

static void
note_retry(const Fetch *fetch)
{
	TimestampTz retry = fetch_next_retry(fetch);

	if (retry != 0 && (next_retry == 0 || retry < next_retry))
		next_retry = retry;
}

/*
 * Calling
 */

/* Move the positions, call the handler for the rows, and commit. */
static void
call_and_commit(Fetch *fetch, const HandlerFunction *function)
{
	FmgrInfo	flinfo;

	/* first, so that it may fetch itself, and park what it is called for */
	fetch_end(fetch);
	calling_prepare(function, &flinfo);
	phase = PHASE_CALL;
	calling_call(&definition, function, &flinfo, &rows);
	PAUSE_POINT("handler: before commit");
	commit();
	phase = PHASE_OTHER;
	for (int i = 0; i < rows.n; i++)
		conflicts[rows.rows[i].partition] = 0;
	handler_slot_count(slot, rows.n);
	handler_slot_succeeded(slot);
}

/* Is an error one of two transactions that were in each other's way? */
static bool
is_conflict(const ErrorData *error)
{
	return error->sqlerrcode == ERRCODE_T_R_SERIALIZATION_FAILURE ||
		error->sqlerrcode == ERRCODE_T_R_DEADLOCK_DETECTED;
}

/*
 * The same, and no attempt; the transaction is run again at once.  It is counted for those
 * partitions whose it is, since others may work in between.
 */
static bool
is_forgiven(const ErrorData *error)
{
	int			most = 0;

	if (!is_conflict(error))
		return false;
	if (attempt.partition >= 0 && attempt.forgiven)
		return true;
	if (attempt.partition >= 0)
		return conflicts[attempt.partition]++ < CONFLICTS_FORGIVEN;
	if (phase != PHASE_CALL)
		return other_conflicts++ < CONFLICTS_FORGIVEN;
	for (int i = 0; i < rows.n; i++)
		most = Max(most, conflicts[rows.rows[i].partition]);
	for (int i = 0; i < rows.n; i++)
		conflicts[rows.rows[i].partition] = most + 1;
	return most < CONFLICTS_FORGIVEN;
}

/* What an error says, to be kept; in round_context. */
static char *
message_of(const ErrorData *error)
{
	const char *message = error->message;
	int			len = message == NULL ? 0 :
		pg_mbcliplen(message, (int) Min(strlen(message), INT_MAX), MAX_MESSAGE);

	if (len == 0)
		return psprintf("an error of SQLSTATE %s without a message",
						unpack_sql_state(error->sqlerrcode));
	return pnstrdup(message, len);
}

/* Partitions that are not to be fetched: those given, and what others attempt just now. */
static const bool *
avoided(const bool *given)
{
	memcpy(avoid, given, sizeof(bool) * trust.partitions);
	handler_slots_attempted(slot, avoid, trust.partitions);
	return avoid;
}

/* Has another worker begun to attempt a partition, and not come to its end? */
static bool
is_attempted(int partition)
{
	bool		attempted[WIRE_VSHARDS] = {false};

	handler_slots_attempted(slot, attempted, trust.partitions);
	return attempted[partition];
}

/* Where the partitions of the rows stood when they were taken. */
static void
note_froms(void)
{
	froms = palloc(sizeof(GroupKey) * rows.n);
	for (int i = 0; i < rows.n; i++)
		(void) taken_from(task.id, rows.rows[i].partition, &froms[i]);
}

/* Fetch what is trusted and handle it; false if there is nothing. */
static bool
handle_trusted(FetchGroup *group, const HandlerFunction *function)
{
	FetchRequest request = {0};
	Fetch	   *fetch;
	int			partition;

	request.group = group;
	request.max_txns = definition.batch;
	request.partition = -1;
	request.avoid = avoided(trust.doubted);
	request.heed_retries = true;
	fetch = fetch_begin(&request);
	note_retry(fetch);
	if (calling_gather(fetch, function, false, &rows, &partition))
	{
		if (rows.n == 0)
			return false;
		stop_waiting(true);
		note_froms();
		call_and_commit(fetch, function);
		return true;
	}
	/* another worker has failed there */
	stop_waiting(true);
	trust_doubt(&trust, partition, definition.batch);
	commit();
	return true;
}

/*
 * Doubted partitions
 */

/* Is the last attempt one that nobody came back from? */
static bool
ended_in_it(const GroupPosition *position)
{
	return position->attempts > 0 && position->error != NULL &&
		strcmp(position->error, NOTED) == 0;
}

/* Set aside what has had its attempts, and go on behind it. */
static void
park(const FetchGroup *group, const Delivery *delivery, int partition,
	 GroupPosition *position)
{
	GroupKey	key = {delivery->epoch, delivery->position, delivery->vshard};
	GroupKey	from = position->next;
	GroupStore	store;

	position->retried += ended_in_it(position);
	parked_add(task.id, delivery, position->attempts,
			   position->error != NULL ? position->error : "it has failed");
	position->next = group_key_behind(key);
	position->attempts = 0;
	position->retry_at = 0;
	position->error = NULL;
	group_store_begin(&store, task.id, true);
	group_store_write(&store, partition, position);
	group_store_end(&store);
	parking_forget_settled(group, partition, from, position->next);
	PAUSE_POINT("handler: parked");
	commit();
}

/* Note with the position that an attempt is about to be made. */
static void
note_attempt(int partition, GroupPosition *position)
{
	GroupStore	store;

	attempt.from = position->next;
	attempt.before = position->attempts;
	attempt.forgiven = false;
	attempt.error = position->error;
	position->retried += ended_in_it(position);
	position->attempts++;
	position->retry_at = 0;
	position->error = NOTED;
	group_store_begin(&store, task.id, true);
	group_store_write(&store, partition, position);
	group_store_end(&store);
	registry_hold_partition(task.id, partition);
	attempt.partition = partition;
	handler_slot_attempt(slot, partition);
	commit();
	PAUSE_POINT("handler: attempt noted");
}

/* When the next one may be made. */
static TimestampTz
backoff_end(uint32 attempts)
{
	int64		ms = (int64) definition.backoff_ms << Min(attempts - 1, 20);

	/* what has had its attempts is parked the next time */
	if (attempts >= (uint32) definition.max_attempts)
		return 0;
	return TimestampTzPlusMilliseconds(GetCurrentTimestamp(), Min(ms, FETCH_MAX_PUT_OFF_MS));
}

/*
 * A partition's next transaction has failed: note it, unless others have moved it, or
 * made an attempt, meanwhile.  In the transaction that is open.
 */
static void
write_failure(FetchGroup *group, const Attempt *failed, bool noted, const char *message)
{
	uint32		attempts = failed->before + (noted ? 1 : 0);
	GroupStore	store;
	GroupPosition position;

	/* who has it makes an attempt himself, and has been told of it by the position */
	if (!fetch_take(group, failed->partition, noted, &store, &position))
		return;
	if (group_key_compare(position.next, failed->from) == 0 &&
		position.attempts == attempts)
	{
		position.attempts = failed->before + 1;
		position.retried++;
		position.error = message;
		position.retry_at = backoff_end(position.attempts);
		group_store_write(&store, failed->partition, &position);
	}
	group_store_end(&store);
}

/* What was noted was no attempt, or it is not known of which transaction. */
static void
write_back(FetchGroup *group, const Attempt *noted)
{
	GroupStore	store;
	GroupPosition position;

	(void) fetch_take(group, noted->partition, true, &store, &position);
	if (group_key_compare(position.next, noted->from) == 0 &&
		position.attempts == noted->before + 1)
	{
		position.attempts = noted->before;
		position.error = noted->error;
		group_store_write(&store, noted->partition, &position);
	}
	group_store_end(&store);
}

/* Constraints that were put off may fail, as a part of the call. */
static void
check_constraints(void)
{
	ConstraintsSetStmt *statement = makeNode(ConstraintsSetStmt);

	AfterTriggerSetState(statement);
}

/*
 * Fetch what was attempted, and call the handler for it, in a subtransaction: if it fails
 * that is noted before anybody else can have the partition.  Returns the error, or NULL.
 */
static ErrorData *
try_attempt(FetchGroup *group, const HandlerFunction *function)
{
	ErrorData  *volatile error = NULL;
	ResourceOwner owner = CurrentResourceOwner;
	FetchRequest request = {0};

	request.group = group;
	request.max_txns = trust_rows(&trust, attempt.partition);
	request.partition = attempt.partition;
	rows.n = 0;
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(round_context);
	PG_TRY();
	{
		Fetch	   *fetch = fetch_begin(&request);
		int			partition;

		(void) calling_gather(fetch, function, true, &rows, &partition);
		if (rows.n > 0)
		{
			FmgrInfo	flinfo;

			fetch_end(fetch);
			calling_prepare(function, &flinfo);
			phase = PHASE_CALL;
			calling_call(&definition, function, &flinfo, &rows);
			check_constraints();
		}
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		if (phase != PHASE_CALL)
			PG_RE_THROW();
		MemoryContextSwitchTo(round_context);
		EmitErrorReport();
		error = CopyErrorData();
		FlushErrorState();
		disable_timeout(STATEMENT_TIMEOUT, false);
		QueryCancelPending = false;
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(round_context);
	CurrentResourceOwner = owner;
	return error;
}

/* Note the failure of an attempt, or take it back, after the transaction has failed. */
static void
note_failure(const Attempt *failed, bool noted, const char *message)
{
	FetchGroup *group;

	PAUSE_POINT("handler: failed");
	group = begin_to_note();
	if (group == NULL)
		return;
	if (message != NULL)
		write_failure(group, failed, noted, message);
	else
		write_back(group, failed);
	/* the partition is locked, by whomever */
	outcome_noted = true;
	PAUSE_POINT("handler: failure noted");
	commit();
}

/*
 * The transaction of an attempt has failed: where it was committed, or before the call.
 */
static void
attempt_failed(const char *message, bool counts)
{
	Attempt		failed = attempt;

	attempt.partition = -1;
	if (counts && rows.n > 1)
		trust_doubt(&trust, failed.partition, rows.n);
	note_failure(&failed, true, counts && rows.n <= 1 ? message : NULL);
}

/* Make the attempt that was noted. */
static HandlingNext
make_attempt(void)
{
	HandlerFunction function;
	FetchGroup *group = begin(&function);
	GroupStore	store;
	GroupPosition position;
	ErrorData  *error;
	bool		forgiven = false;

	if (group == NULL)
	{
		attempt_failed(NULL, false);
		return HANDLING_GONE;
	}
	(void) fetch_take(group, attempt.partition, true, &store, &position);
	group_store_end(&store);
	registry_end_hold();
	outcome_noted = true;
	error = try_attempt(group, &function);
	if (error != NULL)
	{
		char	   *message = message_of(error);

		forgiven = is_forgiven(error);
		attempt.forgiven = forgiven;
		handler_slot_report(slot, message, false);
		if (rows.n == 1 && !forgiven)
			write_failure(group, &attempt, true, message);
		else
			write_back(group, &attempt);
	}
	PAUSE_POINT("handler: before commit");
	commit();
	phase = PHASE_OTHER;
	if (error == NULL)
	{
		conflicts[attempt.partition] = 0;
		trust_succeeded(&trust, attempt.partition, rows.n);
		handler_slot_count(slot, rows.n);
	}
	else if (rows.n > 1 && !forgiven)
		trust_doubt(&trust, attempt.partition, rows.n);
	attempt.partition = -1;
	handler_slot_succeeded(slot);
	return HANDLING_AGAIN;
}

/* Take a doubted partition and handle what is next in it; false if there is nothing. */
static bool
handle_doubted(FetchGroup *group, HandlingNext *next)
{
	FetchRequest request = {0};
	GroupStore	store;
	GroupPosition position;
	Fetch	   *fetch;
	Delivery	delivery;
	int			partition;

	if (trust.ndoubted == 0)
		return false;
	request.group = group;
	request.max_txns = 1;
	request.partition = -1;
	request.avoid = avoided(trust.trusted);
	request.heed_retries = true;
	fetch = fetch_begin(&request);
	note_retry(fetch);
	if (!fetch_next(fetch, &delivery, &partition))
		return false;
	stop_waiting(true);
	*next = HANDLING_AGAIN;
	if (is_attempted(partition))
	{
		commit();
		return true;
	}
	group_store_begin(&store, task.id, false);
	group_store_read(&store, partition, &position);
	group_store_end(&store);
	if (position.attempts >= (uint32) definition.max_attempts)
	{
		park(group, &delivery, partition, &position);
		return true;
	}
	/* somebody has failed in the next so many, or died */
	if (position.attempts > 0 && trust.singly[partition] == 0)
		trust_doubt(&trust, partition, definition.batch);
	note_attempt(partition, &position);
	*next = make_attempt();
	return true;
}

/* Nothing is attempted any more, be it that this could not be noted. */
void
handling_let_go(void)
{
	/* outside of a transaction nobody else would release it, at the process' end either */
	registry_end_hold();
	/* it may end before it has begun */
	if (slot != NULL && handler_slot_attempt(slot, -1) && database != NULL)
		fetchers_wake_group(database, task.id);
}

HandlingNext
handling_round(void)
{
	HandlerFunction function;
	FetchGroup *group;
	HandlingNext next = HANDLING_AGAIN;

	MemoryContextReset(round_context);
	if (joined)
		fetchers_looked();
	next_retry = 0;
	handling_let_go();
	group = begin(&function);
	if (group == NULL)
		return HANDLING_GONE;
	first_look(group);
	/* in turns, so that neither starves */
	doubted_first = !doubted_first;
	if ((!doubted_first || !handle_doubted(group, &next)) &&
		!handle_trusted(group, &function) &&
		(doubted_first || !handle_doubted(group, &next)))
	{
		commit();
		handler_slot_succeeded(slot);
		next = HANDLING_WAIT;
	}
	other_conflicts = 0;
	return next;
}

bool
handling_wait_begin(void)
{
	if (joined)
		return !fetchers_woken();
	fetchers_join(database, task.id, mask, false);
	joined = true;
	return false;
}

long
handling_retry_ms(void)
{
	if (next_retry == 0)
		return -1;
	return TimestampDifferenceMilliseconds(GetCurrentTimestamp(), next_retry);
}

/*
 * Failures of a whole transaction
 */

/* How many of the rows through the last one given are of the partition of that. */
static int
rows_through(int last)
{
	int			n = 0;

	for (int i = 0; i <= last; i++)
		n += rows.rows[i].partition == rows.rows[last].partition;
	return n;
}

/* A call for trusted partitions has failed. */
static void
trusted_failed(const char *message)
{
	/* which one it was: that of the call, or the only one */
	int			culprit = rows.n == 1 ? 0 : rows.at;

	if (culprit >= 0)
	{
		Attempt		failed = {rows.rows[culprit].partition, froms[culprit], 0, NULL, false};
		int			n = rows_through(culprit);

		trust_doubt(&trust, failed.partition, n);
		if (n == 1)
			note_failure(&failed, false, message);
		return;
	}
	for (int i = 0; i < rows.n; i++)
		trust_doubt(&trust, rows.rows[i].partition, rows_through(i));
}

bool
handling_failed(const ErrorData *error)
{
	bool		called = phase == PHASE_CALL;
	bool		forgiven = is_forgiven(error);
	bool		counts = called && !forgiven;
	char	   *message;

	phase = PHASE_OTHER;
	stop_waiting(false);
	MemoryContextSwitchTo(round_context);
	message = message_of(error);
	handler_slot_report(slot, message, !called);
	if (attempt.partition >= 0)
		attempt_failed(message, counts);
	else if (counts)
		trusted_failed(message);
	return called || forgiven;
}
