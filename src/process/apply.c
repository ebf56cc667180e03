/*
 * apply.c
 *	  Applying one entry after the other: stepping the state machine, having
 *	  batches fanned out, saying what has to be said.
 */
#include "compat.h"

#include "log/memory.h"
#include "log/report.h"
#include "log/snapshots.h"
#include "log/step.h"
#include "miscadmin.h"
#include "process/apply.h"
#include "shared/database.h"
#include "shared/pause.h"
#include "shared/traffic.h"

/* Transactions of one entry decoded once; a larger one costs a second pass. */
#define STAGED_TXNS 16384
#define STAGED_VSHARDS 65536

/* A larger buffer for transactions written anew is not kept. */
#define CANONICAL_KEPT (1024 * 1024)

/*
 * Writing so much anew takes some milliseconds: what is larger, and fits into no
 * ring as it stands in the log, is not written anew only to be dropped, even if
 * it would then fit.
 */
#define CANONICAL_ALWAYS (256 * 1024)

/* Entries whose latency is taken at the end of their burst. */
#define MAX_STAMPS 4096

void
apply_init(Applying *applying, DatabaseSlot *slot)
{
	applying->slot = slot;
	applying->stamps = palloc(sizeof(TimestampTz) * MAX_STAMPS);
	applying->out = palloc(sizeof(QueueOutgoing));
	wire_decoder_init(&applying->collecting,
					  palloc(sizeof(WireTxn) * STAGED_TXNS), STAGED_TXNS,
					  palloc(sizeof(uint16) * STAGED_VSHARDS), STAGED_VSHARDS);
	wire_decoder_init(&applying->checking, NULL, 0, NULL, 0);
	wire_buffer_init(&applying->canonical, memory_realloc, CurrentMemoryContext);
	applying->router = router_create(slot);
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
check_row(const WireDecoder *decoder, const LogRow *row, MachineOutcome outcome)
{
	const char *kind = expected_kind(outcome);
	bool		has_epoch = outcome != MACHINE_NOOP &&
		outcome != MACHINE_UNDECODABLE;
	uint64		epoch = has_epoch ? decoder->entry.epoch : 0;

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
report_outcome(const WireDecoder *decoder, const LogRow *row,
			   MachineOutcome outcome, uint64 next_epoch)
{
	const WireEntry *entry = &decoder->entry;

	switch (outcome)
	{
		case MACHINE_UNDECODABLE:
			ereport(WARNING,
					(errmsg("calvin_seq: entry at log_index " UINT64_FORMAT " is undecodable and was skipped",
							row->log_index),
					 errdetail("At %s.", wire_describe(&decoder->error))));
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

	check_row(decoder, row, outcome);
}

/* Who fetches finds it, and is woken when it is published. */
static void
note_traffic(Applying *applying, WireDecoder *decoder)
{
	WireTxn		txn;

	while (wire_next_txn(decoder, &txn))
	{
		traffic_note(applying->slot, decoder->entry.epoch, &txn);
		for (int i = 0; i < txn.vshard_count; i++)
			applying->touched[txn.vshards[i] / 64] |=
				UINT64CONST(1) << (txn.vshards[i] % 64);
	}
	wire_rewind(decoder);
}

static void
fan_out(Applying *applying, WireDecoder *decoder, const LogRow *row,
		MachineCounters *counters)
{
	WireTxn		txn;

	while (wire_next_txn(decoder, &txn))
	{
		uint32		plans_offset;
		WireSlice	tx_class;

		CHECK_FOR_INTERRUPTS();
		if (!router_wants(applying->router, row->log_index, &txn))
			continue;
		if (!txn.canonical && txn.tx_class.len > CANONICAL_ALWAYS &&
			!router_has_room(applying->router, row->log_index, &txn))
		{
			router_drop(applying->router, row->log_index,
						decoder->entry.epoch, &txn, counters);
			continue;
		}
		if (!txn.canonical)
			PAUSE_POINT("apply: writing anew");
		tx_class = memory_deliverable(&txn, &applying->canonical,
									  &plans_offset);
		queue_prepare(applying->out, decoder->entry.epoch,
					  decoder->entry.epoch_system_ms, &txn, tx_class,
					  plans_offset);
		router_send(applying->router, row->log_index, applying->out, counters);
	}
}

static void
pass_over(Applying *applying, WireDecoder *decoder, const LogRow *row)
{
	WireTxn		txn;

	while (wire_next_txn(decoder, &txn))
		router_pass_over(applying->router, row->log_index,
						 decoder->entry.epoch, &txn);
}

static void
note_latency(Applying *applying, TimestampTz appended_at)
{
	if (applying->nstamps < MAX_STAMPS)
		applying->stamps[applying->nstamps++] = appended_at;
	else
		database_note_latency(applying->slot,
							  GetCurrentTimestamp() - appended_at);
}

static void
apply_entry(Applying *applying, const LogRow *row)
{
	bool		noted = traffic_wanted(applying->slot);
	WireDecoder *decoder = noted || router_in_use(applying->router) ?
		&applying->collecting : &applying->checking;
	PublishedState next = applying->state;
	MachineInput input;
	MachineOutcome outcome;

	step_input(row, decoder, &input);
	PAUSE_POINT("apply: entry");
	outcome = machine_step(&next.machine, &next.counters, &input);
	report_outcome(decoder, row, outcome,
				   machine_next_epoch(&applying->state.machine));
	if (outcome == MACHINE_APPLY || outcome == MACHINE_GAP)
	{
		traffic_begin_epoch(applying->slot,
							applying->state.machine.last_applied_epoch,
							decoder->entry.epoch, noted);
		if (noted)
			note_traffic(applying, decoder);
		else
			applying->touched_all = true;
	}
	if (outcome == MACHINE_APPLY)
	{
		fan_out(applying, decoder, row, &next.counters);
		if (row->log_index > pg_atomic_read_u64(&applying->slot->catch_up_to))
			note_latency(applying, row->appended_at);
	}
	else if (outcome == MACHINE_GAP)
		pass_over(applying, decoder, row);
	applying->state = next;
}

/*
 * Entries that were to be applied have been truncated.  The state goes on from
 * the base, which is what they would have led to; the streams of who is
 * subscribed lack them for good, and will be told.
 */
static void
skip_truncated(Applying *applying, const MachineState *base)
{
	char	   *message = psprintf("the log was truncated up to log_index " UINT64_FORMAT ", but was applied up to " UINT64_FORMAT " only",
								   base->last_applied_index,
								   applying->state.machine.last_applied_index);

	ereport(WARNING,
			(errmsg("calvin_seq: %s", message),
			 errdetail("The applier goes on from the base snapshot. What was truncated was not fanned out, and is not in the log for lossless consumers.")));
	database_report_error(applying->slot, WORKER_APPLIER, message);
	/* without a batch among them the streams lack nothing */
	applying->touched_all = true;
	if (base->last_applied_epoch != applying->state.machine.last_applied_epoch)
		router_pass_over_all(applying->router, base->last_applied_index,
							 base->last_applied_epoch);
}

/* Tell once that the base is missing. */
static void
report_base_missing(Applying *applying, uint64 first_index)
{
	char	   *message;

	if (applying->base_missing)
		return;
	applying->base_missing = true;
	message = psprintf("the log begins at log_index " UINT64_FORMAT ", and its base snapshot is not there",
					   first_index);
	ereport(LOG,
			(errmsg("calvin_seq: %s", message),
			 errdetail("Nothing is applied before it is."),
			 errhint("A restore that is under way will bring it. Otherwise restore seq_snapshots from the same dump as seq_log.")));
	database_report_error(applying->slot, WORKER_APPLIER, message);
	pfree(message);
}

/*
 * Entries are missing in front of the one at log_index: by an explicit
 * log_index, or because they were truncated.  False if nothing can be applied
 * yet.
 */
static bool
cross_hole(Applying *applying, const LogAccess *access, uint64 log_index)
{
	uint64		applied = applying->state.machine.last_applied_index;
	MachineState base;

	if (access->snapshots == NULL)
	{
		applying->wants_base = true;
		return false;
	}
	if (!snapshots_base(access, &base))
	{
		if (applied == 0)
			report_base_missing(applying, log_index);
		return applied > 0;
	}
	if (base.last_applied_index > applied)
	{
		/* a log that is being restored begins with its base, unless somebody waits */
		if (applied > 0 || router_in_use(applying->router))
			skip_truncated(applying, &base);
		applying->state.machine = base;
	}
	return true;
}

bool
apply_row(Applying *applying, const LogAccess *access, const LogRow *row)
{
	uint64		expected;

	if (row->log_index > applying->state.machine.last_applied_index + 1 &&
		!cross_hole(applying, access, row->log_index))
		return false;
	expected = applying->state.machine.last_applied_index + 1;
	if (row->log_index > expected)
		holes_note(&applying->holes, expected, row->log_index - 1);
	applying->base_missing = false;
	apply_entry(applying, row);
	return true;
}

void
apply_look_for_late_rows(Applying *applying, const LogAccess *access)
{
	uint64		log_index;

	while (holes_find_row(&applying->holes, access, &log_index))
	{
		char	   *message = psprintf("a row turned up at log_index " UINT64_FORMAT ", but the log was applied up to " UINT64_FORMAT " without it",
									   log_index,
									   applying->state.machine.last_applied_index);

		ereport(WARNING,
				(errmsg("calvin_seq: %s", message),
				 errdetail("It was not applied, and is in no stream. Who reads the log anew will apply it and come to another digest."),
				 errhint("Find out who wrote it: somebody got past the triggers of seq_log, or this is a bug.")));
		database_report_error(applying->slot, WORKER_APPLIER, message);
		pfree(message);
	}
}

void
apply_trim(Applying *applying)
{
	if (applying->canonical.size > CANONICAL_KEPT)
		wire_buffer_free(&applying->canonical);
}

void
apply_publish(Applying *applying)
{
	router_flush(applying->router, &applying->state.counters);
	if (applying->nstamps > 0)
	{
		TimestampTz now = GetCurrentTimestamp();

		for (int i = 0; i < applying->nstamps; i++)
			database_note_latency(applying->slot, now - applying->stamps[i]);
		applying->nstamps = 0;
	}
	PAUSE_POINT("apply: told, not published");
	database_publish(applying->slot, &applying->state);
	router_wake_readers(applying->router,
						machine_next_epoch(&applying->state.machine));
	fetchers_wake(applying->slot, applying->touched_all ? NULL : applying->touched);
	applying->touched_all = false;
	memset(applying->touched, 0, sizeof(applying->touched));
}
