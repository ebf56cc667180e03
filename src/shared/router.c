/*
 * router.c
 *	  The applier's side of the queues.
 *
 * A Route is the applier's memory of one subscription under one generation,
 * whatever queues that has: it goes on from what the last applier has told of
 * the generation, and tells it anew at the end of every burst.  If the consumer
 * makes another queue, what was put on the old one or on none since is dropped,
 * which the key of the last one that was meant for it tells like any drop.
 */
#include "compat.h"

#include "lib/ilist.h"
#include "shared/pause.h"
#include "shared/router.h"
#include "shared/subscription.h"
#include "shared/whole.h"
#include "storage/latch.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "wire/wire.h"

/* A consumer sees what was sent after so many bytes on all of its queues. */
#define SHOWN_BYTES (256 * 1024)

/* A subscriber's segment, attached once however many queues are in it. */
typedef struct Segment
{
	dlist_node	node;
	dsm_handle	handle;
	dsm_segment *segment; /* NULL: its subscriber has left already */
	int			routes;
} Segment;

typedef struct Route
{
	struct Route *next; /* of the same vshard */
	SubscriptionRef ref;
	uint32		queue; /* its number in the slot */
	Segment    *segment;
	QueueSender sender; /* sender.handle is NULL if nobody can receive */
	uint16		vshard;
	uint64		start_index;
	NameData	name;

	uint64		routed;
	uint64		sent;
	uint64		dropped;
	uint64		last_epoch;
	uint32		last_position;
	uint64		episode; /* dropped since the last one that fitted */
	uint64		dropped_epoch; /* the last of these */
	uint32		dropped_position;
	bool		gone;	 /* the last one found no consumer */
	bool		tail_missing; /* the last one is not on the queue */
	bool		touched; /* is in the router's list of those to publish */
	bool		seen;	 /* by the router_sync() under way */
} Route;

struct Router
{
	DatabaseSlot *database;
	MemoryContext context;
	bool		synced;
	uint32		subs_changed; /* as of the last sync */
	dlist_head	segments;
	Route	   *by_vshard[WIRE_VSHARDS];
	Route	  **touched;
	int			ntouched;
	int			nroutes;
	uint64		woken_before; /* epoch; readers of the log have been woken up to it */
};

/* What router_sync() copies from a slot while it holds the lock. */
typedef struct Found
{
	SubscriptionRef ref;
	uint16		vshard;
	bool		attached;
	uint32		queue;
	dsm_handle	segment;
	Size		queue_offset;
	Size		ring_size;
	uint64		start_index;
	RoutedState routed;
	NameData	name;
} Found;

Router *
router_create(DatabaseSlot *database)
{
	Router	   *router = palloc0(sizeof(Router));

	router->database = database;
	router->context = CurrentMemoryContext;
	dlist_init(&router->segments);
	router->touched = palloc(sizeof(Route *) * Calvin->max_subscriptions);
	return router;
}

/*
 * Attach to a segment, or NULL if it is no more.  An error (no memory to map
 * it) must not keep the other subscribers waiting: the subscription then
 * drops, and says so.  The resource owner is there to undo half an attach.
 */
static dsm_segment *
attach_segment(dsm_handle handle)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner;
	dsm_segment *volatile segment = NULL;

	Assert(CurrentResourceOwner == NULL);
	owner = ResourceOwnerCreate(NULL, "calvin_seq attach");
	CurrentResourceOwner = owner;
	PG_TRY();
	{
		segment = dsm_attach(handle);
		if (segment != NULL)
			dsm_pin_mapping(segment);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		EmitErrorReport();
		FlushErrorState();
		segment = NULL;
	}
	PG_END_TRY();
	ResourceOwnerRelease(owner, RESOURCE_RELEASE_BEFORE_LOCKS, false, true);
	ResourceOwnerRelease(owner, RESOURCE_RELEASE_LOCKS, false, true);
	ResourceOwnerRelease(owner, RESOURCE_RELEASE_AFTER_LOCKS, false, true);
	CurrentResourceOwner = NULL;
	ResourceOwnerDelete(owner);
	return segment;
}

static Segment *
find_segment(Router *router, dsm_handle handle)
{
	dlist_iter	iter;
	Segment    *segment;

	dlist_foreach(iter, &router->segments)
	{
		segment = dlist_container(Segment, node, iter.cur);
		if (segment->handle == handle)
			return segment;
	}
	segment = palloc0(sizeof(Segment));
	segment->handle = handle;
	segment->segment = attach_segment(handle);
	dlist_push_head(&router->segments, &segment->node);
	return segment;
}

static void
end_episode(Route *route)
{
	if (route->episode == 0)
		return;
	ereport(LOG,
			(errmsg_plural("calvin_seq: subscription \"%s\" to vshard %u %s: " UINT64_FORMAT " transaction dropped",
						   "calvin_seq: subscription \"%s\" to vshard %u %s: " UINT64_FORMAT " transactions dropped",
						   route->episode,
						   NameStr(route->name), route->vshard,
						   route->gone ? "had no consumer" : "had its queue full",
						   route->episode),
			 errdetail("The last one was (" UINT64_FORMAT ", %u).",
					   route->dropped_epoch, route->dropped_position)));
	route->episode = 0;
}

/*
 * Let go of a queue.  Every queue at once when it is the last one of a segment:
 * dsm_detach() runs the shm_mq's own callbacks, without searching the list of
 * them for each.
 */
static void
leave_queue(Route *route)
{
	Segment    *segment = route->segment;

	if (--segment->routes > 0)
	{
		if (route->sender.handle != NULL)
			shm_mq_detach(route->sender.handle);
	}
	else
	{
		if (segment->segment != NULL)
			dsm_detach(segment->segment);
		if (route->sender.handle != NULL)
			pfree(route->sender.handle);
		dlist_delete(&segment->node);
		pfree(segment);
	}
	queue_free_sender(&route->sender);
	memset(&route->sender, 0, sizeof(route->sender));
	route->segment = NULL;
}

/* What follows the segment may fail, and then it drops. */
static void
enter_queue(Router *router, Route *route, const Found *found)
{
	Segment    *segment = find_segment(router, found->segment);

	route->segment = segment;
	route->queue = found->queue;
	segment->routes++;
	if (segment->segment != NULL && !found->attached)
		(void) queue_attach(&route->sender, segment->segment,
							(char *) dsm_segment_address(segment->segment) +
							found->queue_offset,
							found->ring_size);
}

static void
free_route(Router *router, Route *route)
{
	end_episode(route);
	if (route->touched)
		for (int i = 0; i < router->ntouched; i++)
			if (router->touched[i] == route)
			{
				router->touched[i] = router->touched[--router->ntouched];
				break;
			}
	if (route->segment != NULL)
		leave_queue(route);
	pfree(route);
	router->nroutes--;
}

static void
add_route(Router *router, const Found *found)
{
	Route	   *route = palloc0(sizeof(Route));

	route->ref = found->ref;
	route->vshard = found->vshard;
	route->start_index = found->start_index;
	route->name = found->name;
	route->routed = found->routed.routed;
	route->sent = found->routed.sent;
	route->dropped = found->routed.dropped;
	route->last_epoch = found->routed.epoch;
	route->last_position = (uint32) found->routed.position;
	route->seen = true;

	/* first make it known: without a queue it drops */
	route->next = router->by_vshard[route->vshard];
	router->by_vshard[route->vshard] = route;
	router->nroutes++;
	enter_queue(router, route, found);
}

/* The consumer has made another queue. */
static void
change_queue(Router *router, Route *route, const Found *found)
{
	if (route->segment != NULL)
		leave_queue(route);
	enter_queue(router, route, found);
}

/*
 * With many queues a quarter of each would be more than a burst holds: the
 * consumer would begin when the applier has finished.
 */
static void
show_early(Router *router)
{
	for (int v = 0; v < WIRE_VSHARDS; v++)
		for (Route *route = router->by_vshard[v]; route; route = route->next)
			queue_show_after(&route->sender,
							 SHOWN_BYTES / route->segment->routes);
}

static Route *
find_route(Router *router, const Found *found)
{
	Route	   *route = router->by_vshard[found->vshard];

	while (route != NULL && (route->ref.slot != found->ref.slot ||
							 route->ref.generation != found->ref.generation))
		route = route->next;
	return route;
}

/* Copy this database's slots.  Caller holds the lock. */
static int
collect_locked(Router *router, Found *found)
{
	int			n = 0;

	for (int s = 0; s < Calvin->max_subscriptions; s++)
	{
		SubscriptionSlot *slot = &Calvin->subscriptions[s];
		Found	   *f = &found[n];

		if (!slot->in_use || slot->database != router->database->database)
			continue;
		f->ref.slot = slot;
		f->ref.generation = slot->generation;
		f->vshard = slot->vshard;
		f->attached = slot->attached;
		f->queue = slot->queue;
		f->segment = slot->segment;
		f->queue_offset = slot->queue_offset;
		f->ring_size = slot->ring_size;
		f->start_index = slot->start_index;
		f->name = slot->name;
		whole_read(&slot->routed_version, slot->routed, ROUTED_WORDS, &f->routed);
		Assert(f->routed.generation == slot->generation);
		n++;
	}
	return n;
}

static void
apply_changes(Router *router, const Found *found, int n)
{
	for (int v = 0; v < WIRE_VSHARDS; v++)
		for (Route *route = router->by_vshard[v]; route; route = route->next)
			route->seen = false;

	for (int i = 0; i < n; i++)
	{
		Route	   *route = find_route(router, &found[i]);

		if (route != NULL)
			route->seen = true;
		/* old queues make room for new ones */
		if (route != NULL && route->queue != found[i].queue && route->segment != NULL)
			leave_queue(route);
	}

	/* first out, then in: a session's old queues make room for its new ones */
	for (int v = 0; v < WIRE_VSHARDS; v++)
	{
		Route	  **link = &router->by_vshard[v];

		while (*link != NULL)
		{
			Route	   *route = *link;

			if (route->seen)
				link = &route->next;
			else
			{
				*link = route->next;
				free_route(router, route);
			}
		}
	}

	for (int i = 0; i < n; i++)
	{
		Route	   *route = find_route(router, &found[i]);

		if (route == NULL)
			add_route(router, &found[i]);
		else if (route->queue != found[i].queue)
			change_queue(router, route, &found[i]);
	}
	show_early(router);

	/* From now on nobody else may send into these queues. */
	LWLockAcquire(Calvin->lock, LW_EXCLUSIVE);
	for (int i = 0; i < n; i++)
	{
		SubscriptionSlot *slot = found[i].ref.slot;

		if (subscription_owned(&found[i].ref) && slot->queue == found[i].queue)
			slot->attached = true;
	}
	LWLockRelease(Calvin->lock);
}

static void
route_through_locked(Router *router, uint64 through)
{
	if (through > router->database->routed_through)
		router->database->routed_through = through;
}

bool
router_unchanged(Router *router, uint64 through)
{
	bool		unchanged;

	LWLockAcquire(Calvin->lock, LW_SHARED);
	unchanged = router->synced && router->subs_changed ==
		pg_atomic_read_u32(&router->database->subs_changed);
	if (unchanged)
		route_through_locked(router, through);
	LWLockRelease(Calvin->lock);
	return unchanged;
}

void
router_sync(Router *router, uint64 through)
{
	MemoryContext old;
	Found	   *found;
	int			n;

	if (router_unchanged(router, through))
		return;

	/* No allocation under the lock: what is copied is as of the second look. */
	old = MemoryContextSwitchTo(router->context);
	found = palloc(sizeof(Found) * Calvin->max_subscriptions);
	LWLockAcquire(Calvin->lock, LW_SHARED);
	router->subs_changed = pg_atomic_read_u32(&router->database->subs_changed);
	n = collect_locked(router, found);
	route_through_locked(router, through);
	LWLockRelease(Calvin->lock);

	router->synced = false;
	apply_changes(router, found, n);
	router->synced = true;
	pfree(found);
	MemoryContextSwitchTo(old);
}

bool
router_in_use(const Router *router)
{
	return router->nroutes > 0;
}

bool
router_wants(const Router *router, uint64 log_index, const WireTxn *txn)
{
	if (router->nroutes == 0)
		return false;
	for (int i = 0; i < txn->vshard_count; i++)
		for (Route *route = router->by_vshard[txn->vshards[i]]; route; route = route->next)
			if (log_index > route->start_index)
				return true;
	return false;
}

bool
router_has_room(const Router *router, uint64 log_index, const WireTxn *txn)
{
	for (int i = 0; i < txn->vshard_count; i++)
		for (Route *route = router->by_vshard[txn->vshards[i]]; route; route = route->next)
			if (log_index > route->start_index &&
				txn->tx_class.len < route->sender.ring_size)
				return true;
	return false;
}

static inline void
meant_for(Router *router, Route *route, uint64 epoch, uint32 position)
{
	route->routed++;
	route->last_epoch = epoch;
	route->last_position = position;
	route->tail_missing = true;
	if (!route->touched)
	{
		route->touched = true;
		router->touched[router->ntouched++] = route;
	}
}

/* These were not sent, or it turned out that nobody will receive them. */
static void
count_dropped(Route *route, uint64 n, uint64 epoch, uint32 position,
			  QueueResult reason, MachineCounters *counters)
{
	route->dropped += n;
	route->episode += n;
	route->gone = reason == QUEUE_GONE;
	route->dropped_epoch = epoch;
	route->dropped_position = position;
	route->tail_missing = true;
	counters->txns_dropped_backpressure += n;
}

static void
take_back(Route *route, uint32 lost, MachineCounters *counters)
{
	/* what an entry that failed half-way sent was never counted */
	counters->txns_fanned_out -= Min(counters->txns_fanned_out, lost);
	route->sent -= lost;
	count_dropped(route, lost, route->last_epoch, route->last_position,
				  QUEUE_GONE, counters);
}

void
router_send(Router *router, uint64 log_index, QueueOutgoing *out,
			MachineCounters *counters)
{
	QueueMessage *message = &out->head.message;

	for (int i = 0; i < message->vshard_count; i++)
		for (Route *route = router->by_vshard[message->vshards[i]]; route; route = route->next)
		{
			QueueResult result;
			uint32		lost = 0;

			if (log_index <= route->start_index)
				continue;
			message->previous_epoch = route->last_epoch;
			message->previous_position = route->last_position;
			result = queue_send(&route->sender, out, &lost);
			if (lost > 0)
				take_back(route, lost, counters);
			meant_for(router, route, message->epoch, message->position);
			if (result == QUEUE_SENT)
			{
				route->sent++;
				route->tail_missing = false;
				counters->txns_fanned_out++;
				end_episode(route);
			}
			else
				count_dropped(route, 1, message->epoch, message->position,
							  result, counters);
		}
}

void
router_drop(Router *router, uint64 log_index, uint64 epoch,
			const WireTxn *txn, MachineCounters *counters)
{
	for (int i = 0; i < txn->vshard_count; i++)
		for (Route *route = router->by_vshard[txn->vshards[i]]; route; route = route->next)
		{
			if (log_index <= route->start_index)
				continue;
			meant_for(router, route, epoch, txn->position);
			count_dropped(route, 1, epoch, txn->position, QUEUE_FULL, counters);
		}
}

void
router_pass_over(Router *router, uint64 log_index, uint64 epoch,
				 const WireTxn *txn)
{
	for (int i = 0; i < txn->vshard_count; i++)
		for (Route *route = router->by_vshard[txn->vshards[i]]; route; route = route->next)
			if (log_index > route->start_index)
				meant_for(router, route, epoch, txn->position);
}

void
router_pass_over_all(Router *router, uint64 log_index, uint64 epoch)
{
	if (epoch == MACHINE_NO_EPOCH)
		return;
	for (int v = 0; v < WIRE_VSHARDS; v++)
		for (Route *route = router->by_vshard[v]; route; route = route->next)
			if (log_index > route->start_index)
				meant_for(router, route, epoch, PG_UINT32_MAX);
}

/* The lock is held in shared mode. */
static void
tell_routed(Route *route)
{
	SubscriptionSlot *slot = route->ref.slot;
	RoutedState state = {
		.generation = route->ref.generation,
		.epoch = route->last_epoch,
		.position = route->last_position,
		.routed = route->routed,
		.sent = route->sent,
		.dropped = route->dropped,
		.stalled = route->episode > 0,
		.queue = route->queue,
		.written = route->sender.written
	};

	route->touched = false;
	if (!subscription_owned(&route->ref))
		return;
	whole_write(&slot->routed_version, slot->routed, ROUTED_WORDS, &state);
	/* its queue does not tell it of these, nor wakes it */
	if ((route->tail_missing || slot->queue != route->queue) && slot->lossless)
		SetLatch(&slot->owner->procLatch);
}

void
router_flush(Router *router, MachineCounters *counters)
{
	for (int i = 0; i < router->ntouched; i++)
	{
		Route	   *route = router->touched[i];
		uint32		lost = 0;

		queue_flush(&route->sender, &lost);
		if (lost > 0)
			take_back(route, lost, counters);
	}

	PAUSE_POINT("router: flushed, not told");
	LWLockAcquire(Calvin->lock, LW_SHARED);
	for (int i = 0; i < router->ntouched; i++)
		tell_routed(router->touched[i]);
	LWLockRelease(Calvin->lock);
	router->ntouched = 0;
}

/*
 * Has somebody said that he stands before what was applied just now?  He may have
 * subscribed since this burst began, so it is the slots that are looked through.
 */
void
router_wake_readers(Router *router, uint64 next_epoch)
{
	uint64		woken_before = router->woken_before;

	/* behind the publication, as they look at that behind their word */
	pg_memory_barrier();
	router->woken_before = next_epoch;
	if (pg_atomic_read_u64(&router->database->wake_until) > woken_before)
		subscription_wake_readers(router->database->database);
}
