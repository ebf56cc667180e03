/*
 * router.c
 *	  The applier's side of the queues.
 *
 * A Route is the applier's memory of one subscription slot under one
 * generation and one queue.  Its counters go on from those in the slot, and
 * are written back there at the end of every burst.
 */
#include "compat.h"

#include "lib/ilist.h"
#include "shared/router.h"
#include "shared/subscription.h"
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
	dsm_handle	handle;
	Size		queue_offset;
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
};

/* What router_sync() copies from a slot while it holds the lock. */
typedef struct Found
{
	SubscriptionRef ref;
	uint16		vshard;
	bool		attached;
	dsm_handle	segment;
	Size		queue_offset;
	Size		ring_size;
	uint64		start_index;
	uint64		routed;
	uint64		sent;
	uint64		dropped;
	uint64		last_epoch;
	uint32		last_position;
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

static void
free_route(Router *router, Route *route)
{
	Segment    *segment = route->segment;

	end_episode(route);
	if (route->touched)
		for (int i = 0; i < router->ntouched; i++)
			if (router->touched[i] == route)
			{
				router->touched[i] = router->touched[--router->ntouched];
				break;
			}

	/*
	 * Every queue at once when it is the last one: dsm_detach() runs the
	 * shm_mq's own callbacks, without searching the list of them for each.
	 */
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
	pfree(route);
	router->nroutes--;
}

static void
add_route(Router *router, const Found *found)
{
	Route	   *route = palloc0(sizeof(Route));
	Segment    *segment = find_segment(router, found->segment);

	route->ref = found->ref;
	route->handle = found->segment;
	route->queue_offset = found->queue_offset;
	route->vshard = found->vshard;
	route->start_index = found->start_index;
	route->name = found->name;
	route->routed = found->routed;
	route->sent = found->sent;
	route->dropped = found->dropped;
	route->last_epoch = found->last_epoch;
	route->last_position = found->last_position;
	route->seen = true;

	/* first make it known: what follows may fail, and then it drops */
	route->segment = segment;
	segment->routes++;
	route->next = router->by_vshard[route->vshard];
	router->by_vshard[route->vshard] = route;
	router->nroutes++;

	if (segment->segment != NULL && !found->attached)
		(void) queue_attach(&route->sender, segment->segment,
							(char *) dsm_segment_address(segment->segment) +
							found->queue_offset,
							found->ring_size);
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

static bool
same_queue(const Route *route, const Found *found)
{
	return route->ref.slot == found->ref.slot &&
		route->ref.generation == found->ref.generation &&
		route->handle == found->segment &&
		route->queue_offset == found->queue_offset;
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
		f->segment = slot->segment;
		f->queue_offset = slot->queue_offset;
		f->ring_size = slot->ring_size;
		f->start_index = slot->start_index;
		f->name = slot->name;
		f->routed = pg_atomic_read_u64(&slot->routed);
		f->sent = pg_atomic_read_u64(&slot->sent);
		f->dropped = pg_atomic_read_u64(&slot->dropped);
		f->last_epoch = pg_atomic_read_u64(&slot->routed_epoch);
		f->last_position = pg_atomic_read_u32(&slot->routed_position);
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
		for (Route *route = router->by_vshard[found[i].vshard]; route; route = route->next)
			if (same_queue(route, &found[i]))
				route->seen = true;

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
		Route	   *route = router->by_vshard[found[i].vshard];

		while (route != NULL && !same_queue(route, &found[i]))
			route = route->next;
		if (route == NULL)
			add_route(router, &found[i]);
	}
	show_early(router);

	/* From now on nobody else may send into these queues. */
	LWLockAcquire(Calvin->lock, LW_EXCLUSIVE);
	for (int i = 0; i < n; i++)
	{
		SubscriptionSlot *slot = found[i].ref.slot;

		if (subscription_owned(&found[i].ref) &&
			slot->segment == found[i].segment)
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

	LWLockAcquire(Calvin->lock, LW_SHARED);
	for (int i = 0; i < router->ntouched; i++)
	{
		Route	   *route = router->touched[i];
		SubscriptionSlot *slot = route->ref.slot;

		route->touched = false;
		if (!subscription_owned(&route->ref) || slot->segment != route->handle)
			continue;
		pg_atomic_write_u64(&slot->routed, route->routed);
		pg_atomic_write_u64(&slot->sent, route->sent);
		pg_atomic_write_u64(&slot->dropped, route->dropped);
		pg_atomic_write_u64(&slot->written, route->sender.written);
		pg_atomic_write_u32(&slot->stalled, route->episode > 0);
		pg_atomic_write_u64(&slot->routed_epoch, route->last_epoch);
		pg_atomic_write_u32(&slot->routed_position, route->last_position);
		/* its queue does not tell it of these, nor wakes it */
		if (route->tail_missing && slot->lossless)
			SetLatch(&slot->owner->procLatch);
	}
	LWLockRelease(Calvin->lock);
	router->ntouched = 0;
}
