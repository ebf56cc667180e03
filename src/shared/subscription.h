/*
 * subscription.h
 *	  Subscription slots: claiming, taking over, releasing, and progress.
 */
#ifndef CALVIN_SHARED_SUBSCRIPTION_H
#define CALVIN_SHARED_SUBSCRIPTION_H

#include "compat.h"

#include "shared/key.h"
#include "shared/shmem.h"

/* A slot as its owner, or its applier, knows it. */
typedef struct SubscriptionRef
{
	SubscriptionSlot *slot;
	uint32		generation;
} SubscriptionRef;

/* The queues of one call: where they lie in the segment. */
typedef struct SubscriptionQueues
{
	dsm_handle	segment;
	const Size *offsets;
	const Size *ring_sizes;
} SubscriptionQueues;

typedef enum ClaimResult
{
	CLAIM_DONE,
	CLAIM_FULL, /* there are not enough free slots; nothing changed */
	CLAIM_STALE /* the database's slot is not this log's any more; the same */
} ClaimResult;

/*
 * Make this session the owner of (database, vshard, name) for each of n
 * different vshards, in the log whose slot was "database" a moment ago.  Whoever owned one of them has lost it.  Transactions of entries
 * above both log_end and what the applier has already routed arrive on the
 * queues; *start is that index.
 */
extern ClaimResult subscription_claim(DatabaseSlot *database, Oid log,
									  const char *name, int n,
									  const uint16 *vshards, bool lossless,
									  const SubscriptionQueues *queues,
									  uint64 log_end, SubscriptionRef *refs,
									  uint64 *start);

/* Raise the error that n vshards were too many. */
pg_noreturn extern void subscription_report_full(int n);

/*
 * New queues for slots this session owns, after the applier that sent into
 * the old ones has gone.  Entries of refs that are owned no more are passed
 * over.
 */
extern void subscription_requeue(int n, const SubscriptionRef *refs,
								 const SubscriptionQueues *queues);

/* Give slots up; those that changed hands meanwhile are left alone. */
extern void subscription_release(int n, const SubscriptionRef *refs);

/* All of a database's: the extension is gone from it. */
extern void subscription_release_database_locked(Oid database);

static inline bool
subscription_owned(const SubscriptionRef *ref)
{
	/* may lag behind by a moment, which a call cannot tell from timing */
	return *(volatile uint32 *) &ref->slot->generation == ref->generation;
}

/* Pid of the session that took over from "ref", or 0 if that is unknown. */
extern pid_t subscription_successor(const SubscriptionRef *ref, Oid database,
									const char *name, uint16 vshard);

/* What a consumer has to tell of one of its subscriptions. */
typedef struct ConsumerReport
{
	SubscriptionRef ref;
	ConsumedState state; /* generation and queue are filled in */
} ConsumerReport;

/*
 * Those that are owned no more are passed over.  Raises no error: to be called
 * at the end of transactions too.
 */
extern void subscription_report(int n, ConsumerReport *reports);

/*
 * What the applier has told of a subscription, as a whole; false if that is not
 * of this generation, so that nothing can be concluded from it.
 */
extern bool subscription_routed(const SubscriptionRef *ref, RoutedState *state);

/* Wake every consumer of a database that stands before what it reads from the log. */
extern void subscription_wake_readers(Oid database);

/* A lossless subscription that needs something of the log. */
typedef struct SubscriptionNeed
{
	uint16		vshard;
	NameData	name;
	pid_t		pid;
	uint64		epoch; /* from which on */
} SubscriptionNeed;

/*
 * How many lossless subscriptions of a database still need something of
 * epochs up to the given one, and which of them is furthest behind.  Whatever
 * was applied up to the state that was read before is taken into account.
 * "traffic" tells the last key of each vshard in these epochs from from_epoch on
 * (MACHINE_NO_EPOCH: none); who stands before that counts as in need.
 *
 * Those that need nothing have it noted in their slots: see
 * subscription_quiet().
 *
 * With "passing", what those in need lack is removed nevertheless.  Once it is, so
 * that the log begins with the epoch "kept", they are lost where they stand, and do
 * not count any more.
 */
extern int	subscription_needs_log(Oid database, uint64 epoch,
								   const PublishedState *state,
								   const StreamKey *traffic, uint64 from_epoch,
								   uint64 kept, bool passing,
								   SubscriptionNeed *furthest);

/*
 * Is it known that nothing from a key on was meant for a subscription, up to
 * the epoch *through?  Then it need not ask the log, which may have lost these
 * epochs since.
 */
extern bool subscription_quiet(const SubscriptionRef *ref, uint64 epoch,
							   uint32 position, uint64 *through);

/*
 * What is shown of a slot, of one moment but for what the applier and the
 * consumer tell, each in its own time.
 */
typedef struct SubscriptionView
{
	uint16		vshard;
	NameData	name;
	pid_t		pid;
	bool		lossless;
	bool		attached;
	uint32		queue; /* what is told of another one is past */
	Size		ring_size;
	uint64		start_index;
	TimestampTz subscribed_at;
	RoutedState routed;
	ConsumedState consumed;
} SubscriptionView;

/*
 * Those of a database, in an array with room for Calvin->max_subscriptions;
 * returns how many there are.
 */
extern int	subscription_views(Oid database, SubscriptionView *views);

#endif							/* CALVIN_SHARED_SUBSCRIPTION_H */
