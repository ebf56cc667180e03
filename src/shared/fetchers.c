/*
 * fetchers.c
 *	  Who waits for something to fetch, and waking one of them.
 */
#include "compat.h"

#include "miscadmin.h"
#include "shared/clock.h"
#include "shared/fetchers.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/shmem.h"

#define LWLOCK_TRANCHE "calvin_seq_fetchers"

typedef struct Fetcher
{
	DatabaseSlot *slot;
	uint64		group;
	PGPROC	   *proc;
	bool		woken; /* and did not look yet */
	bool		holds; /* partitions that nobody else can take */
	uint64		mask[FETCH_MASK_WORDS];
} Fetcher;

/* In the order in which they came. */
typedef struct FetcherList
{
	int			n;
	Fetcher		fetchers[FLEXIBLE_ARRAY_MEMBER]; /* MaxBackends */
} FetcherList;

/* How long a group is thought to have more than one worker. */
#define CROWDED_MS 1000
#define CROWDED_WORDS 256

static FetcherList *list;
static pg_atomic_uint64 *crowded; /* clock_ms() when it was */
static pg_atomic_uint32 *passed;
static pg_atomic_uint32 *waiting; /* of each database slot */
static LWLock *lock;

static Size
list_size(void)
{
	return MAXALIGN(add_size(offsetof(FetcherList, fetchers),
							 mul_size(MaxBackends, sizeof(Fetcher))));
}

static Size
waiting_size(void)
{
	return mul_size(calvin_max_databases, sizeof(pg_atomic_uint32));
}

void
fetchers_shmem_request(void)
{
	RequestAddinShmemSpace(list_size());
	RequestAddinShmemSpace(waiting_size());
	RequestAddinShmemSpace(sizeof(pg_atomic_uint64) * CROWDED_WORDS);
	RequestAddinShmemSpace(sizeof(pg_atomic_uint32) * CROWDED_WORDS);
	RequestNamedLWLockTranche(LWLOCK_TRANCHE, 1);
}

void
fetchers_shmem_init(void)
{
	bool		found;

	list = ShmemInitStruct("calvin_seq fetchers", list_size(), &found);
	if (!found)
		list->n = 0;
	waiting = ShmemInitStruct("calvin_seq fetchers waiting", waiting_size(), &found);
	if (!found)
		for (int i = 0; i < calvin_max_databases; i++)
			pg_atomic_init_u32(&waiting[i], 0);
	crowded = ShmemInitStruct("calvin_seq fetchers crowded",
							  sizeof(pg_atomic_uint64) * CROWDED_WORDS, &found);
	if (!found)
		for (int i = 0; i < CROWDED_WORDS; i++)
			pg_atomic_init_u64(&crowded[i], 0);
	passed = ShmemInitStruct("calvin_seq fetchers passed",
							 sizeof(pg_atomic_uint32) * CROWDED_WORDS, &found);
	if (!found)
		for (int i = 0; i < CROWDED_WORDS; i++)
			pg_atomic_init_u32(&passed[i], 0);
	lock = &(GetNamedLWLockTranche(LWLOCK_TRANCHE))->lock;
}

static inline pg_atomic_uint32 *
waiting_of(DatabaseSlot *slot)
{
	return &waiting[slot - Calvin->databases];
}

static Fetcher *
find_mine(void)
{
	for (int i = 0; i < list->n; i++)
		if (list->fetchers[i].proc == MyProc)
			return &list->fetchers[i];
	return NULL;
}

static void
wake_locked(Fetcher *fetcher)
{
	fetcher->woken = true;
	SetLatch(&fetcher->proc->procLatch);
}

/* One that has been woken, and did not look yet, will do. */
static void
wake_group_locked(DatabaseSlot *slot, uint64 group)
{
	Fetcher    *first = NULL;

	for (int i = 0; i < list->n; i++)
	{
		Fetcher    *fetcher = &list->fetchers[i];

		/* who wakes others looks himself */
		if (fetcher->slot != slot || fetcher->group != group ||
			fetcher->proc == MyProc)
			continue;
		if (fetcher->woken)
			return;
		if (first == NULL)
			first = fetcher;
	}
	if (first != NULL)
		wake_locked(first);
}

void
fetchers_looked(void)
{
	Fetcher    *mine;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	mine = find_mine();
	if (mine != NULL)
		mine->woken = false;
	LWLockRelease(lock);
}

bool
fetchers_woken(void)
{
	const Fetcher *mine;
	bool		woken;

	LWLockAcquire(lock, LW_SHARED);
	mine = find_mine();
	woken = mine != NULL && mine->woken;
	LWLockRelease(lock);
	return woken;
}

void
fetchers_leave(bool looked)
{
	Fetcher    *mine;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	mine = find_mine();
	if (mine != NULL)
	{
		Fetcher		gone = *mine;

		pg_atomic_fetch_sub_u32(waiting_of(gone.slot), 1);
		list->n--;
		memmove(mine, mine + 1,
				(char *) &list->fetchers[list->n] - (char *) mine);
		if (gone.woken || !looked)
			wake_group_locked(gone.slot, gone.group);
	}
	LWLockRelease(lock);
}

/* A session that ends while it waits; errors come by fetchers_leave(). */
static void
leave_at_exit(int code, Datum arg)
{
	fetchers_leave(false);
}

void
fetchers_join(DatabaseSlot *slot, uint64 group, const uint64 *mask, bool holds)
{
	static bool registered = false;
	Fetcher    *fetcher;

	if (!registered)
	{
		before_shmem_exit(leave_at_exit, (Datum) 0);
		registered = true;
	}
	LWLockAcquire(lock, LW_EXCLUSIVE);
	fetcher = &list->fetchers[list->n++];
	fetcher->slot = slot;
	fetcher->group = group;
	fetcher->proc = MyProc;
	fetcher->woken = false;
	fetcher->holds = holds;
	memcpy(fetcher->mask, mask, sizeof(fetcher->mask));
	pg_atomic_fetch_add_u32(waiting_of(slot), 1);
	LWLockRelease(lock);
}

/* What there is was made known before. */
static bool
anybody_waits(DatabaseSlot *slot)
{
	pg_memory_barrier();
	return pg_atomic_read_u32(waiting_of(slot)) > 0;
}

void
fetchers_note_passed(uint64 group)
{
	pg_atomic_fetch_add_u32(&passed[group % CROWDED_WORDS], 1);
}

uint32
fetchers_passed(uint64 group)
{
	/* behind the release of what others may have passed by */
	pg_memory_barrier();
	return pg_atomic_read_u32(&passed[group % CROWDED_WORDS]);
}

void
fetchers_note_crowded(uint64 group)
{
	pg_atomic_write_u64(&crowded[group % CROWDED_WORDS], (uint64) clock_ms());
}

bool
fetchers_crowded(DatabaseSlot *slot, uint64 group)
{
	uint64		since = pg_atomic_read_u64(&crowded[group % CROWDED_WORDS]);
	bool		waited = false;

	if (since != 0 && clock_ms() - (int64) since < CROWDED_MS)
		return true;
	if (!anybody_waits(slot))
		return false;
	LWLockAcquire(lock, LW_SHARED);
	for (int i = 0; i < list->n && !waited; i++)
		waited = list->fetchers[i].slot == slot &&
			list->fetchers[i].group == group && list->fetchers[i].proc != MyProc;
	LWLockRelease(lock);
	return waited;
}

void
fetchers_wake_group(DatabaseSlot *slot, uint64 group)
{
	if (!anybody_waits(slot))
		return;
	LWLockAcquire(lock, LW_EXCLUSIVE);
	wake_group_locked(slot, group);
	LWLockRelease(lock);
}

static bool
has_any(const Fetcher *fetcher, const uint64 *mask)
{
	uint64		common = 0;

	for (int i = 0; i < FETCH_MASK_WORDS; i++)
		common |= fetcher->mask[i] & mask[i];
	return common != 0;
}

void
fetchers_wake(DatabaseSlot *slot, const uint64 *mask)
{
	if (!anybody_waits(slot))
		return;
	LWLockAcquire(lock, LW_EXCLUSIVE);
	for (int i = 0; i < list->n; i++)
	{
		Fetcher    *fetcher = &list->fetchers[i];

		if (fetcher->slot == slot && !fetcher->woken &&
			(mask == NULL || has_any(fetcher, mask)))
			wake_group_locked(slot, fetcher->group);
	}
	/* what may be for these alone */
	for (int i = 0; i < list->n; i++)
	{
		Fetcher    *fetcher = &list->fetchers[i];

		if (fetcher->slot == slot && fetcher->holds && !fetcher->woken &&
			(mask == NULL || has_any(fetcher, mask)))
			wake_locked(fetcher);
	}
	LWLockRelease(lock);
}
