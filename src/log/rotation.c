/*
 * rotation.c
 *	  Which partition of the inbox is written to, and how the others get empty.
 *
 * Rows of the inbox are not deleted one by one: whoever holds an old snapshot would
 * have them stay, dead, for as long as he does.  When the partition that is written
 * to has grown to ROTATE_BLOCKS, an empty one takes its place, and the ones before
 * it are given new storage, as TRUNCATE does, once all in them is in the log.  That
 * is not concluded but looked up, with nobody else in the partition.
 *
 * A dump is the one who needs more: it has to get what waited when its snapshot was
 * taken, and comes for it hours later.  It cannot lock the partitions, but like
 * everything else it locks the table seq_inbox, from soon after its snapshot to its
 * end.  Whoever is found to have that locked pins all partitions that hold anything
 * at that time; what is written to others afterwards he cannot see, and does not
 * need.  In the moment between his snapshot and his lock nothing may be emptied that
 * he can see: so the last RETAIN_BYTES stay in any case, and if it happened all the
 * same, seq_inbox_waiting() finds it out and raises an error.
 *
 * For that the first row of a partition, visible to every snapshot, tells which
 * transaction gave it its storage, and the newest of these rows, of all partitions,
 * what was removed: spans, each from the transaction with which the first partition
 * began that was emptied, to the one that has emptied the last.  A snapshot that sees
 * the end of a span, or does not see its beginning, misses nothing of it; nor does one
 * that sees, in what is left, that all of it had been taken.  A new span begins
 * whenever somebody new has come to pin.
 */
#include "compat.h"

#include "access/heapam.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/xact.h"
#include "log/owner.h"
#include "log/rotation.h"
#include "miscadmin.h"
#include "shared/clock.h"
#include "shared/pause.h"
#include "shared/submitters.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "storage/procarray.h"
#include "storage/sinvaladt.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* A partition that is written to makes place for another one at this size: 6 MB. */
#define ROTATE_BLOCKS 768

/* So many blocks of others stay, although all in them is in the log: 18 MB. */
#define RETAIN_BLOCKS (3 * ROTATE_BLOCKS)

/* After how many bytes put into the log it is looked at. */
#define CHECK_BYTES (1024 * 1024)

/* When something is in the way: doubling. */
#define FIRST_RETRY_MS 100
#define LAST_RETRY_MS 1000

/* So many spans fit into a header; beyond, the oldest two become one. */
#define MAX_SPANS 300

/* One who has the table seq_inbox locked, and what he may still need. */
typedef struct Pin
{
	VirtualTransactionId holder;
	uint32		partitions; /* a bit each */
} Pin;

static uint64 noted = 0;	 /* bytes since the last look */
static bool blocked = false; /* something is in the way */
static bool more = false;	 /* there is more to do at once */
static int64 retry_at;		 /* clock_ms() */
static long retry_ms = 0;
static Pin *pins = NULL;
static int	npins = 0;
static bool begin_span = true; /* with what is removed next */
static bool removed = false; /* by the transaction under way */

/* What the header of a partition says. */
typedef struct Header
{
	uint64		number; /* 0: there is none */
	uint64		began;	/* full transaction id */
	RemovedSpan spans[MAX_SPANS];
	int			nspans;
} Header;

static bool
visit_header(void *context, const InboxRow *row)
{
	Header	   *header = context;

	if (row->kind != INBOX_KIND_HEADER)
		return false;			/* it is the first row */
	header->number = row->stamp;
	header->began = row->link;
	header->nspans = (int) (row->len / sizeof(RemovedSpan));
	memcpy(header->spans, row->data, header->nspans * sizeof(RemovedSpan));
	return false;
}

static void
read_header(Relation rel, uint32 partition, Snapshot snapshot, Header *header)
{
	header->number = 0;
	header->began = 0;
	header->nspans = 0;
	inbox_scan(rel, partition, snapshot, visit_header, header);
}

/* The newest header of all partitions, and the numbers of all, unless NULL. */
static void
read_headers(Relation *partitions, Snapshot snapshot, Header *newest,
			 uint64 *numbers)
{
	Header	   *header = palloc(sizeof(Header));

	newest->number = 0;
	newest->nspans = 0;
	for (uint32 i = 0; i < INBOX_PARTITIONS; i++)
	{
		read_header(partitions[i], i, snapshot, header);
		if (header->number > newest->number)
			*newest = *header;
		if (numbers != NULL)
			numbers[i] = header->number;
	}
	pfree(header);
}

RemovedSpan *
rotation_removed(Relation *partitions, Snapshot snapshot, int *n)
{
	Header	   *newest = palloc(sizeof(Header));
	RemovedSpan *spans;

	read_headers(partitions, snapshot, newest, NULL);
	*n = newest->nspans;
	spans = palloc(Max(*n, 1) * sizeof(RemovedSpan));
	memcpy(spans, newest->spans, *n * sizeof(RemovedSpan));
	pfree(newest);
	return spans;
}

void
rotation_begin(DatabaseSlot *slot, Relation *partitions, Snapshot snapshot)
{
	Header	   *newest = palloc(sizeof(Header));
	uint64		numbers[INBOX_PARTITIONS];
	uint64		highest = 0;
	uint32		current = 0;

	/* the one that was begun last is, if nothing else, the one to go on with */
	read_headers(partitions, snapshot, newest, numbers);
	for (uint32 i = 0; i < INBOX_PARTITIONS; i++)
		if (numbers[i] > highest && RelationGetNumberOfBlocks(partitions[i]) > 1)
		{
			highest = numbers[i];
			current = i;
		}
	submitters_set_partition(slot, current);
	pfree(newest);
	noted = 0;
	blocked = false;
	more = true;
	npins = 0;
	begin_span = true;
}

void
rotation_note(uint64 bytes)
{
	noted += bytes;
}

bool
rotation_due(long *wait_ms)
{
	*wait_ms = -1;
	if (more)
		return true;
	if (blocked)
	{
		int64		left = retry_at - clock_ms();

		if (left > 0)
			*wait_ms = (long) left;
		return left <= 0;
	}
	return noted >= CHECK_BYTES;
}

/*
 * Does one who has seq_inbox locked hold a snapshot, too?  A dump always does; others
 * have just looked at the table, and will take another one before they do again.
 */
static bool
has_snapshot(VirtualTransactionId holder)
{
	PGPROC	   *proc = compat_holder_proc(holder);

	return proc != NULL && TransactionIdIsValid(((volatile PGPROC *) proc)->xmin);
}

/* Who has seq_inbox locked now?  Who is new pins what holds anything. */
static void
look_for_pins(const bool *used_now)
{
	LOCKTAG		tag;
	VirtualTransactionId *holders;
	int			n;
	Pin		   *now;
	int			held = 0;
	uint32		used = 0;

	SET_LOCKTAG_RELATION(tag, MyDatabaseId,
						 log_side_table(log_table_require(), SIDE_LANDING));
	holders = GetLockConflicts(&tag, AccessExclusiveLock, &n);
	for (uint32 i = 0; i < INBOX_PARTITIONS; i++)
		if (used_now[i])
			used |= UINT32_C(1) << i;

	now = MemoryContextAllocZero(TopMemoryContext, Max(n, 1) * sizeof(Pin));
	for (int i = 0; i < n; i++)
	{
		bool		is_new = true;

		if (!has_snapshot(holders[i]))
			continue;
		now[held].holder = holders[i];
		now[held].partitions = used;
		for (int j = 0; j < npins; j++)
			if (VirtualTransactionIdEquals(pins[j].holder, holders[i]))
			{
				now[held].partitions = pins[j].partitions;
				is_new = false;
			}
		begin_span |= is_new;
		held++;
	}
	if (pins != NULL)
		pfree(pins);
	pfree(holders);
	pins = now;
	npins = held;
}

static bool
is_pinned(uint32 partition)
{
	for (int i = 0; i < npins; i++)
		if (pins[i].partitions & (UINT32_C(1) << partition))
			return true;
	return false;
}

/* What a partition held is removed by this transaction. */
static void
add_span(Header *newest, uint64 began, uint64 end)
{
	uint64		now = U64FromFullTransactionId(GetTopFullTransactionId());

	if (!begin_span && newest->nspans > 0)
	{
		RemovedSpan *last = &newest->spans[newest->nspans - 1];

		last->first = Min(last->first, began);
		last->last = now;
		last->end = Max(last->end, end);
		return;
	}
	if (newest->nspans == MAX_SPANS)
	{
		newest->spans[1].first = Min(newest->spans[0].first, newest->spans[1].first);
		newest->spans[1].end = Max(newest->spans[0].end, newest->spans[1].end);
		memmove(newest->spans, newest->spans + 1,
				(MAX_SPANS - 1) * sizeof(RemovedSpan));
		newest->nspans--;
	}
	newest->spans[newest->nspans].first = began;
	newest->spans[newest->nspans].last = now;
	newest->spans[newest->nspans].end = end;
	newest->nspans++;
}

/*
 * Give a partition that is locked new storage, with a header; and note in "current",
 * which may be this one, how far was taken, since the last note may go with it.
 */
static void
renew(Relation rel, uint32 partition, const Header *newest, uint32 current,
	  InboxTaken taken)
{
	Relation	to = rel;

	compat_set_new_storage(rel);
	(void) inbox_insert(rel, partition, INBOX_KIND_HEADER, newest->number + 1,
						GetCurrentTimestamp(),
						U64FromFullTransactionId(GetTopFullTransactionId()),
						newest->spans, newest->nspans * sizeof(RemovedSpan),
						HEAP_INSERT_FROZEN);
	if (current != partition)
		to = inbox_open(current, InvalidOid, RowExclusiveLock);
	(void) inbox_insert(to, current, INBOX_KIND_TAKEN, taken.stamp,
						GetCurrentTimestamp(), taken.ordinal, NULL, 0, 0);
	if (current != partition)
		relation_close(to, NoLock);
}

/*
 * Empty a partition: to be written to from now on, or since all in it is in the log.
 * False if somebody is in the way, or something is not.
 */
static bool
try_renew(DatabaseSlot *slot, uint32 partition, bool activate,
		  InboxTaken taken, Header *newest)
{
	uint32		current = activate ? partition : submitters_partition(slot);
	Relation	rel = inbox_try_open_alone(partition);
	Snapshot	snapshot;
	Header	   *header;
	bool		empty;
	uint64		end;
	bool		waits;

	if (rel == NULL)
		return false;
	PAUSE_POINT("rotation: locked");
	snapshot = inbox_latest_snapshot();
	waits = waiting_in_partition(rel, partition, snapshot, taken.stamp, &empty, &end);
	if (waits || (!empty && is_pinned(partition)))
	{
		UnregisterSnapshot(snapshot);
		relation_close(rel, AccessExclusiveLock);
		return false;
	}
	header = palloc(sizeof(Header));
	read_header(rel, partition, snapshot, header);
	UnregisterSnapshot(snapshot);
	if (!empty)
	{
		add_span(newest, header->began, end);
		removed = true;
	}
	renew(rel, partition, newest, current, taken);
	relation_close(rel, NoLock);
	return true;
}

/* Empty the one that was begun first of those that may go. */
static bool
renew_oldest(DatabaseSlot *slot, uint32 current, const BlockNumber *sizes,
			 const uint64 *numbers, InboxTaken taken, Header *newest)
{
	uint32		tried = 0;

	for (;;)
	{
		int			oldest = -1;

		for (uint32 i = 0; i < INBOX_PARTITIONS; i++)
			if (i != current && sizes[i] > 1 && !is_pinned(i) &&
				!(tried & (UINT32_C(1) << i)) &&
				(oldest < 0 || numbers[i] < numbers[oldest]))
				oldest = (int) i;
		if (oldest < 0)
			return false;
		if (try_renew(slot, (uint32) oldest, false, taken, newest))
			return true;
		tried |= UINT32_C(1) << oldest;
	}
}

void
rotation_step(DatabaseSlot *slot, InboxTaken taken)
{
	LogIdentity self = log_become_worker(log_table_require());
	Relation	partitions[INBOX_PARTITIONS];
	BlockNumber sizes[INBOX_PARTITIONS];
	uint64		numbers[INBOX_PARTITIONS];
	uint32		current = submitters_partition(slot);
	uint64		retained = 0;
	Snapshot	snapshot = inbox_latest_snapshot();
	Header	   *newest = palloc(sizeof(Header));
	bool		used[INBOX_PARTITIONS];
	bool		full;
	bool		due;
	bool		have_empty = false;
	bool		done = false;
	bool		activated = false;
	bool		empty;
	uint64		end;

	inbox_open_all(partitions);
	read_headers(partitions, snapshot, newest, numbers);
	for (uint32 i = 0; i < INBOX_PARTITIONS; i++)
	{
		sizes[i] = RelationGetNumberOfBlocks(partitions[i]);
		/* one block may be a header, or hold what somebody was late with */
		used[i] = sizes[i] > 1;
		if (sizes[i] == 1)
			used[i] = waiting_in_partition(partitions[i], i, snapshot, 0, &empty,
										   &end) || !empty;
	}
	UnregisterSnapshot(snapshot);
	/* nobody but us may be in the way of ourselves */
	inbox_close_all(partitions);
	look_for_pins(used);
	removed = false;
	PAUSE_POINT("rotation: pins known");
	for (uint32 i = 0; i < INBOX_PARTITIONS; i++)
		if (i != current && sizes[i] > 1 && !is_pinned(i))
			retained += sizes[i];

	full = sizes[current] >= ROTATE_BLOCKS;
	for (uint32 i = 0; i < INBOX_PARTITIONS && full && !done; i++)
		if (i != current && sizes[i] <= 1)
		{
			have_empty = true;
			done = activated = try_renew(slot, i, true, taken, newest);
			if (done)
				current = i;
		}
	/* while there are pins, the next one is to find as little as can be */
	due = retained > (npins > 0 ? ROTATE_BLOCKS : RETAIN_BLOCKS) ||
		(full && !have_empty);
	if (!done && due)
		done = renew_oldest(slot, current, sizes, numbers, taken, newest);
	CommitTransactionCommand();
	log_become_self(&self);

	if (activated)
		submitters_set_partition(slot, current);
	if (removed)
		begin_span = false;
	noted = 0;
	more = done;
	blocked = !done && (due || full);
	if (blocked)
	{
		retry_ms = retry_ms == 0 ? FIRST_RETRY_MS : Min(retry_ms * 2, LAST_RETRY_MS);
		retry_at = clock_ms() + retry_ms;
	}
	else
		retry_ms = 0;
}
