/*
 * sequence.c
 *	  From the inbox into the log: what the sequencer does.
 *
 * It takes packets in the order of their stamps, as far as submitters_limit() says,
 * and puts them into epochs; in the same transaction it notes in the inbox how far
 * it has taken.  So each submission is in the log once: the note and the entries are
 * committed together or not at all, and what is noted is what the next look at the
 * tables begins with.
 *
 * Where a packet is, shared memory says, for the last SUBMITTER_CELLS of them.  That
 * is a hint only.  When it has nothing for a stamp, which may be of a transaction
 * that was rolled back before it wrote anything, the partitions are looked through
 * for all that waits.  Nothing is concluded from a hint that is missing.
 *
 * What is remembered here is of the last transaction that has been committed; after
 * an error, of which it may be unknown what was committed, it is forgotten.
 */
#include "compat.h"

#include "access/relation.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "log/append.h"
#include "log/batch.h"
#include "log/landing.h"
#include "log/memory.h"
#include "log/owner.h"
#include "log/packet.h"
#include "log/rotation.h"
#include "log/sequence.h"
#include "log/waiting.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "shared/admission.h"
#include "shared/clock.h"
#include "shared/database.h"
#include "shared/pause.h"
#include "shared/settings.h"
#include "shared/submitters.h"
#include "shared/waits.h"
#include "storage/bufmgr.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* Bytes that are put into the log in one transaction, about, and epochs. */
#define STEP_BYTES (4 * 1024 * 1024)
#define STEP_EPOCHS 256

/*
 * One step begins so long after the last, and if that has found more than one packet,
 * it rests for so many times as long as it took, up to a limit; unless there is a full
 * epoch waiting.  So batches grow with the load, and their cost, also that of
 * applying them, is not taken away from those who submit; who is alone does not wait.
 */
#define STEP_INTERVAL_US 1000
#define REST_FACTOR 8
#define REST_MIN_US 2500
#define REST_MAX_US 5000

/* How often it is looked whether the log is restored that submissions belong to. */
#define RESTORE_POLL_MS 200

/* One submission that goes into the log with this step. */
typedef struct Taken
{
	PlacedSubmission placed;
	uint64		bytes;
	uint64		tenant_id; /* if counted */
	bool		counted;
} Taken;

typedef struct Step
{
	DatabaseSlot *slot;
	Snapshot	snapshot;
	Relation	rels[INBOX_PARTITIONS];
	InboxReader readers[INBOX_PARTITIONS];
	uint64		limit;
	InboxTaken	taken;	/* all before this; */
	PacketMark	mark;	/* where that is, if it lies within a packet */
	Batch	   *batch;
	uint64		bytes;
	Taken	   *submissions;
	size_t		nsubmissions;
	size_t		submissions_size;
	int64	   *written; /* of packets: when they were */
	size_t		nwritten;
	size_t		written_size;
} Step;

static MemoryContext context = NULL; /* of what outlives a transaction */
static Batch batch;

static bool known = false; /* what follows has been looked up */
static Oid	extension;
static InboxTaken taken;
static PacketMark mark; /* where that is within its packet; left is 0: not known */
static WaitingList list; /* found by looking through; in context */
static int	list_at;	 /* the first one that was not dealt with */
static uint64 landed;	 /* what was restored so often has been looked for */
static bool landing;	 /* something of it may be left */
static int64 first_seen;	 /* clock_us() when the first one waiting was noticed, or 0 */
static int64 rest_until; /* clock_us() */
static size_t last_packets; /* that the last step has taken */

void
sequence_forget(void)
{
	known = false;
	first_seen = 0;
	rest_until = 0;
	list.packets = NULL;
	list.n = 0;
	list_at = 0;
	if (context != NULL)
	{
		MemoryContextReset(context);
		batch_init(&batch, context);
	}
}

/* False, and none: the extension is gone, or not the one that was looked at before. */
static bool
start_transaction(DatabaseSlot *slot)
{
	const LogTable *table;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	table = log_table_find();
	if (table != NULL && (!known || table->extension == extension) &&
		database_bind(slot, table->log))
		return true;
	AbortCurrentTransaction();
	return false;
}

/* A partition, for a packet in it. */
static InboxReader *
reader_of(Step *step, uint32 partition)
{
	InboxReader *reader;

	if (partition >= INBOX_PARTITIONS)
		return NULL;
	reader = &step->readers[partition];
	if (reader->rel == NULL)
	{
		if (step->rels[partition] == NULL)
			step->rels[partition] = inbox_open(partition, InvalidOid, AccessShareLock);
		reader->rel = step->rels[partition];
		reader->partition = partition;
		reader->nblocks = RelationGetNumberOfBlocks(reader->rel);
		reader->snapshot = step->snapshot;
	}
	return reader;
}

/*
 * A step's transaction runs as the owner of the log, to its very end; what he has
 * attached to it runs in a section within, when a row is appended.
 */
static void
begin(Step *step, DatabaseSlot *slot, LogIdentity *self)
{
	memset(step, 0, sizeof(*step));
	step->slot = slot;
	step->batch = &batch;
	*self = log_become_worker(log_table_require());
}

static void
take_snapshot(Step *step)
{
	step->snapshot = inbox_latest_snapshot();
	PushActiveSnapshot(step->snapshot);
}

static void
commit(Step *step, const LogIdentity *self)
{
	if (step->snapshot != NULL)
	{
		PopActiveSnapshot();
		UnregisterSnapshot(step->snapshot);
	}
	inbox_close_all(step->rels);
	CommitTransactionCommand();
	log_become_self(self);
}

/*
 * Find out where the tables say that we are.  Stamps that are drawn from now on lie
 * above all in them; if some were drawn already that do not, something has turned the
 * server's clock, its write-ahead log, back.
 */
static void
look_up(DatabaseSlot *slot)
{
	Step		step;
	LogIdentity self;
	InboxTaken	found;
	uint64		highest;
	uint64		rows;
	uint64		bytes;

	begin(&step, slot, &self);
	inbox_open_all(step.rels);
	take_snapshot(&step);
	waiting_find_taken(step.rels, step.snapshot, &found, &highest);
	submitters_begin_stamps(slot, highest + 1);
	if (submitters_next_stamp(slot) <= highest)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("submissions in the inbox are newer than the server's write-ahead log"),
				 errdetail("The highest stamp in the inbox is " UINT64_FORMAT ", the next one would be " UINT64_FORMAT ".",
						   highest, submitters_next_stamp(slot)),
				 errhint("The write-ahead log was set back: nothing is sequenced, so that nothing is lost.")));
	if (submitters_begin_found(slot))
	{
		waiting_count(step.rels, step.snapshot, found,
					  submitters_first_stamp(slot), &rows, &bytes);
		submitters_count_found(slot, rows, bytes);
		admission_count_found(slot, rows, bytes);
	}
	rotation_begin(slot, step.rels, step.snapshot);
	extension = log_table_require()->extension;
	commit(&step, &self);

	taken = found;
	mark.left = 0;
	submitters_set_taken(slot, taken.stamp, GetCurrentTimestamp());
	landing = true;
	known = true;
}

/* Look through the partitions for what waits. */
static void
list_waiting(Step *step)
{
	MemoryContext old;

	for (uint32 i = 0; i < INBOX_PARTITIONS; i++)
		(void) reader_of(step, i);
	old = MemoryContextSwitchTo(context);
	if (list.packets != NULL)
		pfree(list.packets);
	list.packets = NULL;
	list.n = 0;
	list_at = 0;
	waiting_list(step->rels, step->snapshot, step->taken.stamp, step->limit, &list);
	MemoryContextSwitchTo(old);
}

typedef enum Fetched
{
	FETCHED,
	ROLLED_BACK, /* the packet is there, and was not committed */
	SOMETHING_ELSE /* this is not its place: nothing is known of it */
} Fetched;

/* What is at the place of a stamp's packet, as somebody says? */
static Fetched
fetch(Step *step, uint64 stamp, InboxPlace place, const InboxReader **reader,
	  InboxRow *row)
{
	bool		own;

	*reader = reader_of(step, inbox_place_partition(place));
	if (*reader == NULL)
		return SOMETHING_ELSE;
	if (inbox_fetch((*reader)->rel, (*reader)->partition, (*reader)->nblocks,
					place, step->snapshot, row))
	{
		if (row->stamp == stamp && inbox_is_packet(row))
			return FETCHED;
		inbox_release(row);
		return SOMETHING_ELSE;
	}
	if (!inbox_fetch((*reader)->rel, (*reader)->partition, (*reader)->nblocks,
					 place, SnapshotAny, row))
		return SOMETHING_ELSE;
	own = row->stamp == stamp && inbox_is_packet(row);
	inbox_release(row);
	return own ? ROLLED_BACK : SOMETHING_ELSE;
}

/*
 * The next packet to be taken, from step->taken on; false if there is none below
 * the limit.  Moves step->taken over what was rolled back.
 */
static bool
find_next(Step *step, int *at, const InboxReader **reader, InboxRow *row)
{
	while (step->taken.stamp < step->limit)
	{
		uint64		place;
		int64		when;
		Fetched		fetched;

		CHECK_FOR_INTERRUPTS();
		if (list.packets != NULL && step->taken.stamp < list.end)
		{
			if (*at >= list.n)
			{
				step->taken.stamp = Min(list.end, step->limit);
				step->taken.ordinal = 0;
				continue;
			}
			if (list.packets[*at].stamp > step->taken.stamp)
			{
				step->taken.stamp = list.packets[*at].stamp;
				step->taken.ordinal = 0;
				continue;
			}
			/* it was seen, and nobody removes it before it is taken */
			if (fetch(step, step->taken.stamp, list.packets[*at].place, reader,
					  row) != FETCHED)
				ereport(ERROR,
						(errcode(ERRCODE_DATA_CORRUPTED),
						 errmsg("a submission has vanished from the inbox"),
						 errdetail("Its stamp is " UINT64_FORMAT ".", step->taken.stamp)));
			return true;
		}
		fetched = submitters_find_place(step->slot, step->taken.stamp, &place, &when) ?
			fetch(step, step->taken.stamp, place, reader, row) : SOMETHING_ELSE;
		if (fetched == FETCHED)
			return true;
		if (fetched == ROLLED_BACK)
		{
			step->taken.stamp++;
			step->taken.ordinal = 0;
			continue;
		}
		list_waiting(step);
		*at = 0;
	}
	return false;
}

static uint64
tenant_of(const uint8 *tx_class, uint32 size)
{
	WireTxClassFigures figures;
	bool		canonical;
	WireError	error;

	return wire_examine_tx_class(tx_class, size, &figures, &canonical, &error) ? figures.tenant_id : 0;
}

/* A submission goes into the batch. */
static void
add_submission(Step *step, Packet *packet, const RecordHead *head)
{
	uint8	   *tx_class = batch_add(step->batch, head->plans, head->size);
	Taken	   *added;

	packet_read(packet, tx_class, head->size);
	memory_grow(CurrentMemoryContext, (void **) &step->submissions,
				&step->submissions_size, step->nsubmissions + 1, sizeof(Taken));
	added = &step->submissions[step->nsubmissions++];
	added->placed.number = head->number;
	added->placed.epoch = step->batch->epoch;
	added->placed.position = step->batch->txns - 1;
	added->bytes = head->size;
	added->counted = (head->flags & RECORD_COUNTED) != 0 &&
		packet->stamp >= submitters_first_stamp(step->slot);
	added->tenant_id = added->counted ?
		tenant_of(tx_class, head->size) : 0;
	step->taken.ordinal++;
	step->bytes += head->size;
}

static inline bool
step_is_full(const Step *step)
{
	return step->bytes >= STEP_BYTES || step->batch->epochs >= STEP_EPOCHS;
}

/*
 * Put the rest of a packet into epochs; false if the step is full before its end.
 */
static bool
take_packet(Step *step, Packet *packet)
{
	RecordHead	head;

	if (step->taken.ordinal > 0 && step->mark.left > 0)
		packet_go_to(packet, &step->mark);
	else
		for (uint64 i = 0; i < step->taken.ordinal; i++)
			if (!packet_next(packet, &head))
				return true;
	for (;;)
	{
		packet_mark(packet, &step->mark);
		if (!packet_next(packet, &head))
			return true;
		if (!batch_has_room(step->batch, head.plans, head.size))
		{
			batch_append(step->batch);
			if (step_is_full(step))
				return false;
		}
		add_submission(step, packet, &head);
	}
}

/* Note in the inbox, with the entries, that all before step->taken is in the log. */
static void
note_taken(Step *step)
{
	uint32		partition = submitters_partition(step->slot);
	Relation	rel = inbox_open(partition, InvalidOid, RowExclusiveLock);

	(void) inbox_insert(rel, partition, INBOX_KIND_TAKEN, step->taken.stamp,
						GetCurrentTimestamp(), step->taken.ordinal, NULL, 0, 0);
	relation_close(rel, NoLock);
}

/* What was committed is told to whom it concerns. */
static void
tell(Step *step)
{
	PlacedSubmission *placed = palloc_extended(Max(step->nsubmissions, 1) *
											   sizeof(PlacedSubmission), MCXT_ALLOC_HUGE);
	TimestampTz now = GetCurrentTimestamp();
	uint64		uncounted = 0;
	uint64		bytes = 0;

	for (size_t i = 0; i < step->nsubmissions; i++)
	{
		const Taken *submission = &step->submissions[i];

		placed[i] = submission->placed;
		if (submission->counted)
			admission_release(step->slot, submission->tenant_id,
							  submission->bytes, true);
		else
		{
			uncounted++;
			bytes += submission->bytes;
		}
	}
	admission_release_rows(step->slot, uncounted, bytes);
	submitters_note_placed(step->slot, placed, step->nsubmissions);
	pg_write_barrier();
	submitters_count_sequenced(step->slot, step->nsubmissions, step->bytes,
							   (uint64) step->batch->epochs);
	rotation_note(step->bytes);
	for (size_t i = 0; i < step->nwritten; i++)
		submitters_note_latency(step->slot, now - step->written[i]);
}

/* One transaction of the sequencer. */
static void
take_step(DatabaseSlot *slot)
{
	Step		step;
	LogIdentity self;
	MemoryContext memory;
	MemoryContext old;
	int			at = list_at;
	pid_t		holder;
	const InboxReader *reader;
	InboxRow	row;

	begin(&step, slot, &self);
	/* what is told of it afterwards outlives its transaction */
	memory = AllocSetContextCreate(context, "calvin_seq step",
								   ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(memory);
	step.taken = taken;
	step.mark = mark;
	batch_start(step.batch);
	PAUSE_POINT("sequence: before the limit");
	step.limit = submitters_limit(slot, &holder);
	PAUSE_POINT("sequence: before the snapshot");
	take_snapshot(&step);
	while (!step_is_full(&step) && find_next(&step, &at, &reader, &row))
	{
		Packet		packet;
		bool		whole;

		packet_open(&packet, reader, &row);
		whole = take_packet(&step, &packet);
		packet_close(&packet);
		if (!whole)
			break;
		memory_grow(CurrentMemoryContext, (void **) &step.written,
					&step.written_size, step.nwritten + 1, sizeof(int64));
		step.written[step.nwritten++] = packet.at;
		if (list.packets != NULL && at < list.n &&
			list.packets[at].stamp == step.taken.stamp)
			at++;
		step.taken.stamp++;
		step.taken.ordinal = 0;
	}
	batch_append(step.batch);
	PAUSE_POINT("sequence: appended");
	if (step.batch->epochs > 0)
		note_taken(&step);
	MemoryContextSwitchTo(old);
	PAUSE_POINT("sequence: before the commit");
	/* the applier reads it as soon as this is committed */
	submitters_set_busy(slot, step.nwritten > 1);
	commit(&step, &self);

	PAUSE_POINT("sequence: committed");
	/*
	 * The applier is awake, and waits for this: it finds it under way.  Under load one
	 * flush more would only be in the way of others'.
	 */
	if (step.nwritten == 1)
		XLogFlush(XactLastCommitEnd);
	taken = step.taken;
	mark = step.mark;
	last_packets = step.nwritten;
	list_at = at;
	if (list.packets != NULL && taken.stamp >= list.end)
	{
		pfree(list.packets);
		list.packets = NULL;
	}
	submitters_set_taken(slot, taken.stamp, GetCurrentTimestamp());
	MemoryContextSwitchTo(memory);
	tell(&step);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(memory);
}

/*
 * Nothing is there to be taken now.  Sleep, unless something has come since; whoever
 * comes from now on sees that we sleep.
 */
static bool
nothing_waits(DatabaseSlot *slot)
{
	pid_t		holder;

	return submitters_landed(slot) == landed && !landing &&
		submitters_limit(slot, &holder) <= taken.stamp;
}

/* Restored submissions come first: they are older than all others. */
static bool
take_landed(DatabaseSlot *slot, long *wait_ms)
{
	uint64		count = submitters_landed(slot);
	LogIdentity self;
	Step		step;
	LandingVerdict verdict;

	if (count != landed)
		landing = true;
	landed = count;
	if (!landing)
		return true;
	begin(&step, slot, &self);
	verdict = landing_take(slot, &batch);
	commit(&step, &self);
	landing_tell(slot);
	landing = verdict != LANDING_EMPTY;
	submitters_set_restoring(slot, verdict == LANDING_EARLY);
	/* the rest of the dump is still to come: with it, rows of the log */
	*wait_ms = verdict == LANDING_EARLY ? RESTORE_POLL_MS : 0;
	return !landing;
}

/* Whoever submits from now on wakes us; "wait_ms" unless something is due before. */
static SequencingNext
idle(DatabaseSlot *slot, long wait_ms)
{
	submitters_set_asleep(slot, SEQUENCER_IDLE);
	PAUSE_POINT("sequence: going to sleep");
	if (nothing_waits(slot))
		return wait_ms < 0 ? SEQUENCE_IDLE : SEQUENCE_REST;
	submitters_set_asleep(slot, SEQUENCER_AWAKE);
	return SEQUENCE_AGAIN;
}

/* For how long, in microseconds, the next step is put off. */
static int64
time_to_rest(DatabaseSlot *slot)
{
	int64		until = rest_until;

	if (submitters_epoch_full(slot))
		return 0;
	if (first_seen == 0)
		first_seen = clock_us();
	until = Max(until, first_seen + (int64) calvin_epoch_interval * 1000);
	return until - clock_us();
}

/* One look at the inbox's partitions. */
static SequencingNext
rotate(DatabaseSlot *slot)
{
	if (!start_transaction(slot))
		return SEQUENCE_GONE;
	rotation_step(slot, taken);
	return SEQUENCE_AGAIN;
}

SequencingNext
sequence_some(DatabaseSlot *slot, long *wait_ms)
{
	int64		start;
	int64		rest;

	submitters_set_asleep(slot, SEQUENCER_AWAKE);
	if (context == NULL)
	{
		context = AllocSetContextCreate(TopMemoryContext, "calvin_seq sequencing",
										ALLOCSET_DEFAULT_SIZES);
		batch_init(&batch, context);
	}
	if (known && nothing_waits(slot))
	{
		first_seen = 0;
		return rotation_due(wait_ms) ? rotate(slot) : idle(slot, *wait_ms);
	}
	if (known && (rest = time_to_rest(slot)) > 0)
	{
		*wait_ms = rest / 1000;
		if (*wait_ms == 0)
		{
			/* shorter than a latch can wait */
			pgstat_report_wait_start(wait_event(WAIT_EPOCH));
			pg_usleep(rest);
			pgstat_report_wait_end();
		}
		else
		{
			submitters_set_asleep(slot, SEQUENCER_GATHERS);
			if (!submitters_epoch_full(slot))
				return SEQUENCE_REST;
			submitters_set_asleep(slot, SEQUENCER_AWAKE);
		}
	}

	if (!start_transaction(slot))
		return SEQUENCE_GONE;
	pgstat_report_activity(STATE_RUNNING, "sequencing submissions");
	if (!known)
	{
		look_up(slot);
		return SEQUENCE_AGAIN;
	}
	start = clock_us();
	if (!take_landed(slot, wait_ms))
		return *wait_ms > 0 ? SEQUENCE_REST : SEQUENCE_AGAIN;
	if (submitters_landed(slot) == landed)
	{
		if (!IsTransactionState())
			StartTransactionCommand();
		take_step(slot);
	}
	first_seen = 0;
	rest_until = start + STEP_INTERVAL_US;
	if (last_packets > 1)
	{
		int64		now = clock_us();

		rest_until = now + Min(Max((now - start) * REST_FACTOR, REST_MIN_US), REST_MAX_US);
	}
	return rotation_due(wait_ms) ? rotate(slot) : SEQUENCE_AGAIN;
}
