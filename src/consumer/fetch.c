/*
 * fetch.c
 *	  Fetching for a group: taking partitions of it, and what is next in them, in the
 *	  present transaction.
 *
 * A partition belongs to the transaction that has its lock, to the end of that, and
 * so does the position that it writes.  Others pass by what is locked, as SKIP LOCKED
 * passes by rows.
 *
 * Which partitions have something is known from the traffic that the applier notes
 * (shared/traffic.h), so idle ones cost nothing, and the log is read from where the
 * first of those taken has something.  One walk over the log serves all that are
 * taken, so a call takes several: a lone worker all that have something, one of many
 * the older half of what is free, so that others find something as well; unless that
 * is less than was asked for, and the rest is free as well.
 */
#include "compat.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "consumer/fetch.h"
#include "consumer/parking.h"
#include "consumer/taken.h"
#include "log/attach.h"
#include "log/batches.h"
#include "log/hint.h"
#include "log/parked.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "shared/clock.h"
#include "shared/database.h"
#include "shared/fetchers.h"
#include "shared/pause.h"
#include "shared/traffic.h"
#include "shared/waits.h"
#include "storage/latch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* Partitions that a call takes at most, and those it has had already. */
#define TAKE_MAX 16

/* Entries that stay in memory for the next call, in bytes. */
#define KEPT_BYTES (1024 * 1024)

/* So many epochs without anything are stepped over without storing it. */
#define STORE_AFTER 1024

/* So many partitions are looked at to tell how many of them are free. */
#define LOOKED_AT_MAX 64

/* A partition of the call. */
typedef struct Taking
{
	int			partition;
	bool		newly;		/* this call has taken it */
	GroupPosition position;
	uint64		first;		/* epoch that may have something first */
	uint64		delivered;
	bool		stored;		/* behind what was handed out */
} Taking;

/* What may have something. */
typedef struct Candidate
{
	int			partition;
	GroupKey	next;
} Candidate;

struct Fetch
{
	FetchRequest request;
	DatabaseSlot *slot;
	uint64		end;		/* epochs below are applied */
	bool		more;		/* something was left for others, */
	bool		full;		/* since the transaction has enough partitions */
	bool		let_go;		/* partitions that others may have passed by, */
	uint32		passed_from; /* if more than so many were, without our own */
	uint32		passed;		/* that we have passed by since */
	bool		too_new;	/* one was moved after the transaction's snapshot */
	TimestampTz next_retry;
	int			ntaken;
	Taking		taken[TAKEN_MAX];
	int16		taking_of[WIRE_VSHARDS]; /* of a partition: its place, or -1 */
	bool		empty[WIRE_VSHARDS]; /* partitions with nothing below "end" */
	int			nparked;
	ParkedKey  *parked;
	BatchWalk  *walk;
	WireTxn		txn;		/* that the walk is on, from this participant on */
	int			participant;
	bool		on_txn;
	bool		found;		/* the walk is on something to be handed out */
	GroupKey	key;		/* of that, or of the last one handed out */
	int			place;		/* and where it belongs */
	int			given;
	bool		exhausted;
};

/* The walk of this session, with what it has read. */
static BatchWalk *kept_walk = NULL;
static MemoryContext kept_context = NULL;
static bool kept_in_use = false;

static void
at_xact_end(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT)
		kept_in_use = false;
}

/* That, unless it is in use by a call that this one is within. */
static BatchWalk *
take_walk(void)
{
	BatchWalk  *walk;

	if (kept_context == NULL)
	{
		kept_context = AllocSetContextCreate(TopMemoryContext, "calvin_seq fetched",
											 ALLOCSET_DEFAULT_SIZES);
		RegisterXactCallback(at_xact_end, NULL);
	}
	if (kept_in_use)
	{
		walk = batch_walk_create(NULL);
		batch_walk_for_group(walk);
	}
	else
	{
		if (kept_walk == NULL)
		{
			MemoryContext old = MemoryContextSwitchTo(kept_context);

			kept_walk = batch_walk_create(NULL);
			MemoryContextSwitchTo(old);
			batch_walk_keep(kept_walk);
			batch_walk_for_group(kept_walk);
		}
		walk = kept_walk;
		kept_in_use = true;
	}
	batch_walk_set_log(walk, log_table_require()->log);
	return walk;
}

static void
put_walk_back(BatchWalk *walk)
{
	if (walk != kept_walk)
		return;
	if (batch_walk_kept(walk) > KEPT_BYTES)
		batch_walk_stop(walk);
	kept_in_use = false;
}

/*
 * Candidates
 */

/* The first epoch that may have something for each partition, by what is known. */
static void
find_first(const Fetch *fetch, const GroupKey *next, uint64 *first)
{
	const FetchGroup *group = fetch->request.group;

	for (int i = 0; i < group->partitions; i++)
		first[i] = TRAFFIC_NONE;
	for (int v = 0; v < WIRE_VSHARDS; v++)
	{
		int			partition = group->partition_of[v];

		if (partition >= 0)
			first[partition] = Min(first[partition],
								   traffic_first(fetch->slot, (uint16) v,
												 next[partition].epoch));
	}
}

static uint64
first_of_partition(const Fetch *fetch, int partition, uint64 from)
{
	const FetchGroup *group = fetch->request.group;
	uint64		first = TRAFFIC_NONE;

	for (int v = 0; v < WIRE_VSHARDS; v++)
		if (group->partition_of[v] == partition)
			first = Min(first, traffic_first(fetch->slot, (uint16) v, from));
	return first;
}

static void
open_positions(FetchGroup *group, GroupStore *store, bool writes)
{
	group_store_begin(store, group->id, writes);
	store->seen = group->seen;
}

static void
read_position(FetchGroup *group, GroupStore *store, int partition, GroupPosition *position)
{
	group_store_read(store, partition, position);
	/* somebody has put it back, or this session was rolled back, which is the same here */
	if (group_key_less(position->next, group->stored[partition]))
		group->is_known[partition] = false;
	group->stored[partition] = position->next;
}

/* Keys before which nothing is left: from earlier calls, or the table. */
static void
learn_positions(FetchGroup *group, GroupStore *store)
{
	for (int i = 0; i < group->partitions; i++)
	{
		GroupPosition position;
		GroupKey	from;

		if (group->is_known[i])
			continue;
		read_position(group, store, i, &position);
		/* what this transaction has moved itself may be taken back */
		group->is_known[i] = !taken_from(group->id, i, &from);
		group->known[i] = group->is_known[i] ? position.next : from;
	}
}

static int
compare_candidates(const void *a, const void *b)
{
	return group_key_compare(((const Candidate *) a)->next,
							 ((const Candidate *) b)->next);
}

/* Partitions that seem to have something, the one that is furthest behind first. */
static int
find_candidates(const Fetch *fetch, GroupStore *store, Candidate *candidates)
{
	const FetchRequest *request = &fetch->request;
	FetchGroup *group = request->group;
	uint64	   *first = palloc(sizeof(uint64) * group->partitions);
	int			n = 0;

	learn_positions(group, store);
	find_first(fetch, group->known, first);
	for (int i = 0; i < group->partitions; i++)
	{
		if (first[i] >= fetch->end || fetch->empty[i] || fetch->taking_of[i] >= 0 ||
			(request->partition >= 0 && request->partition != i) ||
			(request->avoid != NULL && request->avoid[i]))
			continue;
		candidates[n].partition = i;
		candidates[n++].next = group->known[i];
	}
	pfree(first);
	qsort(candidates, n, sizeof(Candidate), compare_candidates);
	return n;
}

/*
 * Taking
 */

static void
let_go(Fetch *fetch, const Taking *taking)
{
	if (!taking->newly)
		return;
	taken_remove(fetch->request.group->id, taking->partition);
	registry_unlock_partition(fetch->request.group->id, taking->partition);
	fetch->let_go = true;
}

/*
 * Is a partition not to be tried again before a while?  The time is another clock's, or was
 * told before this one was set back, if it is further ahead than anybody is put off.
 */
static bool
is_put_off(Fetch *fetch, const GroupPosition *position)
{
	TimestampTz now;

	if (!fetch->request.heed_retries || position->retry_at == 0)
		return false;
	now = GetCurrentTimestamp();
	if (position->retry_at <= now ||
		position->retry_at > TimestampTzPlusMilliseconds(now, FETCH_MAX_PUT_OFF_MS))
		return false;
	if (fetch->next_retry == 0 || position->retry_at < fetch->next_retry)
		fetch->next_retry = position->retry_at;
	return true;
}

/* Is a partition, with the position that was read, to be taken? */
static bool
is_wanted(Fetch *fetch, const Taking *taking)
{
	const GroupPosition *position = &taking->position;

	if (taking->first >= fetch->end)
		return false;
	if (taking->newly ? !position->in_snapshot :
		taken_is_unseen(fetch->request.group->id, taking->partition))
	{
		fetch->too_new = true;
		return false;
	}
	return !is_put_off(fetch, position);
}

/*
 * Unless another transaction has it.  Whoever lets it go just now either sees that it was
 * found locked, and tells us, or has let it go by the second try.
 */
static bool
lock_or_pass(uint64 group, int partition, uint32 *passed)
{
	if (registry_lock_partition(group, partition, false))
		return true;
	fetchers_note_passed(group);
	(*passed)++;
	return registry_lock_partition(group, partition, false);
}

/* False if another transaction has it, or there is nothing for us. */
static bool
take_one(Fetch *fetch, GroupStore *store, int partition)
{
	FetchGroup *group = fetch->request.group;
	Taking	   *taking = &fetch->taken[fetch->ntaken];
	GroupKey	from;

	taking->partition = partition;
	taking->delivered = 0;
	taking->stored = false;
	taking->newly = !taken_from(group->id, partition, &from);
	if (fetch->request.heed_retries)
	{
		/* without taking it, for which others would have to be told */
		read_position(group, store, partition, &taking->position);
		if (is_put_off(fetch, &taking->position))
			return false;
	}
	PAUSE_POINT("fetch: before the lock");
	if (!lock_or_pass(group->id, partition, &fetch->passed))
	{
		fetchers_note_crowded(group->id);
		return false;
	}
	/* if this fails from here on, others are told that it is free */
	if (taking->newly)
		taken_add(fetch->slot, group->id, partition);
	PAUSE_POINT("fetch: partition locked");
	/* what the last owner has committed is seen from here on */
	newest_refresh(&store->scan);
	read_position(group, store, partition, &taking->position);
	if (taking->newly)
	{
		if (!group->is_known[partition] ||
			group_key_less(group->known[partition], taking->position.next))
			group->known[partition] = taking->position.next;
		group->is_known[partition] = true;
		taken_begins(group->id, partition, taking->position.next);
	}
	/* in between nothing is left, which may have been found out by this session only */
	if (taking->newly &&
		group_key_less(taking->position.next, group->known[partition]))
		taking->first = group->known[partition].epoch;
	else
		taking->first = taking->position.next.epoch;
	taking->first = first_of_partition(fetch, partition, taking->first);
	if (!is_wanted(fetch, taking))
	{
		let_go(fetch, taking);
		return false;
	}
	fetch->taking_of[partition] = (int16) fetch->ntaken++;
	return true;
}

/*
 * Half of what nobody has, of those that come first.  Where others have all, one is to be
 * tried nevertheless: only so are they told, when they let it go, that somebody has passed
 * by; and that there is more, for which the next one is woken, is not so.
 */
static int
half_of_free(const Fetch *fetch, const Candidate *candidates, int n)
{
	uint64		id = fetch->request.group->id;
	int			nfree = 0;

	for (int i = 0; i < Min(n, LOOKED_AT_MAX); i++)
		nfree += !registry_partition_is_locked(id, candidates[i].partition);
	return Min(Max((nfree + 1) / 2, 1), TAKE_MAX);
}

/*
 * Take so much of what is free, in the order of age: all, or half of it.  What this
 * transaction has already is taken in any case.
 */
static void
take_partitions(Fetch *fetch, bool half)
{
	FetchGroup *group = fetch->request.group;
	Candidate  *candidates = palloc(sizeof(Candidate) * group->partitions);
	GroupStore	store;
	GroupKey	from;
	int			n;
	int			wanted;

	fetch->more = false;
	fetch->full = false;
	open_positions(group, &store, false);
	n = find_candidates(fetch, &store, candidates);
	wanted = half ? half_of_free(fetch, candidates, n) : n;
	wanted = Min(wanted, fetch->request.max_txns - fetch->ntaken);
	for (int i = 0; i < n; i++)
	{
		bool		had = taken_from(group->id, candidates[i].partition, &from);

		if (!had && (wanted <= 0 || taken_count() == TAKEN_MAX))
		{
			fetch->full |= wanted > 0;
			fetch->more = true;
			continue;
		}
		if (take_one(fetch, &store, candidates[i].partition) && !had)
			wanted--;
	}
	group_store_end(&store);
	pfree(candidates);
}

/*
 * Walking
 */

static void
start_walk(Fetch *fetch)
{
	GroupKey	from = {PG_UINT64_MAX, 0, 0};
	uint64		first = PG_UINT64_MAX;

	for (int i = 0; i < fetch->ntaken; i++)
	{
		const Taking *taking = &fetch->taken[i];

		first = Min(first, taking->first);
		if (group_key_less(taking->position.next, from))
			from = taking->position.next;
	}
	fetch->nparked = parked_list(fetch->request.group->id, from, fetch->end - 1,
								 &fetch->parked);
	fetch->walk = take_walk();
	batch_walk_seek(fetch->walk, first, fetch->end - 1);
	fetch->on_txn = false;
	fetch->exhausted = false;
}

static bool
is_parked(const Fetch *fetch, GroupKey key)
{
	for (int i = 0; i < fetch->nparked; i++)
		if (group_key_compare(fetch->parked[i].key, key) == 0)
			return true;
	return false;
}

/* Is what the walk is on, as what it is for a vshard, to be handed out? */
static bool
is_next(Fetch *fetch, uint16 vshard)
{
	const FetchGroup *group = fetch->request.group;
	int			partition = group->partition_of[vshard];
	GroupKey	key;

	if (partition < 0 || fetch->taking_of[partition] < 0)
		return false;
	key.epoch = batch_walk_entry(fetch->walk)->epoch;
	key.position = fetch->txn.position;
	key.vshard = vshard;
	fetch->place = fetch->taking_of[partition];
	if (group_key_less(key, fetch->taken[fetch->place].position.next) ||
		group_is_before_start(group, key) ||
		!group_wants(group, &fetch->txn, vshard) || is_parked(fetch, key))
		return false;
	fetch->key = key;
	return true;
}

/* Go to what is to be handed out next; false, and exhausted, if there is none. */
static bool
advance(Fetch *fetch)
{
	while (!fetch->exhausted)
	{
		if (!fetch->on_txn)
		{
			fetch->on_txn = batch_walk_next(fetch->walk, ACCESS_LATEST, &fetch->txn);
			/* what has been removed since the call began may have been for it */
			if (batch_walk_lacks(fetch->walk))
				group_require_kept(fetch->request.group);
			fetch->exhausted = !fetch->on_txn;
			fetch->participant = 0;
			continue;
		}
		while (fetch->participant < fetch->txn.vshard_count)
			if (is_next(fetch, fetch->txn.vshards[fetch->participant++]))
				return true;
		fetch->on_txn = false;
	}
	return false;
}

/* Nothing is left in front of a key, whatever becomes of this transaction. */
static void
note_known(const Fetch *fetch, int partition, GroupKey key)
{
	FetchGroup *group = fetch->request.group;

	if (group->is_known[partition] && group_key_less(group->known[partition], key))
		group->known[partition] = key;
}

/* What was taken had nothing after all. */
static void
let_all_go(Fetch *fetch)
{
	GroupKey	end = {fetch->end, 0, 0};

	for (int i = 0; i < fetch->ntaken; i++)
	{
		const Taking *taking = &fetch->taken[i];

		fetch->taking_of[taking->partition] = -1;
		fetch->empty[taking->partition] = true;
		if (taking->newly)
			note_known(fetch, taking->partition, end);
		let_go(fetch, taking);
	}
	fetch->ntaken = 0;
}

/* Have the partitions taken as much as was asked for?  The walk is used up then. */
static bool
have_enough(Fetch *fetch)
{
	for (int n = 0; n < fetch->request.max_txns; n++)
		if (!advance(fetch))
			return false;
	return true;
}

/* Take partitions, and begin the walk over what they have. */
static void
take_and_walk(Fetch *fetch)
{
	bool		half = fetchers_crowded(fetch->slot, fetch->request.group->id);
	bool		enough;

	take_partitions(fetch, half);
	if (fetch->ntaken == 0)
		return;
	start_walk(fetch);
	if (!half || !fetch->more)
		return;
	enough = have_enough(fetch);
	put_walk_back(fetch->walk);
	if (!enough)
		take_partitions(fetch, false);
	start_walk(fetch);
}

/* Look what there is now; true: there is something to hand out. */
static bool
look(Fetch *fetch)
{
	PublishedState state;

	/* the slot may have become another database's */
	if (fetch->slot->database != MyDatabaseId)
		fetch->slot = attach_database();
	fetch->too_new = false;
	fetch->next_retry = 0;
	fetch->passed_from = fetchers_passed(fetch->request.group->id);
	fetch->passed = 0;
	memset(fetch->empty, 0, sizeof(fetch->empty));
	/* first what is applied, then the traffic */
	database_read(fetch->slot, &state);
	pg_read_barrier();
	fetch->end = machine_next_epoch(&state.machine);
	PAUSE_POINT("fetch: state read");
	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		take_and_walk(fetch);
		if (fetch->ntaken == 0)
			return false;
		if (advance(fetch))
			return true;
		put_walk_back(fetch->walk);
		fetch->walk = NULL;
		let_all_go(fetch);
	}
}

/*
 * What is too new for this transaction is not for others, and they may have passed by
 * what was locked for a moment.  Told without need, each of those that wait would come,
 * lock, let go and tell the next one.
 */
static void
tell_others(Fetch *fetch)
{
	uint64		group = fetch->request.group->id;

	if (fetch->more || fetch->too_new ||
		(fetch->let_go &&
		 fetchers_passed(group) - fetch->passed_from != fetch->passed))
		fetchers_wake_group(fetch->slot, group);
	fetch->let_go = false;
}

/*
 * Waiting
 */

static long
time_to_wait(const Fetch *fetch)
{
	long		left = deadline_left(fetch->request.deadline);

	if (fetch->next_retry != 0)
	{
		long		retry = TimestampDifferenceMilliseconds(GetCurrentTimestamp(),
															fetch->next_retry);

		left = Min(left, retry);
	}
	return left;
}

static bool
look_and_wait(Fetch *fetch)
{
	const FetchRequest *request = &fetch->request;

	for (;;)
	{
		long		left;

		fetchers_looked();
		if (look(fetch))
			return true;
		tell_others(fetch);
		if ((request->stop != NULL && request->stop(request->stop_arg)) ||
			deadline_left(request->deadline) == 0 || fetch->too_new || fetch->full)
			return false;
		left = time_to_wait(fetch);
		if (left > 0 && !fetchers_woken())
			(void) WaitLatch(MyLatch,
							 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, left,
							 wait_event(WAIT_FETCH));
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

static bool
wait_for_something(Fetch *fetch)
{
	bool		found = false;

	fetchers_join(fetch->slot, fetch->request.group->id, fetch->request.group->mask,
				  taken_count() > 0);
	PAUSE_POINT("fetch: joined");
	PG_TRY();
	{
		found = look_and_wait(fetch);
	}
	PG_CATCH();
	{
		fetchers_leave(false);
		PG_RE_THROW();
	}
	PG_END_TRY();
	fetchers_leave(true);
	return found;
}

void
fetch_refuse(const char *function)
{
	shmem_require();
	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("cannot execute %s during recovery", function),
				 errdetail("What groups have processed and parked is stored on the primary."),
				 errhint_for_role("Fetch on the primary; a standby can be subscribed to with seq_subscribe().")));
	PreventCommandIfReadOnly(function);
	PreventCommandIfParallelMode(function);
	taken_begin();
}

/*
 * Nothing was found, and it is known how far.  Where that is far, such as behind what a
 * filter keeps out, it is stored, so that others need not read all of it, and it can be
 * truncated.  Whoever has a partition will do it himself.
 */
static void
store_known(Fetch *fetch)
{
	FetchGroup *group = fetch->request.group;

	for (int i = 0; i < group->partitions; i++)
	{
		GroupStore	store;
		GroupPosition position;
		GroupKey	from;

		if (!group->is_known[i] ||
			group->known[i].epoch < group->stored[i].epoch + STORE_AFTER ||
			taken_count() == TAKEN_MAX ||
			!fetch_take(group, i, false, &store, &position))
			continue;
		group->stored[i] = from = position.next;
		if (position.in_snapshot && group_key_less(position.next, group->known[i]))
		{
			position.next = group->known[i];
			position.attempts = 0;
			position.retry_at = 0;
			position.error = NULL;
			group_store_write(&store, i, &position);
			taken_moved(group->id, i, position.next);
		}
		group_store_end(&store);
		if (group_key_less(from, position.next))
			parking_forget_settled(group, i, from, position.next);
	}
}

Fetch *
fetch_begin(const FetchRequest *request)
{
	Fetch	   *fetch;

	fetch_refuse("seq_fetch()");
	fetch = palloc0(sizeof(Fetch));
	fetch->request = *request;
	memset(fetch->taking_of, -1, sizeof(fetch->taking_of));
	if (request->max_txns == 0)
		return fetch;
	fetch->slot = attach_database();
	traffic_want(fetch->slot);
	fetch->found = look(fetch);
	if (!fetch->found && !fetch->too_new && !fetch->full && deadline_left(request->deadline) > 0)
		fetch->found = wait_for_something(fetch);
	tell_others(fetch);
	if (!fetch->found && fetch->too_new)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not serialize access: group \"%s\" was moved by another transaction",
						NameStr(request->group->name)),
				 errdetail("What it has done is not seen by this transaction's snapshot."),
				 errhint("Run the transaction again.")));
	if (!fetch->found)
		store_known(fetch);
	return fetch;
}

uint32
fetch_attempts(const Fetch *fetch, int partition)
{
	return fetch->taken[fetch->taking_of[partition]].position.attempts;
}

TimestampTz
fetch_next_retry(const Fetch *fetch)
{
	return fetch->next_retry;
}

bool
fetch_next(Fetch *fetch, Delivery *delivery, int *partition)
{
	Taking	   *taking;

	if (!fetch->found)
		return false;
	if (fetch->given > 0 &&
		(fetch->given == fetch->request.max_txns || !advance(fetch)))
		return false;
	fetch->given++;
	taking = &fetch->taken[fetch->place];
	taking->delivered++;
	*partition = taking->partition;
	batch_walk_deliver(fetch->walk, &fetch->txn, fetch->key.vshard, delivery);
	return true;
}

bool
fetch_gave(const Fetch *fetch)
{
	return fetch->given > 0;
}

/*
 * Storing
 */

/* The first key behind what was handed out. */
static GroupKey
reached(const Fetch *fetch)
{
	return fetch->exhausted ? (GroupKey){fetch->end, 0, 0} : group_key_behind(fetch->key);
}

/* What was settled, and lies behind now, is not to be passed over again. */
static void
forget_settled(const Fetch *fetch, GroupKey end)
{
	const FetchGroup *group = fetch->request.group;

	for (int i = 0; i < fetch->nparked; i++)
	{
		const ParkedKey *parked = &fetch->parked[i];
		int			partition = group->partition_of[parked->key.vshard];
		int			place = partition < 0 ? -1 : fetch->taking_of[partition];

		if (parked->settled && place >= 0 && fetch->taken[place].stored &&
			group_key_less(parked->key, end))
			parked_forget(group->id, parked->key);
	}
}

void
fetch_end(Fetch *fetch)
{
	FetchGroup *group = fetch->request.group;
	GroupStore	store;
	GroupKey	end;

	if (!fetch->found)
		return;
	put_walk_back(fetch->walk);
	end = reached(fetch);
	open_positions(group, &store, true);
	for (int i = 0; i < fetch->ntaken; i++)
	{
		Taking	   *taking = &fetch->taken[i];
		GroupPosition *position = &taking->position;

		if (taking->delivered == 0 &&
			position->next.epoch + STORE_AFTER > end.epoch)
			continue;
		taking->newly = false;
		if (group_key_less(end, position->next))
			continue;
		position->next = end;
		position->delivered += taking->delivered;
		position->attempts = 0;
		position->retry_at = 0;
		position->error = NULL;
		group_store_write(&store, taking->partition, position);
		group->stored[taking->partition] = end;
		group->seen[taking->partition] = position->version + 1;
		taken_moved(group->id, taking->partition, end);
		taking->stored = true;
	}
	group_store_end(&store);
	forget_settled(fetch, end);
	for (int i = 0; i < fetch->ntaken; i++)
	{
		const Taking *taking = &fetch->taken[i];

		if (!taking->newly)
			continue;
		if (group_key_less(taking->position.next, end))
			note_known(fetch, taking->partition, end);
		let_go(fetch, taking);
	}
	fetch->ntaken = 0;
	fetch->found = false;
	PAUSE_POINT("fetch: positions stored");
	tell_others(fetch);
}

bool
fetch_take(FetchGroup *group, int partition, bool wait, GroupStore *store,
		   GroupPosition *position)
{
	DatabaseSlot *slot;
	GroupKey	from;
	bool		had = taken_from(group->id, partition, &from);
	uint32		passed = 0;

	fetch_refuse("seq_fetch()");
	slot = attach_database();
	if (!had && taken_count() == TAKEN_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("this transaction has taken %d partitions, and cannot take more",
						TAKEN_MAX),
				 errhint("Commit, and go on in another transaction.")));
	if (wait)
		(void) registry_lock_partition(group->id, partition, true);
	else if (!lock_or_pass(group->id, partition, &passed))
		return false;
	if (!had)
		taken_add(slot, group->id, partition);
	group_store_begin(store, group->id, true);
	group_store_read(store, partition, position);
	if (!had)
	{
		taken_begins(group->id, partition, position->next);
		/* it may be parked from, and not be fetched from */
		if (!position->in_snapshot)
			taken_note_unseen(group->id, partition);
	}
	return true;
}
