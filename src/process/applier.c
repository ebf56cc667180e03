/*
 * applier.c
 *	  The worker that applies one database's log: reads entries in order,
 *	  steps the state machine, has batches fanned out, publishes the outcome.
 *
 * A burst is everything committed when the applier looked.  What it found is
 * made durable first; if that takes time, without a snapshot held.  Then it is
 * read in short transactions of about calvin_seq.apply_batch bytes.  At the end
 * of each, and every PUBLISH_BYTES in it, the queues are flushed and the state
 * is published in one step: who reads the log because his queues were too small
 * begins while the rest is being applied.
 *
 * An error leaves the process: queues and subscribers stay.  The state is
 * that after the last whole entry, and the entry is tried again after a
 * while; whatever of it was sent already is recognised by its key.
 */
#include "compat.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "log/identity.h"
#include "log/owner.h"
#include "log/reader.h"
#include "log/snapshots.h"
#include "log/step.h"
#include "pgstat.h"
#include "process/apply.h"
#include "process/durable.h"
#include "process/life.h"
#include "process/replay_wait.h"
#include "process/worker.h"
#include "shared/clock.h"
#include "shared/database.h"
#include "shared/pause.h"
#include "shared/requests.h"
#include "shared/submitters.h"
#include "shared/waits.h"
#include "shared/worker_slot.h"
#include "storage/latch.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* What a row costs beside its entry, towards apply_batch. */
#define ROW_BYTES 64

/* What was applied is published that often within a transaction. */
#define PUBLISH_BYTES (1024 * 1024)

typedef struct Applier
{
	DatabaseSlot *slot;
	Oid			log; /* the seq_log that applying.state speaks of */
	bool		identified; /* that log has an identity */
	bool		unproven; /* it may have got another one */
	bool		unpublished; /* the state was taken from a snapshot */
	bool		found_end; /* slot->catch_up_to is set */
	uint64		snapshot_index; /* log_index of the last snapshot, or tried */
	uint64		appends;  /* slot->appends before the last look at the log */
	XLogRecPtr	replayed; /* standby: replayed up to here before that */
	int64		replay_noted; /* when that was found to be more, by clock_ms() */
	MemoryContext entry_context; /* of the entries of one transaction */
} Applier;

static int	standby_poll_interval = 5;
static int	apply_batch = 16 * 1024; /* kB */
static int	snapshot_interval = 10000; /* entries, 0: none */

static Applier applier;
static Applying applying;

void
applier_init(void)
{
	DefineCustomIntVariable("calvin_seq.standby_poll_interval",
							"How often a standby's applier looks for newly replayed log.",
							"Since PostgreSQL 19 only while there is something replayed.",
							&standby_poll_interval,
							5, 1, 60000,
							PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("calvin_seq.apply_batch",
							"Bytes of entries that the applier reads in one transaction.",
							"Old row versions can be removed, and a snapshot is taken, that often at most.",
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
	worker_slot_set_activity(applier.slot, activity);
}

/* Start a transaction and open the log; that is the end if it is gone. */
static void
begin(LogAccess *access)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	if (!log_access_try_begin(access,
							  (applying.wants_base ? ACCESS_SNAPSHOTS : 0) |
							  (applying.wants_proof ? ACCESS_IDENTITY : 0),
							  ACCESS_LATEST) ||
		(OidIsValid(applier.log) && access->table.log != applier.log))
	{
		AbortCurrentTransaction();
		life_retire();
	}
}

static void
commit(LogAccess *access)
{
	log_access_end(access);
	CommitTransactionCommand();
}

static inline bool
told_to_stop(void)
{
	return worker_slot_stop_asked(applier.slot, WORKER_APPLIER);
}

/*
 * Apply one transaction's worth of entries, in the transaction that was begun
 * or else in a new one; false if nothing more can be applied.
 */
static bool
apply_some(LogAccess *access, bool begun, uint64 end)
{
	LogIdentity self;
	LogReader	reader;
	LogRow		row;
	uint64		bytes = 0;
	uint64		published = 0;
	bool		any = false;
	bool		wanted_base;
	MemoryContext old;

	if (!begun)
		begin(access);
	wanted_base = applying.wants_base;
	self = log_become_worker(&access->table);
	log_reader_begin_by_index(&reader, access,
							  applying.state.machine.last_applied_index + 1,
							  end);
	old = MemoryContextSwitchTo(applier.entry_context);
	while (bytes < (uint64) apply_batch * 1024 && !told_to_stop() &&
		   log_reader_next(&reader, &row))
	{
		if (!apply_row(&applying, access, &row))
			break;
		bytes += row.entry_len + ROW_BYTES;
		any = true;
		if (bytes - published >= PUBLISH_BYTES)
		{
			apply_publish(&applying);
			published = bytes;
		}
		CHECK_FOR_INTERRUPTS();
	}
	MemoryContextSwitchTo(old);
	log_reader_end(&reader);
	MemoryContextReset(applier.entry_context);
	apply_trim(&applying);
	apply_publish(&applying);
	log_become_self(&self);
	commit(access);
	pgstat_report_stat(false);
	/* with the base opened too, it goes on */
	return any || applying.wants_base != wanted_base;
}

/* Is the state that the slot has one of this log? */
static bool
state_is_of_log(const LogAccess *access, const uint64 bound[2],
				const uint64 found[2], const MachineState *state)
{
	MachineState base;

	if ((bound[0] != 0 || bound[1] != 0) &&
		(bound[0] != found[0] || bound[1] != found[1]))
		return false;
	return state->last_applied_index == 0 ||
		log_has_entry(access, state->last_applied_index, state->last_entry) ||
		(snapshots_base(access, &base) &&
		 base.last_applied_index >= state->last_applied_index);
}

/*
 * Prove that the state in shared memory speaks of this log, which may be that of
 * another database with the same OIDs by now, and bind it to the log's identity.
 * If it does not, it starts anew, and who was subscribed is told.
 */
static void
prove_state(const LogAccess *access)
{
	DatabaseSlot *slot = applier.slot;
	uint64		bound[2];
	uint64		found[2] = {0, 0};
	pg_uuid_t	identity;

	if (identity_of_log(access, &identity))
		memcpy(found, &identity, sizeof(found));
	database_get_identity(slot, bound);
	if (!state_is_of_log(access, bound, found, &applying.state.machine))
	{
		ereport(WARNING,
				(errmsg("calvin_seq: the state in shared memory is that of another log"),
				 errdetail("It starts anew, and the database's subscriptions end.")));
		worker_slot_begin_anew(slot);
		router_begin_anew(applying.router);
		database_read(slot, &applying.state);
		memset(&applying.holes, 0, sizeof(applying.holes));
		database_report_error(slot, WORKER_APPLIER,
							  "the state in shared memory was that of another log");
	}
	/* published when what it stands for is known to be durable */
	if (applying.state.machine.last_applied_index == 0)
		applier.unpublished = snapshots_latest(access, PG_UINT64_MAX,
											   &applying.state.machine);
	database_set_identity(slot, found);
	applier.identified = found[0] != 0 || found[1] != 0;
	applier.unproven = false;
}

/*
 * Begin with the state the last applier left or, in a fresh slot, with the last
 * snapshot.  That one was found as any entry is, so nobody is told of it before
 * it is durable.  False if the slot is that of another seq_log.
 */
static bool
adopt_state(const LogAccess *access)
{
	DatabaseSlot *slot = applier.slot;
	bool		ours = database_bind(slot, access->table.log);

	if (!ours)
		return false;
	database_read(slot, &applying.state);
	prove_state(access);
	applier.snapshot_index = applying.state.machine.last_applied_index;
	applier.log = access->table.log;
	return true;
}

/*
 * Store a snapshot if it is time for one.  It is no loss if that fails: the
 * next one is due an interval later.  Nor if it is lost, since the log alone
 * determines the state: so its commit waits for nobody, be it the disk or a
 * standby.  Nor does anything else here but for seq_log itself.
 */
static void
take_snapshot(void)
{
	uint64		applied = applying.state.machine.last_applied_index;
	LogAccess	access;
	LogIdentity self;

	if (snapshot_interval == 0 || RecoveryInProgress() ||
		applied - applier.snapshot_index < (uint64) snapshot_interval)
		return;
	applier.snapshot_index = applied;
	begin(&access);
	/* a source of PGC_S_OVERRIDE would make it what the transaction's end restores */
	(void) set_config_option("synchronous_commit", "off", PGC_SUSET,
							 PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
	self = log_become_side_owner(&access.table, SIDE_SNAPSHOTS);
	snapshots_store(&access.table, &applying.state.machine, true);
	log_become_self(&self);
	PAUSE_POINT("applier: snapshot stored");
	commit(&access);
}

/*
 * Make what was found safe, and take note of subscribers.  Both are done within
 * the transaction that found it if neither takes time; false if it was ended.
 */
static bool
prepare_burst(LogAccess *access, uint64 end, XLogRecPtr lsn)
{
	bool		inside = XLogRecPtrIsInvalid(lsn) || durable_at_once(lsn);

	if (!inside)
	{
		commit(access);
		set_activity(ACTIVITY_WAITING_SYNC);
		if (submitters_busy(applier.slot))
			durable_leave_to_others(lsn);
		durable_wait(lsn, applier.slot - Calvin->databases);
	}
	if (router_unchanged(applying.router, end))
		return inside;
	if (inside)
		commit(access);
	router_sync(applying.router, end);
	return false;
}

/* Open the log for a burst; at first, and if need be, its state is proved. */
static void
open_to_look(LogAccess *access)
{
	bool		first = !OidIsValid(applier.log);

	/* nobody tells a standby that its log has got an identity */
	applying.wants_proof = first || applier.unproven ||
		(!applier.identified && RecoveryInProgress());
	applying.wants_base = applying.wants_proof;
	begin(access);
	if (first)
	{
		if (!adopt_state(access))
		{
			AbortCurrentTransaction();
			life_retire();
		}
	}
	else if (applying.wants_proof)
		prove_state(access);
	applying.wants_proof = false;
}

/* Apply all that is committed now. */
static void
apply_burst(void)
{
	LogAccess	access;
	bool		begun;
	uint64		end;
	XLogRecPtr	lsn;
	char		activity[100];

	/*
	 * What we were woken for is in the write-ahead log, most likely with nothing
	 * behind it: flushed by now, it is read by the transaction that finds it.
	 */
	if (!RecoveryInProgress() && !submitters_busy(applier.slot))
		XLogFlush(durable_wal_end());
	open_to_look(&access);
	apply_look_for_late_rows(&applying, &access);
	end = (uint64) log_last_index(&access);
	/* behind the snapshot: whatever it sees was inserted into WAL before */
	lsn = RecoveryInProgress() ? InvalidXLogRecPtr : durable_wal_end();

	if (!applier.found_end)
	{
		applier.found_end = true;
		worker_slot_set_catch_up(applier.slot,
								 applying.state.machine.last_applied_index,
								 end);
	}
	if (end <= applying.state.machine.last_applied_index && !applier.unpublished)
	{
		commit(&access);
		router_sync(applying.router, 0);
		return;
	}

	begun = prepare_burst(&access, end, lsn);
	if (applier.unpublished)
	{
		applier.unpublished = false;
		/* who has subscribed before was sent nothing of what it stands for */
		router_pass_over_all(applying.router,
							 applying.state.machine.last_applied_index,
							 applying.state.machine.last_applied_epoch);
		apply_publish(&applying);
	}
	if (end <= applying.state.machine.last_applied_index)
	{
		if (begun)
			commit(&access);
		return;
	}
	set_activity(applying.state.machine.last_applied_index <
				 pg_atomic_read_u64(&applier.slot->catch_up_to) ?
				 ACTIVITY_CATCHING_UP : ACTIVITY_APPLYING);
	snprintf(activity, sizeof(activity),
			 "applying log entries " UINT64_FORMAT " to " UINT64_FORMAT,
			 applying.state.machine.last_applied_index + 1, end);
	pgstat_report_activity(STATE_RUNNING, activity);

	while (applying.state.machine.last_applied_index < end &&
		   (begun || !told_to_stop()))
	{
		bool		more = apply_some(&access, begun, end);

		begun = false;
		if (!more)
			break;
		life_progressed();
		take_snapshot();
		life_serve_signals();
	}
	if (begun)
		commit(&access);
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
		if (result)
			applier.replay_noted = clock_ms();
		applier.replayed = replayed;
		/* the launcher looks less often; there is a sequencer to be started now */
		if (!*standby)
			requests_wake_launcher();
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

/*
 * A standby replays other things too: the log is looked at no more often than
 * every standby_poll_interval on their account.  Then we sleep until there is
 * more, or as long again where nobody would wake us.
 */
static void
wait_for_replay(void)
{
	long		left = replay_wakes() ?
		deadline_left(applier.replay_noted + standby_poll_interval) : standby_poll_interval;

	if (left > 0)
		replay_wait(InvalidXLogRecPtr, left, wait_event(WAIT_APPLIER));
	else
		replay_wait(applier.replayed, -1, wait_event(WAIT_APPLIER));
}

static void
wait_for_work(bool standby)
{
	set_activity(applying.base_missing ? ACTIVITY_WAITING_BASE : ACTIVITY_IDLE);
	pgstat_report_activity(STATE_IDLE, applying.base_missing ?
						   "waiting for the log's base snapshot" :
						   "waiting for log entries");
	if (standby)
		wait_for_replay();
	else
		replay_wait(InvalidXLogRecPtr, -1, wait_event(WAIT_APPLIER));
}

/*
 * Was the extension dropped or altered?  Whoever did tells before his
 * invalidations are sent, so the cache cannot be trusted now.
 */
static bool
told_to_recheck(void)
{
	if (!worker_slot_take_recheck(applier.slot, WORKER_APPLIER))
		return false;
	log_table_forget();
	applier.unproven = true;
	return true;
}

static void
main_loop(void)
{
	bool		standby;

	/* whatever happened before, look at the log once */
	(void) log_may_have_grown(&standby);
	(void) told_to_recheck();
	apply_burst();
	life_succeeded();
	for (;;)
	{
		bool		look;

		life_serve_signals();
		look = log_may_have_grown(&standby);
		if (told_to_recheck())
			look = true;
		if (look)
		{
			apply_burst();
			life_succeeded();
			continue;
		}
		router_sync(applying.router, 0);
		pgstat_report_stat(true);
		wait_for_work(standby);
	}
}

/* After an error: publish what is done, and wait a little. */
static void
recover_from_error(void)
{
	life_clean_up();
	MemoryContextReset(applier.entry_context);
	if (OidIsValid(applier.log) && !applier.unpublished)
		apply_publish(&applying);
	set_activity(ACTIVITY_RETRYING);
	life_rest();
}

void
calvin_seq_applier_main(Datum arg)
{
	sigjmp_buf	jump;

	durable_init();
	applier.slot = life_begin(WORKER_APPLIER);
	applier.entry_context = AllocSetContextCreate(TopMemoryContext,
												  "calvin_seq entry",
												  ALLOCSET_DEFAULT_SIZES);
	apply_init(&applying, applier.slot);

	if (sigsetjmp(jump, 1) != 0)
		recover_from_error();
	PG_exception_stack = &jump;
	main_loop();
}
