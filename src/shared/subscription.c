/*
 * subscription.c
 *	  Subscription slots: claiming, taking over, releasing, and progress.
 *
 * A slot changes hands under the lock in exclusive mode, with a new
 * generation.  The applier compares generations when it learns that something
 * changed (DatabaseSlot.subs_changed), the former owner at its next call.
 */
#include "compat.h"

#include "miscadmin.h"
#include "shared/database.h"
#include "shared/pause.h"
#include "shared/subscription.h"
#include "shared/whole.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "wire/wire.h"

/*
 * This database's applier, if there is one, shall look at the slots again.
 * Which slot that is may have changed since the subscription was made.
 */
static DatabaseSlot *
changed_locked(void)
{
	DatabaseSlot *database = database_find_locked(MyDatabaseId);

	if (database != NULL)
		pg_atomic_fetch_add_u32(&database->subs_changed, 1);
	return database;
}

static void
wake_applier(DatabaseSlot *database)
{
	if (database != NULL)
		database_wake_applier(database);
}

static void
set_queue_locked(SubscriptionSlot *slot, const SubscriptionQueues *queues,
				 int number)
{
	slot->attached = false;
	slot->queue++;
	slot->segment = queues->segment;
	slot->queue_offset = queues->offsets[number];
	slot->ring_size = queues->ring_sizes[number];
}

/* A new generation: nothing was meant for it yet, and it has said nothing. */
static void
reset_progress_locked(SubscriptionSlot *slot)
{
	RoutedState routed = {.generation = slot->generation,
						  .epoch = MACHINE_NO_EPOCH};
	ConsumedState consumed = {.generation = slot->generation,
							  .delivered_epoch = MACHINE_NO_EPOCH,
							  .floor_epoch = MACHINE_NO_EPOCH};

	whole_write(&slot->routed_version, slot->routed, ROUTED_WORDS, &routed);
	whole_write(&slot->consumed_version, slot->consumed, CONSUMED_WORDS, &consumed);
	slot->quiet = false;
	slot->passed = false;
}

ClaimResult
subscription_claim(DatabaseSlot *database, Oid log, const char *name, int n,
				   const uint16 *vshards, bool lossless,
				   const SubscriptionQueues *queues, uint64 log_end,
				   SubscriptionRef *refs, uint64 *start)
{
	int			place[WIRE_VSHARDS]; /* of a vshard in refs, or -1 */
	int			missing = n;
	int			unused = 0;
	int			next = 0;
	TimestampTz now = GetCurrentTimestamp();

	memset(place, -1, sizeof(place));
	for (int i = 0; i < n; i++)
	{
		place[vshards[i]] = i;
		refs[i].slot = NULL;
	}

	PAUSE_POINT("subscription: before claim");
	LWLockAcquire(Calvin->lock, LW_EXCLUSIVE);
	/* who freed it has ended the subscriptions there were, and no later ones */
	if (database->database != MyDatabaseId || database->log_relid != log)
	{
		LWLockRelease(Calvin->lock);
		return CLAIM_STALE;
	}
	for (int s = 0; s < Calvin->max_subscriptions; s++)
	{
		SubscriptionSlot *slot = &Calvin->subscriptions[s];

		if (!slot->in_use)
			unused++;
		else if (slot->database == MyDatabaseId &&
				 place[slot->vshard] >= 0 &&
				 strcmp(NameStr(slot->name), name) == 0)
		{
			refs[place[slot->vshard]].slot = slot;
			missing--;
		}
	}

	if (missing > unused)
	{
		LWLockRelease(Calvin->lock);
		return CLAIM_FULL;
	}

	*start = Max(log_end, database->routed_through);
	for (int i = 0; i < n; i++)
	{
		SubscriptionSlot *slot = refs[i].slot;

		if (slot == NULL)
		{
			while (Calvin->subscriptions[next].in_use)
				next++;
			slot = refs[i].slot = &Calvin->subscriptions[next];
			slot->in_use = true;
			slot->vshard = vshards[i];
			slot->database = MyDatabaseId;
			namestrcpy(&slot->name, name);
		}
		refs[i].generation = ++slot->generation;
		slot->pid = MyProcPid;
		slot->owner = MyProc;
		slot->lossless = lossless;
		slot->subscribed_at = now;
		slot->start_index = *start;
		set_queue_locked(slot, queues, i);
		reset_progress_locked(slot);
	}
	(void) changed_locked();
	LWLockRelease(Calvin->lock);

	wake_applier(database);
	return CLAIM_DONE;
}

void
subscription_report_full(int n)
{
	int			used = 0;

	LWLockAcquire(Calvin->lock, LW_SHARED);
	for (int s = 0; s < Calvin->max_subscriptions; s++)
		used += Calvin->subscriptions[s].in_use;
	LWLockRelease(Calvin->lock);
	ereport(ERROR,
			(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			 errmsg("too many calvin_seq subscriptions"),
			 errdetail("%d vshards were asked for; %d of %d subscriptions are in use.",
					   n, used, Calvin->max_subscriptions),
			 errhint("Raise calvin_seq.max_subscriptions and restart the server.")));
}

void
subscription_requeue(int n, const SubscriptionRef *refs,
					 const SubscriptionQueues *queues)
{
	DatabaseSlot *database;

	LWLockAcquire(Calvin->lock, LW_EXCLUSIVE);
	for (int i = 0; i < n; i++)
		if (subscription_owned(&refs[i]))
			set_queue_locked(refs[i].slot, queues, i);
	database = changed_locked();
	LWLockRelease(Calvin->lock);

	wake_applier(database);
}

static void
release_locked(SubscriptionSlot *slot)
{
	slot->in_use = false;
	slot->generation++;
	slot->segment = DSM_HANDLE_INVALID;
}

void
subscription_release(int n, const SubscriptionRef *refs)
{
	DatabaseSlot *database;

	LWLockAcquire(Calvin->lock, LW_EXCLUSIVE);
	for (int i = 0; i < n; i++)
		if (subscription_owned(&refs[i]))
			release_locked(refs[i].slot);
	database = changed_locked();
	LWLockRelease(Calvin->lock);

	wake_applier(database);
}

void
subscription_release_database_locked(Oid database)
{
	for (int s = 0; s < Calvin->max_subscriptions; s++)
	{
		SubscriptionSlot *slot = &Calvin->subscriptions[s];

		if (slot->in_use && slot->database == database)
			release_locked(slot);
	}
}

pid_t
subscription_successor(const SubscriptionRef *ref, Oid database,
					   const char *name, uint16 vshard)
{
	SubscriptionSlot *slot = ref->slot;
	pid_t		pid = 0;

	LWLockAcquire(Calvin->lock, LW_SHARED);
	if (slot->database == database && slot->vshard == vshard &&
		strcmp(NameStr(slot->name), name) == 0)
		pid = slot->pid;
	LWLockRelease(Calvin->lock);
	return pid;
}

void
subscription_report(int n, ConsumerReport *reports)
{
	LWLockAcquire(Calvin->lock, LW_SHARED);
	for (int i = 0; i < n; i++)
	{
		SubscriptionSlot *slot = reports[i].ref.slot;

		if (!subscription_owned(&reports[i].ref))
			continue;
		reports[i].state.generation = slot->generation;
		reports[i].state.queue = slot->queue;
		whole_write(&slot->consumed_version, slot->consumed, CONSUMED_WORDS,
					&reports[i].state);
	}
	LWLockRelease(Calvin->lock);
}

bool
subscription_routed(const SubscriptionRef *ref, RoutedState *state)
{
	whole_read(&ref->slot->routed_version, ref->slot->routed, ROUTED_WORDS, state);
	/* one that was released still has what was told of it */
	return state->generation == ref->generation && subscription_owned(ref);
}

void
subscription_wake_readers(Oid database)
{
	LWLockAcquire(Calvin->lock, LW_SHARED);
	for (int s = 0; s < Calvin->max_subscriptions; s++)
	{
		SubscriptionSlot *slot = &Calvin->subscriptions[s];
		ConsumedState consumed;
		StreamKey	until;

		if (!slot->in_use || !slot->lossless || slot->database != database)
			continue;
		whole_read(&slot->consumed_version, slot->consumed, CONSUMED_WORDS, &consumed);
		until.epoch = consumed.log_until_epoch;
		until.position = (uint32) consumed.log_until_position;
		if (key_before(consumed.next_epoch, (uint32) consumed.next_position, until))
			SetLatch(&slot->owner->procLatch);
	}
	LWLockRelease(Calvin->lock);
}

/*
 * Is there anything from the floor on that was meant for it, or that it is to
 * read from the log?
 */
static bool
needs_log(SubscriptionSlot *slot, const ConsumedState *consumed, uint64 applied)
{
	StreamKey	floor = {consumed->floor_epoch, (uint32) consumed->floor_position};
	RoutedState routed;

	whole_read(&slot->routed_version, slot->routed, ROUTED_WORDS, &routed);
	if (routed.epoch != MACHINE_NO_EPOCH &&
		!key_before(routed.epoch, (uint32) routed.position, floor))
		return true;
	return floor.epoch < consumed->log_until_epoch && floor.epoch <= applied;
}

/* Nothing from its floor on, through an epoch, is for it. */
static void
note_quiet_locked(SubscriptionSlot *slot, StreamKey floor, uint64 through)
{
	slot->passed = false;
	slot->quiet = true;
	slot->quiet_from = floor;
	slot->quiet_through = through;
}

/* Is it known that nothing from a key on was for it in front of an epoch? */
static bool
is_quiet_locked(const SubscriptionSlot *slot, StreamKey from, uint64 before)
{
	return slot->quiet && !key_less(from, slot->quiet_from) &&
		slot->quiet_through + 1 >= before;
}

bool
subscription_quiet(const SubscriptionRef *ref, uint64 epoch, uint32 position,
				   uint64 *through)
{
	const SubscriptionSlot *slot = ref->slot;
	bool		quiet;

	LWLockAcquire(Calvin->lock, LW_SHARED);
	quiet = subscription_owned(ref) && slot->quiet &&
		!key_before(epoch, position, slot->quiet_from);
	*through = slot->quiet_through;
	LWLockRelease(Calvin->lock);
	return quiet;
}

int
subscription_needs_log(Oid database, uint64 epoch, const PublishedState *state,
					   const StreamKey *traffic, uint64 from_epoch,
					   uint64 kept, bool passing, SubscriptionNeed *furthest)
{
	uint64		applied = state->machine.last_applied_epoch;
	int			n = 0;

	if (applied == MACHINE_NO_EPOCH)
		return 0;
	LWLockAcquire(Calvin->lock, LW_EXCLUSIVE);
	for (int s = 0; s < Calvin->max_subscriptions; s++)
	{
		SubscriptionSlot *slot = &Calvin->subscriptions[s];
		ConsumedState consumed;
		StreamKey	floor;
		bool		whole; /* nothing of what is gone already was for it */

		if (!slot->in_use || !slot->lossless || slot->database != database)
			continue;
		whole_read(&slot->consumed_version, slot->consumed, CONSUMED_WORDS, &consumed);
		floor.epoch = consumed.floor_epoch;
		floor.position = (uint32) consumed.floor_position;
		if (floor.epoch > applied)
			continue;
		if (!needs_log(slot, &consumed, applied))
		{
			note_quiet_locked(slot, floor, applied);
			continue;
		}
		whole = floor.epoch >= kept || is_quiet_locked(slot, floor, kept);
		if ((slot->passed && !whole) || floor.epoch > epoch)
			continue;
		if (whole && floor.epoch >= from_epoch &&
			traffic_before(traffic[slot->vshard], floor))
		{
			note_quiet_locked(slot, floor, epoch);
			continue;
		}
		slot->passed |= passing;
		if (n++ == 0 || floor.epoch < furthest->epoch)
		{
			furthest->vshard = slot->vshard;
			furthest->name = slot->name;
			furthest->pid = slot->pid;
			furthest->epoch = floor.epoch;
		}
	}
	LWLockRelease(Calvin->lock);
	return n;
}

static void
view_slot_locked(SubscriptionSlot *slot, SubscriptionView *view)
{
	view->vshard = slot->vshard;
	view->name = slot->name;
	view->pid = slot->pid;
	view->lossless = slot->lossless;
	view->attached = slot->attached;
	view->queue = slot->queue;
	view->ring_size = slot->ring_size;
	view->start_index = slot->start_index;
	view->subscribed_at = slot->subscribed_at;
	whole_read(&slot->routed_version, slot->routed, ROUTED_WORDS, &view->routed);
	whole_read(&slot->consumed_version, slot->consumed, CONSUMED_WORDS, &view->consumed);
}

int
subscription_views(Oid database, SubscriptionView *views)
{
	int			n = 0;

	LWLockAcquire(Calvin->lock, LW_SHARED);
	for (int s = 0; s < Calvin->max_subscriptions; s++)
	{
		SubscriptionSlot *slot = &Calvin->subscriptions[s];

		if (slot->in_use && slot->database == database)
			view_slot_locked(slot, &views[n++]);
	}
	LWLockRelease(Calvin->lock);
	return n;
}
