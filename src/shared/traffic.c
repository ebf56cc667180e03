/*
 * traffic.c
 *	  Which vshards had something in which of the last epochs.
 */
#include "compat.h"

#include "shared/pause.h"
#include "shared/traffic.h"
#include "storage/shmem.h"

/* Epochs kept of each vshard. */
#define TRAFFIC_DEPTH 4

/* known_from while nothing is known, and "through" before anything was noted. */
#define NOTHING_KNOWN PG_UINT64_MAX
#define NOTHING_NOTED (PG_UINT64_MAX - 1)

StaticAssertDecl(MACHINE_NO_EPOCH != NOTHING_NOTED,
				 "the beginning of a log is something that can be noted");

typedef struct VshardTraffic
{
	pg_atomic_uint64 count; /* epochs that were ever noted */
	pg_atomic_uint64 epochs[TRAFFIC_DEPTH]; /* the n-th at n % TRAFFIC_DEPTH */
} VshardTraffic;

typedef struct Traffic
{
	pg_atomic_uint32 wanted;
	pg_atomic_uint64 known_from;
	uint64		through; /* the last epoch noted; the applier's alone */
	VshardTraffic vshards[WIRE_VSHARDS];
} Traffic;

static Traffic *traffics;

static inline Traffic *
traffic_of(DatabaseSlot *slot)
{
	return &traffics[slot - Calvin->databases];
}

Size
traffic_shmem_size(void)
{
	return mul_size(calvin_max_databases, sizeof(Traffic));
}

void
traffic_shmem_init(void)
{
	bool		found;

	traffics = ShmemInitStruct("calvin_seq traffic", traffic_shmem_size(), &found);
	if (found)
		return;
	for (int i = 0; i < calvin_max_databases; i++)
	{
		Traffic    *traffic = &traffics[i];

		pg_atomic_init_u32(&traffic->wanted, 0);
		pg_atomic_init_u64(&traffic->known_from, NOTHING_KNOWN);
		traffic->through = NOTHING_NOTED;
		for (int v = 0; v < WIRE_VSHARDS; v++)
		{
			pg_atomic_init_u64(&traffic->vshards[v].count, 0);
			for (int n = 0; n < TRAFFIC_DEPTH; n++)
				pg_atomic_init_u64(&traffic->vshards[v].epochs[n], 0);
		}
	}
}

void
traffic_reset_locked(DatabaseSlot *slot)
{
	Traffic    *traffic = traffic_of(slot);

	pg_atomic_write_u64(&traffic->known_from, NOTHING_KNOWN);
	traffic->through = NOTHING_NOTED;
	pg_write_barrier();
	for (int v = 0; v < WIRE_VSHARDS; v++)
		pg_atomic_write_u64(&traffic->vshards[v].count, 0);
}

void
traffic_want(DatabaseSlot *slot)
{
	Traffic    *traffic = traffic_of(slot);

	if (pg_atomic_read_u32(&traffic->wanted) == 0)
		pg_atomic_write_u32(&traffic->wanted, 1);
}

bool
traffic_wanted(DatabaseSlot *slot)
{
	return pg_atomic_read_u32(&traffic_of(slot)->wanted) != 0;
}

void
traffic_begin_epoch(DatabaseSlot *slot, uint64 last, uint64 epoch, bool noted)
{
	Traffic    *traffic = traffic_of(slot);

	if (!noted)
	{
		if (traffic->through != NOTHING_NOTED)
			pg_atomic_write_u64(&traffic->known_from, NOTHING_KNOWN);
		traffic->through = NOTHING_NOTED;
		return;
	}

	/*
	 * It may be tried again after an error, or begun before that by the next process,
	 * since what was noted last was not published.  What is noted stays so: it is not
	 * noted twice, and before it there may be more that is not.
	 */
	if (traffic->through != last &&
		(traffic->through == NOTHING_NOTED || traffic->through < epoch))
		pg_atomic_write_u64(&traffic->known_from, epoch);
	traffic->through = epoch;
	/* who finds something of it below finds where it is known from, too */
	pg_write_barrier();
}

static inline void
note_vshard(VshardTraffic *vshard, uint64 epoch)
{
	uint64		count = pg_atomic_read_u64(&vshard->count);

	if (count > 0 &&
		pg_atomic_read_u64(&vshard->epochs[(count - 1) % TRAFFIC_DEPTH]) >= epoch)
		return;
	/* in the place of the first one that is kept, which nobody trusts */
	pg_atomic_write_u64(&vshard->epochs[count % TRAFFIC_DEPTH], epoch);
	pg_write_barrier();
	PAUSE_POINT("traffic: noted, not counted");
	pg_atomic_write_u64(&vshard->count, count + 1);
}

void
traffic_note(DatabaseSlot *slot, uint64 epoch, const WireTxn *txn)
{
	Traffic    *traffic = traffic_of(slot);

	for (int i = 0; i < txn->vshard_count; i++)
		note_vshard(&traffic->vshards[txn->vshards[i]], epoch);
}

uint64
traffic_first(DatabaseSlot *slot, uint16 vshard_number, uint64 from)
{
	Traffic    *traffic = traffic_of(slot);
	VshardTraffic *vshard = &traffic->vshards[vshard_number];
	uint64		known_from = pg_atomic_read_u64(&traffic->known_from);
	uint64		count;
	uint64		first = TRAFFIC_NONE;

	pg_read_barrier();
	count = pg_atomic_read_u64(&vshard->count);
	if (known_from == NOTHING_KNOWN || from < known_from)
		return from;
	pg_read_barrier();
	for (uint64 n = count > TRAFFIC_DEPTH ? count - TRAFFIC_DEPTH : 0; n < count; n++)
	{
		uint64		epoch = pg_atomic_read_u64(&vshard->epochs[n % TRAFFIC_DEPTH]);

		/*
		 * Of those before the first one that is kept nothing is known.  Nor of that
		 * itself: the next one, which is not counted yet, may have taken its place.
		 */
		if (epoch >= from && count >= TRAFFIC_DEPTH && n == count - TRAFFIC_DEPTH)
			return from;
		if (epoch >= from && epoch < first)
			first = epoch;
	}
	pg_read_barrier();
	/* written meanwhile, which may have replaced one: think the least of it */
	if (pg_atomic_read_u64(&vshard->count) != count ||
		pg_atomic_read_u64(&traffic->known_from) != known_from)
		return from;
	return first;
}
