/*
 * shmem.c
 *	  Allocation and initialisation of the shared memory.
 */
#include "compat.h"

#include <limits.h>

#include "miscadmin.h"
#include "shared/admission.h"
#include "shared/bound.h"
#include "shared/fetchers.h"
#include "shared/follower.h"
#include "shared/handler_slot.h"
#include "shared/pause.h"
#include "shared/shmem.h"
#include "shared/submitters.h"
#include "shared/traffic.h"
#include "shared/whole.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "utils/guc.h"

#define LWLOCK_TRANCHE "calvin_seq"

StaticAssertDecl(sizeof(PublishedState) % sizeof(uint64) == 0 &&
				 sizeof(RoutedState) == ROUTED_WORDS * sizeof(uint64) &&
				 sizeof(ConsumedState) == CONSUMED_WORDS * sizeof(uint64),
				 "published in whole words");

CalvinShared *Calvin = NULL;

int			calvin_max_databases = 4;
int			calvin_max_subscriptions = 2048;
int			calvin_max_handlers = 8;

static shmem_request_hook_type prev_shmem_request_hook = NULL;
static shmem_startup_hook_type prev_shmem_startup_hook = NULL;

static Size
databases_size(void)
{
	return add_size(offsetof(CalvinShared, databases),
					mul_size(calvin_max_databases, sizeof(DatabaseSlot)));
}

static Size
shmem_size(void)
{
	return add_size(CACHELINEALIGN(databases_size()),
					mul_size(calvin_max_subscriptions,
							 sizeof(SubscriptionSlot)));
}

static void
shmem_request(void)
{
	if (prev_shmem_request_hook)
		prev_shmem_request_hook();
	RequestAddinShmemSpace(shmem_size());
	RequestAddinShmemSpace(submitters_shmem_size());
	RequestAddinShmemSpace(traffic_shmem_size());
	RequestAddinShmemSpace(handler_slots_shmem_size());
#ifdef CALVIN_PAUSE_POINTS
	RequestAddinShmemSpace(pause_shmem_size());
#endif
	RequestNamedLWLockTranche(LWLOCK_TRANCHE, 1);
	admission_shmem_request();
	fetchers_shmem_request();
}

static void
init_database(DatabaseSlot *slot)
{
	for (int i = 0; i < WORKER_KINDS; i++)
	{
		pg_atomic_init_u64(&slot->workers[i].proc, 0);
		pg_atomic_init_u32(&slot->workers[i].recheck, 0);
		pg_atomic_init_u32(&slot->workers[i].stop, 0);
	}
	pg_atomic_init_u64(&slot->appends, 0);
	pg_atomic_init_u32(&slot->subs_changed, 0);
	pg_atomic_init_u32(&slot->activity, ACTIVITY_IDLE);
	pg_atomic_init_u64(&slot->catch_up_from, 0);
	pg_atomic_init_u64(&slot->catch_up_to, 0);
	pg_atomic_init_u64(&slot->fence, 0);
	pg_atomic_init_u64(&slot->fence_raised, 0);
	pg_atomic_init_u64(&slot->wake_until, 0);
	whole_init(&slot->version, slot->published, PUBLISHED_WORDS);
	histogram_init(&slot->latency);
	histogram_init(&slot->latency_baseline);
	ConditionVariableInit(&slot->progress);
	bound_init(slot);
	admission_slot_init(slot);
	follower_init(slot);
}

static void
init_subscription(SubscriptionSlot *slot)
{
	whole_init(&slot->routed_version, slot->routed, ROUTED_WORDS);
	whole_init(&slot->consumed_version, slot->consumed, CONSUMED_WORDS);
}

static void
shmem_startup(void)
{
	bool		found;

	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
#ifdef CALVIN_PAUSE_POINTS
	pause_shmem_init();
#endif
	submitters_shmem_init();
	admission_shmem_init();
	traffic_shmem_init();
	handler_slots_shmem_init();
	fetchers_shmem_init();
	Calvin = ShmemInitStruct("calvin_seq", shmem_size(), &found);
	if (!found)
	{
		memset(Calvin, 0, shmem_size());
		Calvin->lock = &(GetNamedLWLockTranche(LWLOCK_TRANCHE))->lock;
		Calvin->max_databases = calvin_max_databases;
		Calvin->max_subscriptions = calvin_max_subscriptions;
		Calvin->rescan = true;
		pg_atomic_init_u64(&Calvin->launcher_proc, 0);
		ConditionVariableInit(&Calvin->databases_changed);
		Calvin->subscriptions = (SubscriptionSlot *)
			((char *) Calvin + CACHELINEALIGN(databases_size()));
		for (int i = 0; i < calvin_max_databases; i++)
			init_database(&Calvin->databases[i]);
		for (int i = 0; i < calvin_max_subscriptions; i++)
			init_subscription(&Calvin->subscriptions[i]);
	}
	LWLockRelease(AddinShmemInitLock);
}

void
shmem_init(void)
{
	DefineCustomIntVariable("calvin_seq.max_databases",
							"Databases that can have a calvin_seq applier at the same time.",
							"Each takes two of max_worker_processes, for its applier and its sequencer; the launcher and its probe take one each.",
							&calvin_max_databases,
							4, 1, 1024,
							PGC_POSTMASTER, 0,
							NULL, NULL, NULL);
	DefineCustomIntVariable("calvin_seq.max_subscriptions",
							"Subscriptions, each of one vshard under one name, that can exist at the same time.",
							"In all databases together.",
							&calvin_max_subscriptions,
							2048, 1, 1 << 20,
							PGC_POSTMASTER, 0,
							NULL, NULL, NULL);
	DefineCustomIntVariable("calvin_seq.max_handlers",
							"Background workers that can run handlers of groups at the same time.",
							"In all databases together.  Each takes one of max_worker_processes while it runs.",
							&calvin_max_handlers,
							8, 0, 1024,
							PGC_POSTMASTER, 0,
							NULL, NULL, NULL);

	prev_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = shmem_request;
	prev_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = shmem_startup;
}

void
shmem_require(void)
{
	if (Calvin == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("calvin_seq is not in shared_preload_libraries"),
				 errdetail("Only appending, encoding, decoding and replay work without it."),
				 errhint("Add calvin_seq to shared_preload_libraries and restart the server.")));
}
