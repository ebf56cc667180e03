/*
 * backlog.c
 *	  What consumers by name have not processed, counted from the log.
 *
 * Of a consumer that has nothing to come, the traffic (shared/traffic.h) says so;
 * for the others the log is read from where the first of them stands.
 */
#include "compat.h"

#include "consumer/backlog.h"
#include "log/batches.h"
#include "log/cursors.h"
#include "log/memory.h"
#include "log/snapshots.h"
#include "miscadmin.h"
#include "shared/database.h"
#include "shared/pause.h"
#include "shared/traffic.h"
#include "utils/builtins.h"

/* How often all is counted anew since the log was truncated meanwhile. */
#define MAX_TRIES 10

static void
add_cursor(Backlog *backlog, const NamedCursor *cursor)
{
	uint16		vshard = cursor->cursor.vshard;

	if (!backlog->wanted[vshard])
		backlog->nwanted++;
	backlog->wanted[vshard] = true;
	backlog->next[vshard] = (GroupKey){cursor->cursor.next.epoch,
									   cursor->cursor.next.position, 0};
	backlog->last_progress = Max(backlog->last_progress, cursor->committed_at);
}

/* False: it has ended since its registration was read. */
static bool
add_positions(Backlog *backlog)
{
	const FetchGroup *group = backlog->group;
	GroupPosition *positions = palloc(sizeof(GroupPosition) * group->partitions);
	GroupKey	least = {PG_UINT64_MAX, 0, 0};
	GroupStore	store;

	group_store_begin(&store, group->id, false);
	for (int i = 0; i < group->partitions; i++)
	{
		if (!group_store_find(&store, i, &positions[i]))
		{
			const Registration *now = registry_find(NameStr(backlog->name));

			if (now == NULL || now->id != group->id)
			{
				group_store_end(&store);
				return false;
			}
			/* that is an error */
			group_store_read(&store, i, &positions[i]);
		}
		backlog->delivered += positions[i].delivered;
		backlog->retried += positions[i].retried;
		if (positions[i].delivered > 0)
			backlog->last_progress = Max(backlog->last_progress, positions[i].moved_at);
		if (group_key_less(positions[i].next, least))
			least = positions[i].next;
	}
	group_store_end(&store);
	for (int v = 0; v < WIRE_VSHARDS; v++)
	{
		int			partition = group->partition_of[v];

		backlog->wanted[v] = partition >= 0;
		backlog->nwanted += partition >= 0;
		if (partition < 0)
			continue;
		backlog->next[v] = positions[partition].next;
		if (group->starts != NULL && group_key_less(backlog->next[v], group->starts[v]))
			backlog->next[v] = group->starts[v];
	}
	backlog->nparked = parked_list(group->id, least, PG_INT64_MAX, &backlog->parked);
	pfree(positions);
	return true;
}

/* False if it has ended meanwhile. */
static bool
begin(Backlog *backlog, const char *name, const Registration *registration)
{
	memset(backlog, 0, sizeof(*backlog));
	namestrcpy(&backlog->name, name);
	backlog->registration = registration;
	if (registration == NULL || registration->kind != REGISTRATION_GROUP)
		return true;
	backlog->group = group_open(registration);
	return add_positions(backlog);
}

static int
compare_names(const void *a, const void *b)
{
	return strcmp(NameStr(((const Backlog *) a)->name),
				  NameStr(((const Backlog *) b)->name));
}

int
backlog_list(Backlog **backlogs)
{
	Registration **registrations;
	int			nregistrations = registry_list(&registrations);
	void	   *list = NULL;
	Size		size = 0;
	int			n = 0;
	int			nregistered;
	CursorWalk *walk;
	NamedCursor cursor;
	Backlog    *last = NULL;

	PAUSE_POINT("backlog: registrations listed");
	for (int i = 0; i < nregistrations; i++)
	{
		memory_grow(NULL, &list, &size, (Size) n + 1, sizeof(Backlog));
		if (begin(&((Backlog *) list)[n], NameStr(registrations[i]->name),
				  registrations[i]))
			n++;
	}
	nregistered = n;
	walk = cursors_walk_begin(ACCESS_LATEST);
	while (cursors_walk_next(walk, &cursor))
	{
		/* all cursors of a name come together */
		if (last == NULL || strcmp(NameStr(last->name), NameStr(cursor.name)) != 0)
		{
			last = NULL;
			for (int i = 0; i < nregistered && last == NULL; i++)
				if (strcmp(NameStr(cursor.name),
						   NameStr(((Backlog *) list)[i].name)) == 0)
					last = &((Backlog *) list)[i];
			if (last == NULL)
			{
				memory_grow(NULL, &list, &size, (Size) n + 1, sizeof(Backlog));
				last = &((Backlog *) list)[n++];
				(void) begin(last, NameStr(cursor.name), NULL);
			}
		}
		if (last->group == NULL)
			add_cursor(last, &cursor);
	}
	cursors_walk_end(walk);
	if (n > 0)
		qsort(list, n, sizeof(Backlog), compare_names);
	*backlogs = list;
	return n;
}

/* False if there is none of the name. */
static bool
find_one(const char *name, Backlog *backlog)
{
	uint16		vshards[WIRE_VSHARDS];
	StreamCursor *cursors = palloc(sizeof(StreamCursor) * WIRE_VSHARDS);
	Registration *registration;
	int			n;

	do
		registration = registry_find(name);
	while (!begin(backlog, name, registration));
	if (backlog->group != NULL)
		return true;
	for (int v = 0; v < WIRE_VSHARDS; v++)
		vshards[v] = (uint16) v;
	n = cursors_load(name, WIRE_VSHARDS, vshards, cursors);
	for (int i = 0; i < n; i++)
	{
		NamedCursor cursor = {0};

		cursor.cursor = cursors[i];
		add_cursor(backlog, &cursor);
	}
	pfree(cursors);
	return registration != NULL || n > 0;
}

/*
 * Counting
 */

/* The first epoch that may have something for it, by what is known. */
static uint64
first_epoch(DatabaseSlot *slot, const Backlog *backlog)
{
	uint64		first = TRAFFIC_NONE;

	for (int v = 0; v < WIRE_VSHARDS; v++)
	{
		uint64		from = backlog->next[v].epoch;

		if (backlog->wanted[v])
			first = Min(first, slot == NULL ? from :
						traffic_first(slot, (uint16) v, from));
	}
	return first;
}

static bool
is_parked(const Backlog *backlog, GroupKey key)
{
	for (int i = 0; i < backlog->nparked; i++)
		if (group_key_compare(backlog->parked[i].key, key) == 0)
			return true;
	return false;
}

static bool
lacks(const Backlog *backlog, const WireTxn *txn, GroupKey key)
{
	GroupKey	next = backlog->next[key.vshard];

	if (!backlog->wanted[key.vshard] || group_key_less(key, next))
		return false;
	return backlog->group == NULL ||
		(group_wants(backlog->group, txn, key.vshard) && !is_parked(backlog, key));
}

static void
count_txn(Backlog *backlog, const WireTxn *txn, const BatchWalk *walk,
		  uint64 *last_epoch)
{
	uint64		epoch = batch_walk_entry(walk)->epoch;

	for (int i = 0; i < txn->vshard_count; i++)
	{
		GroupKey	key = {epoch, txn->position, txn->vshards[i]};

		if (!lacks(backlog, txn, key))
			continue;
		if (backlog->epochs == 0)
		{
			backlog->oldest_epoch = epoch;
			backlog->oldest = batch_walk_appended_at(walk);
		}
		if (backlog->epochs == 0 || *last_epoch != epoch)
			backlog->epochs++;
		*last_epoch = epoch;
		backlog->txns++;
	}
}

uint64
backlog_kept(void)
{
	LogAccess	access;
	MachineState base;
	uint64		kept = 0;

	log_access_begin(&access, ACCESS_SNAPSHOTS, ACCESS_LATEST);
	if (snapshots_base(&access, &base))
		kept = machine_next_epoch(&base);
	log_access_end(&access);
	return kept;
}

/* The first epoch of which the traffic says nothing yet; before it is asked. */
static uint64
first_unapplied(DatabaseSlot *slot)
{
	PublishedState state;

	database_read(slot, &state);
	pg_read_barrier();
	return machine_next_epoch(&state.machine);
}

/*
 * Where to begin to look for something for it; TRAFFIC_NONE: there is nothing to come.
 * "slot": whose traffic tells who has nothing, or NULL; "kept": where the log began before
 * it was seen where the consumer stands.
 */
static uint64
begin_counting(Backlog *backlog, DatabaseSlot *slot, uint64 kept)
{
	uint64		unapplied = slot == NULL ? TRAFFIC_NONE : first_unapplied(slot);
	uint64		first = first_epoch(slot, backlog);

	/* cursors that lack nothing of what is truncated are moved with it */
	backlog->lost = backlog->group == NULL ? first < kept :
		backlog->registration->lost_before != 0;
	first = Min(first, Max(unapplied, first_epoch(NULL, backlog)));
	return first == TRAFFIC_NONE ? first : Max(first, kept);
}

static void
count(int n, Backlog *backlogs, DatabaseSlot *slot, uint64 kept, uint64 through)
{
	uint64		from = TRAFFIC_NONE;
	uint64	   *last_epochs = palloc0(sizeof(uint64) * Max(n, 1));
	BatchWalk  *walk;
	WireTxn		txn;

	for (int i = 0; i < n; i++)
		from = Min(from, begin_counting(&backlogs[i], slot, kept));
	if (from > through)
		return;
	PAUSE_POINT("backlog: before the log is read");
	walk = batch_walk_create(NULL);
	/* what is gone meanwhile is no error */
	batch_walk_for_group(walk);
	batch_walk_start(walk, from, through);
	while (batch_walk_next(walk, ACCESS_LATEST, &txn))
	{
		CHECK_FOR_INTERRUPTS();
		for (int i = 0; i < n; i++)
			count_txn(&backlogs[i], &txn, walk, &last_epochs[i]);
	}
	batch_walk_stop(walk);
}

void
backlog_find_lost(Backlog *backlog, uint64 kept)
{
	(void) begin_counting(backlog, database_mine(), kept);
}

void
backlog_find_first(Backlog *backlog, uint64 kept, BatchWalk *walk, uint64 *looked)
{
	uint64		from = begin_counting(backlog, database_mine(), kept);
	uint64		last_epoch = 0;
	WireTxn		txn;

	if (from == TRAFFIC_NONE)
		return;
	batch_walk_for_group(walk);
	batch_walk_start(walk, Max(from, *looked), WIRE_MAX_EPOCH);
	while (backlog->epochs == 0 && batch_walk_next(walk, ACCESS_LATEST, &txn))
	{
		CHECK_FOR_INTERRUPTS();
		*looked = batch_walk_entry(walk)->epoch;
		count_txn(backlog, &txn, walk, &last_epoch);
	}
	batch_walk_stop(walk);
}

/*
 * The log may be truncated, and cursors moved with it, in between.  Where it happens over
 * and over, somebody who lacks nothing may be told as lost this once.
 */
int
backlog_count_all(Backlog **backlogs)
{
	uint64		kept = backlog_kept();

	for (int tries = 1;; tries++)
	{
		int			n = backlog_list(backlogs);
		uint64		before = kept;

		count(n, *backlogs, database_mine(), before, WIRE_MAX_EPOCH);
		kept = backlog_kept();
		if (kept == before || tries == MAX_TRIES)
			return n;
	}
}

bool
backlog_count_one(const char *name, Backlog *backlog)
{
	uint64		kept = backlog_kept();

	for (int tries = 1;; tries++)
	{
		uint64		before = kept;

		if (!find_one(name, backlog))
			return false;
		count(1, backlog, database_mine(), before, WIRE_MAX_EPOCH);
		kept = backlog_kept();
		if (kept == before || tries == MAX_TRIES)
			return true;
	}
}

void
backlog_count_through(int n, Backlog *backlogs, uint64 epoch)
{
	count(n, backlogs, NULL, backlog_kept(), epoch);
}
