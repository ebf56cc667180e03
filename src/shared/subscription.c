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
		database_wake_proc(&database->applier_proc);
}

static void
set_queue_locked(SubscriptionSlot *slot, const SubscriptionQueues *queues,
				 int number)
{
	slot->attached = false;
	slot->segment = queues->segment;
	slot->queue_offset = queues->offsets[number];
	slot->ring_size = queues->ring_sizes[number];
	pg_atomic_write_u64(&slot->written, 0);
	pg_atomic_write_u64(&slot->read, 0);
	pg_atomic_write_u32(&slot->stalled, 0);
}

static void
reset_progress_locked(SubscriptionSlot *slot)
{
	pg_atomic_write_u64(&slot->routed, 0);
	pg_atomic_write_u64(&slot->sent, 0);
	pg_atomic_write_u64(&slot->dropped, 0);
	pg_atomic_write_u64(&slot->replayed, 0);
	pg_atomic_write_u64(&slot->routed_epoch, MACHINE_NO_EPOCH);
	pg_atomic_write_u32(&slot->routed_position, 0);
	pg_atomic_write_u64(&slot->delivered_epoch, MACHINE_NO_EPOCH);
	pg_atomic_write_u32(&slot->delivered_position, 0);
	pg_atomic_write_u64(&slot->next_epoch, 0);
	pg_atomic_write_u32(&slot->next_position, 0);
	pg_atomic_write_u64(&slot->log_until_epoch, 0);
	pg_atomic_write_u64(&slot->floor_epoch, MACHINE_NO_EPOCH);
	pg_atomic_write_u32(&slot->floor_position, 0);
	slot->quiet = false;
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
subscription_release_database(Oid database)
{
	LWLockAcquire(Calvin->lock, LW_EXCLUSIVE);
	for (int s = 0; s < Calvin->max_subscriptions; s++)
	{
		SubscriptionSlot *slot = &Calvin->subscriptions[s];

		if (slot->in_use && slot->database == database)
			release_locked(slot);
	}
	LWLockRelease(Calvin->lock);
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
subscription_report_consumer(int n, const ConsumerProgress *progress)
{
	LWLockAcquire(Calvin->lock, LW_SHARED);
	for (int i = 0; i < n; i++)
	{
		SubscriptionSlot *slot = progress[i].ref.slot;

		if (!subscription_owned(&progress[i].ref))
			continue;
		pg_atomic_write_u64(&slot->read, progress[i].read);
		pg_atomic_write_u64(&slot->replayed, progress[i].replayed);
		pg_atomic_write_u64(&slot->delivered_epoch, progress[i].epoch);
		pg_atomic_write_u32(&slot->delivered_position, progress[i].position);
		pg_atomic_write_u64(&slot->next_epoch, progress[i].next_epoch);
		pg_atomic_write_u32(&slot->next_position, progress[i].next_position);
		pg_atomic_write_u64(&slot->log_until_epoch, progress[i].log_until_epoch);
	}
	LWLockRelease(Calvin->lock);
}

void
subscription_report_floors(int n, const ConsumerFloor *floors)
{
	LWLockAcquire(Calvin->lock, LW_SHARED);
	for (int i = 0; i < n; i++)
	{
		SubscriptionSlot *slot = floors[i].ref.slot;

		if (!subscription_owned(&floors[i].ref))
			continue;
		pg_atomic_write_u64(&slot->floor_epoch, floors[i].epoch);
		pg_atomic_write_u32(&slot->floor_position, floors[i].position);
	}
	LWLockRelease(Calvin->lock);
}

/*
 * Is there anything from the floor on that was meant for it, or that it is to
 * read from the log?
 */
static bool
needs_log(SubscriptionSlot *slot, StreamKey floor, uint64 applied)
{
	uint64		routed_epoch = pg_atomic_read_u64(&slot->routed_epoch);
	uint32		routed_position = pg_atomic_read_u32(&slot->routed_position);

	if (routed_epoch != MACHINE_NO_EPOCH &&
		!key_before(routed_epoch, routed_position, floor))
		return true;
	return floor.epoch < pg_atomic_read_u64(&slot->log_until_epoch) &&
		floor.epoch <= applied;
}

/* Nothing from its floor on, through an epoch, is for it. */
static void
note_quiet_locked(SubscriptionSlot *slot, StreamKey floor, uint64 through)
{
	slot->quiet = true;
	slot->quiet_from = floor;
	slot->quiet_through = through;
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
					   const StreamKey *traffic, SubscriptionNeed *furthest)
{
	uint64		applied = state->machine.last_applied_epoch;
	int			n = 0;

	if (applied == MACHINE_NO_EPOCH)
		return 0;
	LWLockAcquire(Calvin->lock, LW_EXCLUSIVE);
	for (int s = 0; s < Calvin->max_subscriptions; s++)
	{
		SubscriptionSlot *slot = &Calvin->subscriptions[s];
		StreamKey	floor = {pg_atomic_read_u64(&slot->floor_epoch),
							 pg_atomic_read_u32(&slot->floor_position)};

		if (!slot->in_use || !slot->lossless || slot->database != database ||
			floor.epoch > applied)
			continue;
		if (!needs_log(slot, floor, applied))
		{
			note_quiet_locked(slot, floor, applied);
			continue;
		}
		if (floor.epoch > epoch)
			continue;
		if (traffic != NULL && traffic_before(traffic[slot->vshard], floor))
		{
			note_quiet_locked(slot, floor, epoch);
			continue;
		}
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
	uint64		read = pg_atomic_read_u64(&slot->read);
	uint64		written = pg_atomic_read_u64(&slot->written);

	view->vshard = slot->vshard;
	view->name = slot->name;
	view->pid = slot->pid;
	view->lossless = slot->lossless;
	view->attached = slot->attached;
	view->stalled = pg_atomic_read_u32(&slot->stalled) != 0;
	view->ring_size = slot->ring_size;
	view->start_index = slot->start_index;
	view->subscribed_at = slot->subscribed_at;
	view->sent = pg_atomic_read_u64(&slot->sent);
	view->dropped = pg_atomic_read_u64(&slot->dropped);
	view->replayed = pg_atomic_read_u64(&slot->replayed);
	/* the two are reported by different processes, each in its time */
	view->used = written > read ? written - read : 0;
	view->routed_epoch = pg_atomic_read_u64(&slot->routed_epoch);
	view->delivered_epoch = pg_atomic_read_u64(&slot->delivered_epoch);
	view->delivered_position = pg_atomic_read_u32(&slot->delivered_position);
	view->routed_position = pg_atomic_read_u32(&slot->routed_position);
	view->next.epoch = pg_atomic_read_u64(&slot->next_epoch);
	view->next.position = pg_atomic_read_u32(&slot->next_position);
	view->log_until_epoch = pg_atomic_read_u64(&slot->log_until_epoch);
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
