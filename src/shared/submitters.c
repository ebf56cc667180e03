/*
 * submitters.c
 *	  Who is about to commit submissions, in which order, and where they are.
 */
#include "compat.h"

#include "access/xlog.h"
#include "miscadmin.h"
#include "shared/database.h"
#include "shared/pause.h"
#include "shared/settings.h"
#include "shared/submitters.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "storage/shmem.h"

/*
 * Stamps go on from the write-ahead log's position when the first one is drawn,
 * which is above all that were drawn in earlier lives of the server: each stands in
 * a row, whose record alone is longer than what it took of them.
 */
#define STAMPS_PER_BYTE 16

typedef struct Submitter
{
	Oid			database; /* both are written before the two below, */
	pid_t		pid;	  /* while these are 0 */
	pg_atomic_uint64 number; /* the first of its transaction; 0: it has none */
	pg_atomic_uint64 stamp;	 /* not above its transaction's; 0: it has none */
} Submitter;

/* Where a packet is: whole if "stamp" is the same before and after. */
typedef struct Cell
{
	pg_atomic_uint64 stamp; /* 0: it is being written */
	pg_atomic_uint64 place;
	pg_atomic_uint64 at;
} Cell;

typedef struct Placed
{
	pg_atomic_uint64 number;
	pg_atomic_uint64 epoch;
	pg_atomic_uint64 position;
} Placed;

typedef struct SubmitterPlace
{
	pg_atomic_uint64 life; /* goes up with each beginning */
	pg_atomic_uint64 next_stamp;
	pg_atomic_uint32 partition;
	pg_atomic_uint32 asleep;
	pg_atomic_uint64 landed;
	pg_atomic_uint32 restoring;
	pg_atomic_uint32 busy;
	pg_atomic_uint64 taken;
	pg_atomic_uint64 taken_at;
	pg_atomic_uint64 submitted;
	pg_atomic_uint64 submitted_bytes;
	pg_atomic_uint64 sequenced;
	pg_atomic_uint64 sequenced_bytes;
	pg_atomic_uint64 epochs;
	pg_atomic_uint64 found;
	pg_atomic_uint64 found_bytes;
	Histogram	latency;
	Histogram	latency_baseline; /* of the slot's beginning */

	slock_t		numbers_mutex; /* guards the five below */
	uint64		first_stamp;   /* of this life; 0: none was drawn yet */
	bool		found_counted; /* the sequencer has counted what it found */
	uint64		next_number;   /* equal to the next one: the block is used up */
	uint64		numbers_end;
	uint64		first_number;  /* of this life */

	ConditionVariable placed_signal;
	pg_atomic_uint64 placed; /* so many were ever */
	Placed	   *ring;		 /* of the last ones: number n at n % ring_size */
	Cell		cells[SUBMITTER_CELLS];
} SubmitterPlace;

static Submitter *submitters;
static SubmitterPlace *places;
static int	nsubmitters;
static int	ring_size;

static inline SubmitterPlace *
place_of(DatabaseSlot *slot)
{
	return &places[slot - Calvin->databases];
}

static Size
backends_size(void)
{
	return CACHELINEALIGN(mul_size(MaxBackends, sizeof(Submitter)));
}

static Size
places_size(void)
{
	return CACHELINEALIGN(mul_size(calvin_max_databases, sizeof(SubmitterPlace)));
}

Size
submitters_shmem_size(void)
{
	return add_size(add_size(backends_size(), places_size()),
					mul_size(mul_size(calvin_max_databases,
									  calvin_submissions_remembered),
							 sizeof(Placed)));
}

static void
init_place(SubmitterPlace *place, Placed *ring)
{
	pg_atomic_init_u64(&place->life, 0);
	pg_atomic_init_u64(&place->next_stamp, 0);
	pg_atomic_init_u32(&place->partition, 0);
	pg_atomic_init_u32(&place->asleep, 0);
	pg_atomic_init_u64(&place->landed, 0);
	pg_atomic_init_u32(&place->restoring, 0);
	pg_atomic_init_u32(&place->busy, 0);
	pg_atomic_init_u64(&place->taken, 0);
	pg_atomic_init_u64(&place->taken_at, 0);
	pg_atomic_init_u64(&place->submitted, 0);
	pg_atomic_init_u64(&place->submitted_bytes, 0);
	pg_atomic_init_u64(&place->sequenced, 0);
	pg_atomic_init_u64(&place->sequenced_bytes, 0);
	pg_atomic_init_u64(&place->epochs, 0);
	pg_atomic_init_u64(&place->found, 0);
	pg_atomic_init_u64(&place->found_bytes, 0);
	histogram_init(&place->latency);
	histogram_init(&place->latency_baseline);
	SpinLockInit(&place->numbers_mutex);
	ConditionVariableInit(&place->placed_signal);
	pg_atomic_init_u64(&place->placed, 0);
	place->ring = ring;
	for (int i = 0; i < ring_size; i++)
	{
		pg_atomic_init_u64(&ring[i].number, 0);
		pg_atomic_init_u64(&ring[i].epoch, 0);
		pg_atomic_init_u64(&ring[i].position, 0);
	}
	for (int i = 0; i < SUBMITTER_CELLS; i++)
	{
		pg_atomic_init_u64(&place->cells[i].stamp, 0);
		pg_atomic_init_u64(&place->cells[i].place, 0);
		pg_atomic_init_u64(&place->cells[i].at, 0);
	}
}

void
submitters_shmem_init(void)
{
	bool		found;
	char	   *memory = ShmemInitStruct("calvin_seq submitters",
										 submitters_shmem_size(), &found);

	nsubmitters = MaxBackends;
	ring_size = calvin_submissions_remembered;
	submitters = (Submitter *) memory;
	places = (SubmitterPlace *) (memory + backends_size());
	if (found)
		return;
	memset(memory, 0, submitters_shmem_size());
	for (int i = 0; i < nsubmitters; i++)
	{
		pg_atomic_init_u64(&submitters[i].stamp, 0);
		pg_atomic_init_u64(&submitters[i].number, 0);
	}
	for (int i = 0; i < calvin_max_databases; i++)
		init_place(&places[i], (Placed *) (memory + backends_size() + places_size()) +
				   (Size) i * ring_size);
}

void
submitters_begin_locked(DatabaseSlot *slot)
{
	SubmitterPlace *place = place_of(slot);

	pg_atomic_fetch_add_u64(&place->life, 1);
	pg_atomic_write_u64(&place->next_stamp, 0);
	pg_atomic_write_u32(&place->partition, 0);
	pg_atomic_write_u32(&place->asleep, 0);
	pg_atomic_write_u64(&place->landed, 0);
	pg_atomic_write_u32(&place->restoring, 0);
	pg_atomic_write_u32(&place->busy, 0);
	pg_atomic_write_u64(&place->taken, 0);
	pg_atomic_write_u64(&place->taken_at, 0);
	pg_atomic_write_u64(&place->submitted, 0);
	pg_atomic_write_u64(&place->submitted_bytes, 0);
	pg_atomic_write_u64(&place->sequenced, 0);
	pg_atomic_write_u64(&place->sequenced_bytes, 0);
	pg_atomic_write_u64(&place->epochs, 0);
	pg_atomic_write_u64(&place->found, 0);
	pg_atomic_write_u64(&place->found_bytes, 0);
	histogram_rebase(&place->latency, &place->latency_baseline);
	SpinLockAcquire(&place->numbers_mutex);
	place->next_number = place->numbers_end = place->first_number = 0;
	place->first_stamp = 0;
	place->found_counted = false;
	SpinLockRelease(&place->numbers_mutex);
	pg_atomic_write_u64(&place->placed, 0);
}

uint64
submitters_life(DatabaseSlot *slot)
{
	return pg_atomic_read_u64(&place_of(slot)->life);
}

static void
forget_at_exit(int code, Datum arg)
{
	Submitter  *me = &submitters[compat_proc_number(MyProc)];

	pg_atomic_write_u64(&me->stamp, 0);
	pg_atomic_write_u64(&me->number, 0);
}

void
submitters_begin_numbers(uint64 number)
{
	static bool registered = false;
	Submitter  *me = &submitters[compat_proc_number(MyProc)];

	if (!registered)
	{
		on_shmem_exit(forget_at_exit, (Datum) 0);
		registered = true;
	}
	me->database = MyDatabaseId;
	me->pid = MyProcPid;
	pg_write_barrier();
	pg_atomic_write_u64(&me->number, number);
}

void
submitters_begin_stamps(DatabaseSlot *slot, uint64 least)
{
	SubmitterPlace *place = place_of(slot);
	uint64		begin = (uint64) GetXLogInsertRecPtr() * STAMPS_PER_BYTE;

	SpinLockAcquire(&place->numbers_mutex);
	if (place->first_stamp == 0)
	{
		place->first_stamp = Max(begin, least);
		pg_atomic_write_u64(&place->next_stamp, place->first_stamp);
	}
	SpinLockRelease(&place->numbers_mutex);
}

uint64
submitters_draw(DatabaseSlot *slot)
{
	SubmitterPlace *place = place_of(slot);
	Submitter  *me = &submitters[compat_proc_number(MyProc)];
	uint64		next = pg_atomic_read_u64(&place->next_stamp);

	if (next == 0)
	{
		submitters_begin_stamps(slot, 0);
		next = pg_atomic_read_u64(&place->next_stamp);
	}
	Assert(pg_atomic_read_u64(&me->number) != 0);
	if (pg_atomic_read_u64(&me->stamp) == 0)
		pg_atomic_write_u64(&me->stamp, next);
	PAUSE_POINT("submitters: before drawing");
	/* a full barrier */
	return pg_atomic_fetch_add_u64(&place->next_stamp, 1);
}

void
submitters_clear(DatabaseSlot *slot)
{
	pg_memory_barrier();
	forget_at_exit(0, (Datum) 0);
	/* before submitters_asleep() */
	pg_memory_barrier();
}

uint64
submitters_limit(DatabaseSlot *slot, pid_t *holder)
{
	uint64		limit = pg_atomic_read_u64(&place_of(slot)->next_stamp);

	*holder = 0;
	pg_memory_barrier();
	for (int i = 0; i < nsubmitters; i++)
	{
		uint64		stamp = pg_atomic_read_u64(&submitters[i].stamp);

		if (stamp == 0 || stamp >= limit)
			continue;
		pg_read_barrier();
		/* of another one by now: then what had this stamp is over */
		if (submitters[i].database != slot->database)
			continue;
		limit = stamp;
		*holder = submitters[i].pid;
	}
	/* whatever is read of the tables from now on is not older than that */
	pg_memory_barrier();
	return limit;
}

uint64
submitters_next_stamp(DatabaseSlot *slot)
{
	return pg_atomic_read_u64(&place_of(slot)->next_stamp);
}

uint64
submitters_first_stamp(DatabaseSlot *slot)
{
	SubmitterPlace *place = place_of(slot);
	uint64		first;

	SpinLockAcquire(&place->numbers_mutex);
	first = place->first_stamp;
	SpinLockRelease(&place->numbers_mutex);
	return first;
}

bool
submitters_begin_found(DatabaseSlot *slot)
{
	SubmitterPlace *place = place_of(slot);
	bool		first;

	SpinLockAcquire(&place->numbers_mutex);
	first = !place->found_counted;
	place->found_counted = true;
	SpinLockRelease(&place->numbers_mutex);
	return first;
}

void
submitters_note_place(DatabaseSlot *slot, uint64 stamp, uint64 place, int64 at)
{
	Cell	   *cell = &place_of(slot)->cells[stamp % SUBMITTER_CELLS];

	/*
	 * Another one may write to it too, if one of us is late by all the cells.  So the
	 * place may be of another stamp than the one beside it: the packet itself tells.
	 */
	pg_atomic_write_u64(&cell->stamp, 0);
	pg_write_barrier();
	pg_atomic_write_u64(&cell->place, place);
	PAUSE_POINT("submitters: in a cell");
	pg_atomic_write_u64(&cell->at, (uint64) at);
	pg_write_barrier();
	pg_atomic_write_u64(&cell->stamp, stamp);
}

bool
submitters_find_place(DatabaseSlot *slot, uint64 stamp, uint64 *place, int64 *at)
{
	Cell	   *cell = &place_of(slot)->cells[stamp % SUBMITTER_CELLS];

	if (pg_atomic_read_u64(&cell->stamp) != stamp)
		return false;
	pg_read_barrier();
	*place = pg_atomic_read_u64(&cell->place);
	*at = (int64) pg_atomic_read_u64(&cell->at);
	pg_read_barrier();
	return pg_atomic_read_u64(&cell->stamp) == stamp;
}

uint32
submitters_partition(DatabaseSlot *slot)
{
	return pg_atomic_read_u32(&place_of(slot)->partition);
}

void
submitters_set_partition(DatabaseSlot *slot, uint32 partition)
{
	pg_atomic_write_u32(&place_of(slot)->partition, partition);
}

bool
submitters_take_number(DatabaseSlot *slot, uint64 *number)
{
	SubmitterPlace *place = place_of(slot);
	bool		taken;

	SpinLockAcquire(&place->numbers_mutex);
	taken = place->next_number < place->numbers_end;
	if (taken)
		*number = place->next_number++;
	SpinLockRelease(&place->numbers_mutex);
	return taken;
}

void
submitters_add_numbers(DatabaseSlot *slot, uint64 first, uint64 n)
{
	SubmitterPlace *place = place_of(slot);

	SpinLockAcquire(&place->numbers_mutex);
	/* of two who were late, one has reserved for nothing */
	if (place->next_number >= place->numbers_end && first >= place->numbers_end)
	{
		place->next_number = first;
		place->numbers_end = first + n;
		if (place->first_number == 0)
			place->first_number = first;
	}
	SpinLockRelease(&place->numbers_mutex);
}

bool
submitters_number_known(DatabaseSlot *slot, uint64 number, bool *before_start)
{
	SubmitterPlace *place = place_of(slot);
	bool		known;

	SpinLockAcquire(&place->numbers_mutex);
	*before_start = place->first_number == 0 || number < place->first_number;
	known = number < place->next_number;
	SpinLockRelease(&place->numbers_mutex);
	return known;
}

void
submitters_set_asleep(DatabaseSlot *slot, SequencerSleep asleep)
{
	pg_atomic_write_u32(&place_of(slot)->asleep, asleep);
	pg_memory_barrier();
}

void
submitters_wake(DatabaseSlot *slot)
{
	switch ((SequencerSleep) pg_atomic_read_u32(&place_of(slot)->asleep))
	{
		case SEQUENCER_AWAKE:
			return;
		case SEQUENCER_GATHERS:
			if (!submitters_epoch_full(slot))
				return;
			break;
		case SEQUENCER_IDLE:
			break;
	}
	database_wake_sequencer(slot);
}

void
submitters_note_landed(DatabaseSlot *slot)
{
	/* a full barrier, before submitters_wake() */
	pg_atomic_fetch_add_u64(&place_of(slot)->landed, 1);
}

void
submitters_set_restoring(DatabaseSlot *slot, bool restoring)
{
	pg_atomic_write_u32(&place_of(slot)->restoring, restoring);
}

bool
submitters_restoring(DatabaseSlot *slot)
{
	return pg_atomic_read_u32(&place_of(slot)->restoring) != 0;
}

void
submitters_set_busy(DatabaseSlot *slot, bool busy)
{
	pg_atomic_write_u32(&place_of(slot)->busy, busy);
}

bool
submitters_busy(DatabaseSlot *slot)
{
	return pg_atomic_read_u32(&place_of(slot)->busy) != 0;
}

uint64
submitters_landed(DatabaseSlot *slot)
{
	return pg_atomic_read_u64(&place_of(slot)->landed);
}

void
submitters_count_submitted(DatabaseSlot *slot, uint64 rows, uint64 bytes)
{
	SubmitterPlace *place = place_of(slot);

	pg_atomic_fetch_add_u64(&place->submitted, rows);
	pg_atomic_fetch_add_u64(&place->submitted_bytes, bytes);
}

void
submitters_count_sequenced(DatabaseSlot *slot, uint64 rows, uint64 bytes,
						   uint64 epochs)
{
	SubmitterPlace *place = place_of(slot);

	pg_atomic_fetch_add_u64(&place->sequenced, rows);
	pg_atomic_fetch_add_u64(&place->sequenced_bytes, bytes);
	pg_atomic_fetch_add_u64(&place->epochs, epochs);
}

void
submitters_count_found(DatabaseSlot *slot, uint64 rows, uint64 bytes)
{
	SubmitterPlace *place = place_of(slot);

	pg_atomic_fetch_add_u64(&place->found, rows);
	pg_atomic_fetch_add_u64(&place->found_bytes, bytes);
}

void
submitters_set_taken(DatabaseSlot *slot, uint64 stamp, int64 at)
{
	pg_atomic_write_u64(&place_of(slot)->taken, stamp);
	pg_atomic_write_u64(&place_of(slot)->taken_at, (uint64) at);
}

int64
submitters_oldest(DatabaseSlot *slot)
{
	SubmitterPlace *place = place_of(slot);
	uint64		taken = pg_atomic_read_u64(&place->taken);
	uint64		next = pg_atomic_read_u64(&place->next_stamp);
	uint64		unused;
	int64		at;

	/* the first ones may have been rolled back */
	for (uint64 stamp = taken; stamp < next && stamp < taken + SUBMITTER_CELLS; stamp++)
		if (submitters_find_place(slot, stamp, &unused, &at))
			return at;
	/* so many that the first ones are not known: they came after what was taken */
	return taken < next ? (int64) pg_atomic_read_u64(&place->taken_at) : 0;
}

void
submitters_figures(DatabaseSlot *slot, SubmitterFigures *figures)
{
	SubmitterPlace *place = place_of(slot);

	/* what was sequenced had been submitted, so that is read after it */
	figures->sequenced = pg_atomic_read_u64(&place->sequenced);
	figures->sequenced_bytes = pg_atomic_read_u64(&place->sequenced_bytes);
	figures->epochs = pg_atomic_read_u64(&place->epochs);
	pg_read_barrier();
	figures->found = pg_atomic_read_u64(&place->found);
	figures->found_bytes = pg_atomic_read_u64(&place->found_bytes);
	figures->submitted = pg_atomic_read_u64(&place->submitted);
	figures->submitted_bytes = pg_atomic_read_u64(&place->submitted_bytes);
}

bool
submitters_epoch_full(DatabaseSlot *slot)
{
	SubmitterFigures figures;

	submitters_figures(slot, &figures);
	return figures.submitted + figures.found - figures.sequenced >=
		(uint64) calvin_max_txns_per_epoch ||
		figures.submitted_bytes + figures.found_bytes - figures.sequenced_bytes >=
		(uint64) calvin_max_bytes_per_epoch;
}

void
submitters_note_latency(DatabaseSlot *slot, int64 usecs)
{
	histogram_add(&place_of(slot)->latency, usecs);
}

double
submitters_latency(DatabaseSlot *slot, double fraction)
{
	SubmitterPlace *place = place_of(slot);

	return histogram_quantile(&place->latency, &place->latency_baseline, fraction);
}

ConditionVariable *
submitters_placed_signal(DatabaseSlot *slot)
{
	return &place_of(slot)->placed_signal;
}

void
submitters_note_placed(DatabaseSlot *slot, const PlacedSubmission *placed, size_t n)
{
	SubmitterPlace *place = place_of(slot);
	uint64		count = pg_atomic_read_u64(&place->placed);

	for (size_t i = 0; i < n; i++)
	{
		Placed	   *entry = &place->ring[count % ring_size];

		/* a reader who comes across it meanwhile sees by the count that it went */
		pg_atomic_write_u64(&entry->number, 0);
		pg_write_barrier();
		pg_atomic_write_u64(&entry->epoch, placed[i].epoch);
		pg_atomic_write_u64(&entry->position, placed[i].position);
		pg_write_barrier();
		pg_atomic_write_u64(&entry->number, placed[i].number);
		pg_write_barrier();
		pg_atomic_write_u64(&place->placed, ++count);
	}
	ConditionVariableBroadcast(&place->placed_signal);
}

/* May a transaction under way still bring this number? */
static bool
number_is_under_way(DatabaseSlot *slot, uint64 number)
{
	for (int i = 0; i < nsubmitters; i++)
	{
		uint64		first = pg_atomic_read_u64(&submitters[i].number);

		if (first == 0 || first > number)
			continue;
		pg_read_barrier();
		if (submitters[i].database == slot->database)
			return true;
	}
	/* what others have submitted was counted before they were over */
	pg_memory_barrier();
	return false;
}

/* Look through what was placed since the last look. */
static bool
find_in_ring(SubmitterPlace *place, uint64 number, PlacedSearch *search,
			 PlacedSubmission *found)
{
	uint64		count = pg_atomic_read_u64(&place->placed);
	uint64		from = Max(search->seen, count > (uint64) ring_size ? count - ring_size : 0);

	search->gap |= from > search->seen;
	pg_read_barrier();
	for (uint64 i = from; i < count; i++)
	{
		Placed	   *entry = &place->ring[i % ring_size];

		if (pg_atomic_read_u64(&entry->number) != number)
			continue;
		pg_read_barrier();
		found->number = number;
		found->epoch = pg_atomic_read_u64(&entry->epoch);
		found->position = pg_atomic_read_u64(&entry->position);
		pg_read_barrier();
		if (pg_atomic_read_u64(&entry->number) == number)
			return true;
	}
	search->seen = count;
	return false;
}

PlacedVerdict
submitters_find_placed(DatabaseSlot *slot, uint64 number, PlacedSearch *search,
					   PlacedSubmission *found)
{
	SubmitterPlace *place = place_of(slot);
	SubmitterFigures figures;

	if (find_in_ring(place, number, search, found))
		return PLACED_FOUND;
	if (!search->gap)
		return PLACED_NOT_YET;
	if (search->goal == 0)
	{
		if (number_is_under_way(slot, number))
			return PLACED_NOT_YET;
		submitters_figures(slot, &figures);
		search->goal = Max(figures.submitted + figures.found, 1);
	}
	submitters_figures(slot, &figures);
	if (figures.sequenced < search->goal)
		return PLACED_UNCLEAR;
	/* what is counted as sequenced was placed before */
	pg_read_barrier();
	return find_in_ring(place, number, search, found) ? PLACED_FOUND : PLACED_FORGOTTEN;
}
