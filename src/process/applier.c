/*
 * applier.c
 *	  The worker that applies one database's log: reads entries in order,
 *	  steps the state machine, has batches fanned out, publishes the outcome.
 *
 * A burst is everything committed when the applier looked.  What it found is
 * made durable first, without a snapshot held.  Then it is read in short
 * transactions of about calvin_seq.apply_batch bytes; after each of them the
 * queues are flushed and the state is published in one step.
 *
 * An error leaves the process: queues and subscribers stay.  The state is
 * that after the last whole entry, and the entry is tried again after a
 * while; whatever of it was sent already is recognised by its key.
 */
#include "compat.h"

#include "access/relation.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "libpq/pqsignal.h"
#include "log/memory.h"
#include "log/reader.h"
#include "log/report.h"
#include "log/snapshots.h"
#include "log/step.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "process/durable.h"
#include "process/worker.h"
#include "shared/clock.h"
#include "shared/database.h"
#include "shared/router.h"
#include "shared/subscription.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* Transactions of one entry decoded once; a larger one costs a second pass. */
#define STAGED_TXNS 16384
#define STAGED_VSHARDS 65536

/* What a row costs beside its entry, towards apply_batch. */
#define ROW_BYTES 64

/* A larger buffer for transactions written anew is not kept. */
#define CANONICAL_KEPT (1024 * 1024)

/* Entries whose latency is taken at the end of their burst. */
#define MAX_STAMPS 4096

/* Wait between attempts after an error, doubling. */
#define MIN_RETRY_MS 200
#define MAX_RETRY_MS 30000

typedef struct Applier
{
	DatabaseSlot *slot;
	Oid			database;
	Oid			log; /* the seq_log that "state" speaks of */
	bool		retired; /* the extension is gone: give the slot up */
	bool		found_end; /* slot->catch_up_to is set */
	bool		base_missing; /* the log's beginning is not known yet */
	PublishedState state;
	uint64		snapshot_index; /* log_index of the last snapshot, or tried */
	uint64		appends;  /* slot->appends before the last look at the log */
	XLogRecPtr	replayed; /* standby: replayed up to here before that */
	int			retry_ms;
	Router	   *router;
	WireDecoder decoder;
	WireBuffer	canonical; /* of transactions that were not */
	QueueOutgoing *out;
	int			nstamps;
	TimestampTz *stamps; /* appended_at of entries fanned out in this burst */
	MemoryContext entry_context; /* reset after every entry */
} Applier;

static int	standby_poll_interval = 5;
static int	apply_batch = 16 * 1024; /* kB */
static int	snapshot_interval = 10000; /* entries, 0: none */

static Applier applier;

void
applier_init(void)
{
	DefineCustomIntVariable("calvin_seq.standby_poll_interval",
							"How often a standby's applier looks for newly replayed log.",
							NULL,
							&standby_poll_interval,
							5, 1, 60000,
							PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("calvin_seq.apply_batch",
							"Bytes of entries that the applier reads in one transaction.",
							"Its state and progress become visible that often.",
							&apply_batch,
							16 * 1024, 64, 1024 * 1024,
							PGC_SIGHUP, GUC_UNIT_KB,
							NULL, NULL, NULL);
	DefineCustomIntVariable("calvin_seq.snapshot_interval",
							"Entries between two snapshots of the state; 0 means none.",
							"After a restart the applier begins with the last one.",
							&snapshot_interval,
							10000, 0, INT_MAX,
							PGC_SIGHUP, 0,
							NULL, NULL, NULL);
}

static void
set_activity(ApplierActivity activity)
{
	pg_atomic_write_u32(&applier.slot->activity, activity);
}

/*
 * Take the place that the launcher made for this worker, unless somebody has
 * changed his mind since.
 */
static bool
claim_slot(const WorkerArgs *args)
{
	DatabaseSlot *slot;

	LWLockAcquire(Calvin->lock, LW_EXCLUSIVE);
	slot = database_find_locked(args->database);
	if (slot == NULL || slot->status != APPLIER_STARTING ||
		slot->start_token != args->token || slot->holds > 0)
	{
		if (slot != NULL && slot->status == APPLIER_STARTING &&
			slot->start_token == args->token)
			slot->status = APPLIER_WANTED;
		LWLockRelease(Calvin->lock);
		return false;
	}
	slot->status = APPLIER_RUNNING;
	slot->applier_pid = MyProcPid;
	slot->applier_started = GetCurrentTimestamp();
	pg_atomic_write_u32(&slot->activity, ACTIVITY_STARTING);
	pg_atomic_write_u32(&slot->stop, 0);
	pg_atomic_write_u32(&slot->recheck, 0);
	pg_atomic_write_u64(&slot->catch_up_to, 0);
	pg_atomic_write_u64(&slot->applier_proc, (uint64) (uintptr_t) MyProc);
	LWLockRelease(Calvin->lock);

	applier.slot = slot;
	applier.database = args->database;
	return true;
}

/* before_shmem_exit: give the place back, however the process ends. */
static void
leave_slot(int code, Datum arg)
{
	DatabaseSlot *slot = applier.slot;
	pg_atomic_write_u32(&slot->activity, ACTIVITY_IDLE);
	if (applier.retired)
	{
		subscription_release_database(applier.database);
		database_forget(slot);
		return;
	}

	LWLockAcquire(Calvin->lock, LW_EXCLUSIVE);
	slot->applier_pid = 0;
	pg_atomic_write_u64(&slot->applier_proc, 0);
	slot->status = APPLIER_WANTED;
	slot->not_before = clock_ms();
	if (code != 0)
	{
		slot->not_before += Min(1000 << Min(slot->failures, 6), 60000);
		slot->failures++;
	}
	LWLockRelease(Calvin->lock);

	ConditionVariableBroadcast(&slot->progress);
	database_wake_proc(&Calvin->launcher_proc);
}

/* The extension was dropped, perhaps made anew: this process is done. */
static void
retire(void)
{
	applier.retired = true;
	ereport(LOG,
			(errmsg("calvin_seq applier stops: the extension was dropped from its database")));
	proc_exit(0);
}

/* Start a transaction and find the log; retires if it is gone. */
static const LogTable *
begin(Relation *rel)
{
	const LogTable *table;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	for (;;)
	{
		table = log_table_find();
		if (table == NULL)
			break;
		*rel = try_relation_open(table->log, AccessShareLock);
		if (*rel != NULL)
			break;
		/* dropped while we waited for the lock: look again */
		log_table_forget();
	}
	if (table == NULL || (OidIsValid(applier.log) && table->log != applier.log))
	{
		AbortCurrentTransaction();
		retire();
	}
	PushActiveSnapshot(GetTransactionSnapshot());
	return table;
}

static void
commit(Relation rel)
{
	PopActiveSnapshot();
	relation_close(rel, NoLock);
	CommitTransactionCommand();
}

static const char *
expected_kind(MachineOutcome outcome)
{
	switch (outcome)
	{
		case MACHINE_NOOP:
			return LOG_KIND_NOOP;
		case MACHINE_UNDECODABLE:
			return LOG_KIND_UNDECODABLE;
		case MACHINE_APPLY:
		case MACHINE_GAP:
			return LOG_KIND_EPOCH_BATCH;
		case MACHINE_STALE:
			return LOG_KIND_STALE_BATCH;
		case MACHINE_ACK:
			return LOG_KIND_COMPLETION_ACK;
	}
	return "";
}

static const char *
describe_kind(const char *kind, bool epoch_valid, uint64 epoch)
{
	return epoch_valid ? psprintf("%s of epoch " UINT64_FORMAT, kind, epoch) :
		psprintf("%s without an epoch", kind);
}

/* Report a row whose derived columns are not what its entry says. */
static void
check_row(const LogRow *row, MachineOutcome outcome)
{
	const char *kind = expected_kind(outcome);
	bool		has_epoch = outcome != MACHINE_NOOP &&
		outcome != MACHINE_UNDECODABLE;
	uint64		epoch = has_epoch ? applier.decoder.entry.epoch : 0;

	if (strcmp(NameStr(row->kind), kind) == 0 &&
		row->epoch_valid == has_epoch && row->epoch == epoch)
		return;
	ereport(WARNING,
			(errmsg("calvin_seq: the row at log_index " UINT64_FORMAT " says %s, but its entry is %s",
					row->log_index,
					describe_kind(NameStr(row->kind), row->epoch_valid, row->epoch),
					describe_kind(kind, has_epoch, epoch)),
			 errdetail("The entry counts for the state; replay goes by the row.")));
}

/* Say what has to be said about an entry that was not simply applied. */
static void
report_outcome(const LogRow *row, MachineOutcome outcome, uint64 next_epoch)
{
	const WireEntry *entry = &applier.decoder.entry;

	switch (outcome)
	{
		case MACHINE_UNDECODABLE:
			ereport(WARNING,
					(errmsg("calvin_seq: entry at log_index " UINT64_FORMAT " is undecodable and was skipped",
							row->log_index),
					 errdetail("At %s.", wire_describe(&applier.decoder.error))));
			break;
		case MACHINE_GAP:
			ereport(WARNING,
					(errmsg("calvin_seq: epoch gap at log_index " UINT64_FORMAT ": epoch " UINT64_FORMAT " came where " UINT64_FORMAT " was next",
							row->log_index, entry->epoch, next_epoch),
					 errdetail("The batch was not fanned out; consumers get it from the log.")));
			break;
		case MACHINE_STALE:
			ereport(LOG,
					(errmsg("calvin_seq: stale batch at log_index " UINT64_FORMAT ": epoch " UINT64_FORMAT " came where " UINT64_FORMAT " was next",
							row->log_index, entry->epoch, next_epoch),
					 errdetail("It is part of no stream.")));
			break;
		case MACHINE_NOOP:
		case MACHINE_APPLY:
		case MACHINE_ACK:
			break;
	}

	check_row(row, outcome);
}

static void
fan_out(const LogRow *row, MachineCounters *counters)
{
	WireDecoder *decoder = &applier.decoder;
	WireTxn		txn;

	while (wire_next_txn(decoder, &txn))
	{
		uint32		plans_offset;
		WireSlice	tx_class;

		if (!router_wants(applier.router, row->log_index, &txn))
			continue;
		tx_class = memory_deliverable(&txn, &applier.canonical,
									  &plans_offset);
		queue_prepare(applier.out, decoder->entry.epoch,
					  decoder->entry.epoch_system_ms, &txn, tx_class,
					  plans_offset);
		router_send(applier.router, row->log_index, applier.out, counters);
	}
}

static void
pass_over(const LogRow *row)
{
	WireTxn		txn;

	while (wire_next_txn(&applier.decoder, &txn))
		router_pass_over(applier.router, row->log_index,
						 applier.decoder.entry.epoch, &txn);
}

static void
note_latency(TimestampTz appended_at)
{
	if (applier.nstamps < MAX_STAMPS)
		applier.stamps[applier.nstamps++] = appended_at;
	else
		histogram_add(&applier.slot->latency,
					  GetCurrentTimestamp() - appended_at);
}

static void
apply_entry(const LogRow *row)
{
	WireDecoder *decoder = &applier.decoder;
	PublishedState next = applier.state;
	MachineInput input;
	MachineOutcome outcome;

	step_input(row, decoder, &input);
	outcome = machine_step(&next.machine, &next.counters, &input);
	report_outcome(row, outcome, machine_next_epoch(&applier.state.machine));
	if (outcome == MACHINE_APPLY)
	{
		fan_out(row, &next.counters);
		if (row->log_index > pg_atomic_read_u64(&applier.slot->catch_up_to))
			note_latency(row->appended_at);
	}
	else if (outcome == MACHINE_GAP)
		pass_over(row);
	applier.state = next;
}

/* Make what was applied since the last time visible, in one step. */
static void
publish(void)
{
	router_flush(applier.router);
	if (applier.nstamps > 0)
	{
		TimestampTz now = GetCurrentTimestamp();

		for (int i = 0; i < applier.nstamps; i++)
			histogram_add(&applier.slot->latency, now - applier.stamps[i]);
		applier.nstamps = 0;
	}
	database_publish(applier.slot, &applier.state);
}

static inline bool
told_to_stop(void)
{
	return pg_atomic_read_u32(&applier.slot->stop) != 0;
}

/*
 * Entries that were to be applied have been truncated.  The state goes on from
 * the base, which is what they would have led to; the streams of who is
 * subscribed lack them for good, and will be told.
 */
static void
skip_truncated(const MachineState *base)
{
	char	   *message = psprintf("the log was truncated up to log_index " UINT64_FORMAT ", but was applied up to " UINT64_FORMAT " only",
								   base->last_applied_index,
								   applier.state.machine.last_applied_index);

	ereport(WARNING,
			(errmsg("calvin_seq: %s", message),
			 errdetail("The applier goes on from the base snapshot. What was truncated was not fanned out, and is not in the log for lossless consumers.")));
	database_report_error(applier.slot, message);
	router_pass_over_all(applier.router, base->last_applied_index,
						 base->last_applied_epoch);
}

/* Tell once that the base is missing. */
static void
report_base_missing(uint64 first_index)
{
	if (!applier.base_missing)
		ereport(LOG,
				(errmsg("calvin_seq: the log begins at log_index " UINT64_FORMAT ", and its base snapshot is not there",
						first_index),
				 errdetail("Nothing is applied before it is."),
				 errhint("A restore that is under way will bring it. Otherwise restore seq_snapshots from the same dump as seq_log.")));
	applier.base_missing = true;
}

/*
 * Entries are missing in front of the one at log_index: by an explicit
 * log_index, or because they were truncated.  False if nothing can be applied
 * yet.
 */
static bool
cross_hole(const LogTable *table, uint64 log_index)
{
	uint64		applied = applier.state.machine.last_applied_index;
	MachineState base;

	if (!snapshots_base(table, GetActiveSnapshot(), &base))
	{
		if (applied == 0)
			report_base_missing(log_index);
		return applied > 0;
	}
	if (base.last_applied_index > applied)
	{
		if (applied > 0)
			skip_truncated(&base);
		applier.state.machine = base;
	}
	return true;
}

/* Apply one transaction's worth of entries; false if there was none. */
static bool
apply_some(uint64 end)
{
	const LogTable *table;
	Relation	rel;
	LogIdentity self;
	LogReader	reader;
	LogRow		row;
	uint64		bytes = 0;
	bool		any = false;
	MemoryContext old;

	table = begin(&rel);
	self = log_become_owner(table, true);
	log_reader_begin_by_index(&reader, table, GetActiveSnapshot(),
							  applier.state.machine.last_applied_index + 1,
							  end);
	old = MemoryContextSwitchTo(applier.entry_context);
	while (bytes < (uint64) apply_batch * 1024 && !told_to_stop() &&
		   log_reader_next(&reader, &row))
	{
		if (row.log_index > applier.state.machine.last_applied_index + 1 &&
			!cross_hole(table, row.log_index))
			break;
		applier.base_missing = false;
		apply_entry(&row);
		bytes += row.entry_len + ROW_BYTES;
		any = true;
		CHECK_FOR_INTERRUPTS();
	}
	MemoryContextSwitchTo(old);
	log_reader_end(&reader);
	MemoryContextReset(applier.entry_context);
	if (applier.canonical.size > CANONICAL_KEPT)
		wire_buffer_free(&applier.canonical);
	log_become_self(&self);
	commit(rel);
	publish();
	pgstat_report_stat(false);
	return any;
}

/*
 * Begin with the state the last applier left, or with that of a fresh slot.
 * False if the slot is that of another seq_log.
 */
static bool
adopt_state(const LogTable *table)
{
	DatabaseSlot *slot = applier.slot;
	bool		ours;

	LWLockAcquire(Calvin->lock, LW_EXCLUSIVE);
	ours = !OidIsValid(slot->log_relid) || slot->log_relid == table->log;
	if (ours)
		slot->log_relid = table->log;
	LWLockRelease(Calvin->lock);
	if (ours)
	{
		database_read(slot, &applier.state);
		if (applier.state.machine.last_applied_index == 0 &&
			snapshots_latest(table, GetActiveSnapshot(), PG_UINT64_MAX,
							 &applier.state.machine))
			database_publish(slot, &applier.state);
		applier.snapshot_index = applier.state.machine.last_applied_index;
		applier.log = table->log;
	}
	return ours;
}

/*
 * Store a snapshot if it is time for one.  It is no loss if that fails: the
 * next one is due an interval later.
 */
static void
take_snapshot(void)
{
	uint64		applied = applier.state.machine.last_applied_index;
	const LogTable *table;
	LogIdentity self;
	Relation	rel;

	if (snapshot_interval == 0 || RecoveryInProgress() ||
		applied - applier.snapshot_index < (uint64) snapshot_interval)
		return;
	applier.snapshot_index = applied;
	table = begin(&rel);
	self = log_become_owner(table, true);
	snapshots_store(table, &applier.state.machine, true);
	log_become_self(&self);
	commit(rel);
}

static void
serve_signals(void)
{
	CHECK_FOR_INTERRUPTS();
	if (told_to_stop())
		proc_exit(0);
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
}

/* Apply all that is committed now. */
static void
apply_burst(void)
{
	const LogTable *table;
	Relation	rel;
	uint64		end;
	XLogRecPtr	lsn;
	char		activity[100];

	table = begin(&rel);
	if (!OidIsValid(applier.log) && !adopt_state(table))
	{
		AbortCurrentTransaction();
		retire();
	}
	end = (uint64) log_last_index(table, GetActiveSnapshot());
	/* behind the snapshot: whatever it sees was inserted into WAL before */
	lsn = RecoveryInProgress() ? InvalidXLogRecPtr : durable_wal_end();
	commit(rel);

	if (!applier.found_end)
	{
		applier.found_end = true;
		pg_atomic_write_u64(&applier.slot->catch_up_from,
							applier.state.machine.last_applied_index);
		pg_atomic_write_u64(&applier.slot->catch_up_to, end);
	}
	if (end <= applier.state.machine.last_applied_index)
	{
		router_sync(applier.router, 0);
		return;
	}

	if (!XLogRecPtrIsInvalid(lsn))
	{
		set_activity(ACTIVITY_WAITING_SYNC);
		durable_wait(lsn);
	}
	router_sync(applier.router, end);
	set_activity(applier.state.machine.last_applied_index <
				 pg_atomic_read_u64(&applier.slot->catch_up_to) ?
				 ACTIVITY_CATCHING_UP : ACTIVITY_APPLYING);
	snprintf(activity, sizeof(activity),
			 "applying log entries " UINT64_FORMAT " to " UINT64_FORMAT,
			 applier.state.machine.last_applied_index + 1, end);
	pgstat_report_activity(STATE_RUNNING, activity);

	while (applier.state.machine.last_applied_index < end && !told_to_stop())
	{
		if (!apply_some(end))
			break;
		take_snapshot();
		serve_signals();
	}
}

/*
 * Is there reason to look at the log?  Remembers the reason as dealt with.
 * *standby tells which kind of server it was asked on.
 */
static bool
log_may_have_grown(bool *standby)
{
	static bool was_standby = false;
	bool		result = false;

	*standby = RecoveryInProgress();
	if (*standby || was_standby)
	{
		XLogRecPtr	replayed = GetXLogReplayRecPtr(NULL);

		/* the first look after promotion is unconditional */
		result = replayed != applier.replayed || !*standby;
		applier.replayed = replayed;
		was_standby = *standby;
	}
	if (!*standby)
	{
		uint64		appends = pg_atomic_read_u64(&applier.slot->appends);

		result |= appends != applier.appends;
		applier.appends = appends;
	}
	return result;
}

static void
wait_for_work(bool standby)
{
	set_activity(applier.base_missing ? ACTIVITY_WAITING_BASE : ACTIVITY_IDLE);
	pgstat_report_activity(STATE_IDLE, applier.base_missing ?
						   "waiting for the log's base snapshot" :
						   "waiting for log entries");
	(void) WaitLatch(MyLatch,
					 WL_LATCH_SET | WL_EXIT_ON_PM_DEATH |
					 (standby ? WL_TIMEOUT : 0),
					 standby ? standby_poll_interval : -1L,
					 PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
}

/* Whatever went wrong before is over. */
static void
note_success(void)
{
	applier.retry_ms = 0;
	if (applier.slot->failures == 0)
		return;
	LWLockAcquire(Calvin->lock, LW_EXCLUSIVE);
	applier.slot->failures = 0;
	LWLockRelease(Calvin->lock);
}

static void
main_loop(void)
{
	bool		standby;

	/* whatever happened before, look at the log once */
	(void) log_may_have_grown(&standby);
	apply_burst();
	note_success();
	for (;;)
	{
		bool		look;

		serve_signals();
		look = log_may_have_grown(&standby);
		if (pg_atomic_exchange_u32(&applier.slot->recheck, 0) != 0)
			look = true;
		if (look)
		{
			apply_burst();
			note_success();
			continue;
		}
		router_sync(applier.router, 0);
		pgstat_report_stat(true);
		wait_for_work(standby);
	}
}

/* After an error: publish what is done, and wait a little. */
static void
recover_from_error(void)
{
	int64		until;
	int64		left;

	error_context_stack = NULL;
	HOLD_INTERRUPTS();
	EmitErrorReport();
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
		ErrorData  *error = CopyErrorData();

		database_report_error(applier.slot, error->message);
		FreeErrorData(error);
		MemoryContextSwitchTo(old);
	}
	AbortCurrentTransaction();
	LWLockReleaseAll();
	ConditionVariableCancelSleep();
	pgstat_report_wait_end();
	FlushErrorState();
	MemoryContextSwitchTo(TopMemoryContext);
	MemoryContextReset(applier.entry_context);
	RESUME_INTERRUPTS();

	if (OidIsValid(applier.log))
		publish();
	applier.retry_ms = applier.retry_ms == 0 ? MIN_RETRY_MS :
		Min(applier.retry_ms * 2, MAX_RETRY_MS);
	set_activity(ACTIVITY_RETRYING);
	pgstat_report_activity(STATE_IDLE, "waiting to try again after an error");
	until = clock_ms() + applier.retry_ms;
	while ((left = until - clock_ms()) > 0)
	{
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | WL_TIMEOUT,
						 (long) left, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		serve_signals();
	}
}

static void
init_buffers(void)
{
	applier.entry_context = AllocSetContextCreate(TopMemoryContext,
												  "calvin_seq entry",
												  ALLOCSET_DEFAULT_SIZES);
	applier.stamps = palloc(sizeof(TimestampTz) * MAX_STAMPS);
	applier.out = palloc(sizeof(QueueOutgoing));
	wire_decoder_init(&applier.decoder,
					  palloc(sizeof(WireTxn) * STAGED_TXNS), STAGED_TXNS,
					  palloc(sizeof(uint16) * STAGED_VSHARDS), STAGED_VSHARDS);
	wire_buffer_init(&applier.canonical, memory_realloc, TopMemoryContext);
	applier.router = router_create(applier.slot);
}

void
calvin_seq_applier_main(Datum arg)
{
	WorkerArgs	args;
	sigjmp_buf	jump;

	memcpy(&args, MyBgworkerEntry->bgw_extra, sizeof(args));
	durable_init();
	pqsignal(SIGTERM, die);
	pqsignal(SIGINT, SIG_IGN);
	BackgroundWorkerUnblockSignals();

	if (!claim_slot(&args))
		proc_exit(0);
	before_shmem_exit(leave_slot, (Datum) 0);

	BackgroundWorkerInitializeConnectionByOid(args.database, InvalidOid, 0);
	worker_settle(APPLIER_NAME);

	MemoryContextSwitchTo(TopMemoryContext);
	init_buffers();

	if (sigsetjmp(jump, 1) != 0)
		recover_from_error();
	PG_exception_stack = &jump;
	main_loop();
}
