/*
 * waiting.c
 *	  What waits in the inbox, found by looking through it.
 *
 * That is how the sequencer begins, and how it goes on when more packets wait than
 * shared memory has cells.  It takes one pass over all partitions, which are small
 * unless much waits; memory is bounded, since only so many of the packets are
 * kept, the lowest ones.
 */
#include "compat.h"

#include "log/waiting.h"
#include "miscadmin.h"
#include "utils/snapmgr.h"

/* Packets that are listed at once: of 16 bytes, and twice as many meanwhile. */
#define LIST_MAX (512 * 1024)

typedef struct Search
{
	InboxTaken	from;
	uint64		limit;	 /* stamps below it */
	uint64		highest;
	uint64		rows;
	uint64		bytes;
	WaitingPacket *packets;
	int			n;
	int			size;
	bool		any;	 /* rows that are not a header */
	bool		found;
} Search;

static void
search_all(Relation *partitions, Snapshot snapshot, InboxVisit visit,
		   Search *search)
{
	for (uint32 i = 0; i < INBOX_PARTITIONS; i++)
		inbox_scan(partitions[i], i, snapshot, visit, search);
}

static bool
visit_taken(void *context, const InboxRow *row)
{
	Search	   *search = context;
	InboxTaken	taken = {row->stamp, row->link};

	if (row->kind == INBOX_KIND_TAKEN && taken_precedes(search->from, taken))
		search->from = taken;
	if (inbox_is_packet(row))
		search->highest = Max(search->highest, row->stamp);
	/* a note that stands before a packet tells of the one before that */
	else if (row->kind == INBOX_KIND_TAKEN && row->stamp > 0)
		search->highest = Max(search->highest, row->stamp - (row->link == 0));
	return true;
}

void
waiting_find_taken(Relation *partitions, Snapshot snapshot, InboxTaken *taken,
				   uint64 *highest)
{
	Search		search = {0};

	search_all(partitions, snapshot, visit_taken, &search);
	*taken = search.from;
	*highest = search.highest;
}

static bool
visit_count(void *context, const InboxRow *row)
{
	Search	   *search = context;
	uint64		rows;
	uint64		bytes;

	if (!inbox_is_packet(row) || row->stamp < search->from.stamp ||
		row->stamp >= search->limit)
		return true;
	packet_figures(row, &rows, &bytes);
	search->rows += rows;
	search->bytes += bytes;
	if (row->stamp == search->from.stamp && rows > 0)
	{
		/* of one that was begun with, about as many bytes as submissions */
		uint64		done = Min(search->from.ordinal, rows);

		search->rows -= done;
		search->bytes -= bytes / rows * done;
	}
	return true;
}

void
waiting_count(Relation *partitions, Snapshot snapshot, InboxTaken from,
			  uint64 below, uint64 *rows, uint64 *bytes)
{
	Search		search = {.from = from, .limit = below};

	search_all(partitions, snapshot, visit_count, &search);
	*rows = search.rows;
	*bytes = search.bytes;
}

uint64
waiting_now(void)
{
	Relation	partitions[INBOX_PARTITIONS] = {0};
	Snapshot	snapshot;
	InboxTaken	taken;
	uint64		highest;
	uint64		rows;
	uint64		bytes;

	/* with all of them open, none is emptied any more */
	inbox_open_all(partitions);
	snapshot = inbox_latest_snapshot();
	waiting_find_taken(partitions, snapshot, &taken, &highest);
	waiting_count(partitions, snapshot, taken, PG_UINT64_MAX, &rows, &bytes);
	UnregisterSnapshot(snapshot);
	inbox_close_all(partitions);
	return rows;
}

static int
compare_stamps(const void *a, const void *b)
{
	uint64		x = ((const WaitingPacket *) a)->stamp;
	uint64		y = ((const WaitingPacket *) b)->stamp;

	return x < y ? -1 : x > y;
}

static bool
visit_list(void *context, const InboxRow *row)
{
	Search	   *search = context;

	if (!inbox_is_packet(row) || row->stamp < search->from.stamp ||
		row->stamp >= search->limit)
		return true;
	if (search->n == search->size)
	{
		if (search->size < 2 * LIST_MAX)
		{
			search->size = Min(search->size * 2, 2 * LIST_MAX);
			search->packets = repalloc_huge(search->packets,
											search->size * sizeof(WaitingPacket));
		}
		else
		{
			/* keep the lower half: what is above it is found another time */
			qsort(search->packets, search->n, sizeof(WaitingPacket),
				  compare_stamps);
			search->n = LIST_MAX;
			search->limit = search->packets[LIST_MAX].stamp;
			if (row->stamp >= search->limit)
				return true;
		}
	}
	search->packets[search->n].stamp = row->stamp;
	search->packets[search->n].place = row->place;
	search->n++;
	return true;
}

void
waiting_list(Relation *partitions, Snapshot snapshot, uint64 from, uint64 limit,
			 WaitingList *list)
{
	Search		search = {.from = {from, 0}, .limit = limit, .size = 1024};

	search.packets = palloc(search.size * sizeof(WaitingPacket));
	search_all(partitions, snapshot, visit_list, &search);
	if (search.n > 1)
		qsort(search.packets, search.n, sizeof(WaitingPacket), compare_stamps);
	list->packets = search.packets;
	list->n = search.n;
	list->end = search.limit;
}

static bool
visit_partition(void *context, const InboxRow *row)
{
	Search	   *search = context;

	if (row->kind != INBOX_KIND_HEADER)
		search->any = true;
	if (inbox_is_packet(row))
		search->highest = Max(search->highest, row->stamp + 1);
	/* one that stands within a packet tells of a part of that */
	else if (row->kind == INBOX_KIND_TAKEN)
		search->highest = Max(search->highest, row->stamp + (row->link != 0));
	if (inbox_is_packet(row) && row->stamp >= search->from.stamp)
		search->found = true;
	return !search->found;
}

bool
waiting_in_partition(Relation partition, uint32 number, Snapshot snapshot,
					 uint64 from, bool *empty, uint64 *end)
{
	Search		search = {.from = {from, 0}};

	inbox_scan(partition, number, snapshot, visit_partition, &search);
	*empty = !search.any;
	*end = search.highest;
	return search.found;
}
