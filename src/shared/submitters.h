/*
 * submitters.h
 *	  Who is about to commit submissions, in which order, and where they are.
 *
 * A transaction that has submitted something draws a stamp when it commits.
 * Stamps are the order of what was submitted.  The sequencer takes what lies below
 * the lowest stamp that a commit under way may have, so that nothing comes to lie
 * before what it has taken.
 *
 * The numbers are drawn by fetch-and-add, without a lock.  A backend first
 * publishes the value of the counter in its slot and then draws; the sequencer
 * reads the counter first and the slots after it:
 *
 *	backend		(1) slot = counter		(2) stamp = counter++	(3) insert ...
 *				... (4) it is visible, or rolled back	(5) slot = 0
 *	sequencer	(a) limit = counter		(b) limit = lowest slot below it
 *				(c) snapshot
 *
 * If the stamp is below the limit of (a), then (2) came before (a), so (1) before
 * (b): there the sequencer finds the slot, which is not above the stamp, or finds
 * it cleared, that is after (4), and its snapshot sees what became of it.  A
 * backend that is paused anywhere holds the limit down, no more.
 *
 *	word				written by				read by
 *	Submitter.*			its backend				sequencers, views
 *	next_stamp			who draws; the first	the sequencer
 *						to use it begins it
 *	partition, taken	the sequencer			who submits; views
 *	cells				who has drawn the		the sequencer: a hint where the
 *						stamp					packet is, wrong or missing at worst
 *	asleep				the sequencer			who has submitted: (5), then this
 *	landed				who restores			the sequencer
 *	restoring, busy		the sequencer			views; the applier: a hint
 *	placed				the sequencer, after	seq_submission
 *						its commit
 *	submitted, ...		who has submitted		views; who asks whether an epoch is full
 *	sequenced, ...		the sequencer			likewise
 *
 * A place of it belongs to the DatabaseSlot of the same number, and begins anew
 * with it.
 */
#ifndef CALVIN_SHARED_SUBMITTERS_H
#define CALVIN_SHARED_SUBMITTERS_H

#include "compat.h"

#include "port/atomics.h"
#include "shared/histogram.h"
#include "shared/shmem.h"
#include "storage/s_lock.h"
#include "storage/spin.h"

/* Cells of a database: so many packets can wait without a look at the tables. */
#define SUBMITTER_CELLS 16384

/* How many submission numbers are reserved at once, and lost at a restart. */
#define SUBMISSION_BLOCK 4096

/* Shared memory; called by shmem.c. */
extern Size submitters_shmem_size(void);
extern void submitters_shmem_init(void);

/* A slot becomes that of another database; the lock is held. */
extern void submitters_begin_locked(DatabaseSlot *slot);

/* Another number each time that a slot begins anew. */
extern uint64 submitters_life(DatabaseSlot *slot);

/* This transaction uses numbers from this one on, until submitters_clear(). */
extern void submitters_begin_numbers(uint64 number);

/*
 * Draw a stamp for this transaction: above those of all transactions that were
 * visible to it, or acknowledged, before.  It has begun its numbers.  From then until
 * submitters_clear() the sequencer waits.
 */
extern uint64 submitters_draw(DatabaseSlot *slot);

/* This transaction is visible now, or rolled back. */
extern void submitters_clear(DatabaseSlot *slot);

/*
 * All stamps below the one returned are of transactions that a snapshot taken
 * from now on sees, or that were rolled back.  *holder: pid of the backend that
 * keeps it from being higher, 0 for none.
 */
extern uint64 submitters_limit(DatabaseSlot *slot, pid_t *holder);

/* The stamp that is drawn next; 0 if none was since the server started. */
extern uint64 submitters_next_stamp(DatabaseSlot *slot);

/*
 * Stamps of this life begin, not below "least"; unless they have begun already, by
 * who has drawn one or by the sequencer.
 */
extern void submitters_begin_stamps(DatabaseSlot *slot, uint64 least);

/* The first stamp of this life; what has lower ones was found. */
extern uint64 submitters_first_stamp(DatabaseSlot *slot);

/* Has the sequencer to count what it finds?  Once in a life of the slot. */
extern bool submitters_begin_found(DatabaseSlot *slot);

/* Where the packet of a stamp is, and when it was written. */
extern void submitters_note_place(DatabaseSlot *slot, uint64 stamp, uint64 place,
								  int64 at);

/* What was noted; false: nothing, or it was overwritten. */
extern bool submitters_find_place(DatabaseSlot *slot, uint64 stamp,
								  uint64 *place, int64 *at);

/* The partition of the inbox that is to be written to. */
extern uint32 submitters_partition(DatabaseSlot *slot);
extern void submitters_set_partition(DatabaseSlot *slot, uint32 partition);

/*
 * A submission number, unless the block of them is used up: then one that was
 * reserved is to be added.
 */
extern bool submitters_take_number(DatabaseSlot *slot, uint64 *number);
extern void submitters_add_numbers(DatabaseSlot *slot, uint64 first, uint64 n);

/* Who has submitted has to wake the sequencer ... */
typedef enum SequencerSleep
{
	SEQUENCER_AWAKE,   /* not at all */
	SEQUENCER_GATHERS, /* if an epoch is full */
	SEQUENCER_IDLE	   /* in any case */
} SequencerSleep;

/*
 * The sequencer announces that it is going to sleep, and looks once more for work
 * before it does.
 */
extern void submitters_set_asleep(DatabaseSlot *slot, SequencerSleep asleep);

/* Do as many submissions wait as an epoch takes, or as many bytes? */
extern bool submitters_epoch_full(DatabaseSlot *slot);

/*
 * The sequencer has something to look at, that is counted: after submitters_clear().
 */
extern void submitters_wake(DatabaseSlot *slot);

/* Submissions were restored into the table seq_inbox, so often. */
extern void submitters_note_landed(DatabaseSlot *slot);
extern uint64 submitters_landed(DatabaseSlot *slot);

/* The sequencer waits for a log to be restored, to which what has landed belongs. */
extern void submitters_set_restoring(DatabaseSlot *slot, bool restoring);
extern bool submitters_restoring(DatabaseSlot *slot);

/*
 * Did the last step of the sequencer find more than one transaction?  Then there are
 * others who commit, and flush the write-ahead log, all the time.
 */
extern void submitters_set_busy(DatabaseSlot *slot, bool busy);
extern bool submitters_busy(DatabaseSlot *slot);

/* Figures of seq_sequencer. */
typedef struct SubmitterFigures
{
	uint64		submitted;	/* submissions committed */
	uint64		sequenced;	/* of those and of those found, put into the log */
	uint64		epochs;		/* that they were put into */
	uint64		found;		/* waiting when the sequencer first looked */
	uint64		submitted_bytes;
	uint64		sequenced_bytes;
	uint64		found_bytes;
} SubmitterFigures;

extern void submitters_count_submitted(DatabaseSlot *slot, uint64 rows,
									   uint64 bytes);
extern void submitters_count_sequenced(DatabaseSlot *slot, uint64 rows,
									   uint64 bytes, uint64 epochs);
extern void submitters_count_found(DatabaseSlot *slot, uint64 rows, uint64 bytes);

/* Stamps below are dealt with, since then (a TimestampTz). */
extern void submitters_set_taken(DatabaseSlot *slot, uint64 stamp, int64 at);

/* When the first packet that waits was written, about; 0: nothing waits. */
extern int64 submitters_oldest(DatabaseSlot *slot);
extern void submitters_figures(DatabaseSlot *slot, SubmitterFigures *figures);

/* From the packet being written to its being in the log, microseconds. */
extern void submitters_note_latency(DatabaseSlot *slot, int64 usecs);
extern double submitters_latency(DatabaseSlot *slot, double fraction);

/* Where a submission went. */
typedef struct PlacedSubmission
{
	uint64		number;
	uint64		epoch;
	uint64		position;
} PlacedSubmission;

/* The sequencer: these are in the log, in that order; wakes who waits for them. */
extern void submitters_note_placed(DatabaseSlot *slot,
								   const PlacedSubmission *placed, size_t n);

typedef enum PlacedVerdict
{
	PLACED_FOUND,
	PLACED_NOT_YET,	  /* or it was rolled back, while all are remembered */
	PLACED_UNCLEAR,	  /* it may be one of those that wait, or was forgotten */
	PLACED_FORGOTTEN  /* nobody can bring it any more, and some are not remembered */
} PlacedVerdict;

/* One search, over as many looks as it takes; zeros at first. */
typedef struct PlacedSearch
{
	uint64		seen; /* how many had been placed at the last look */
	bool		gap;  /* some of those are not remembered */
	uint64		goal; /* if not 0: when so many are sequenced, it cannot come any more */
} PlacedSearch;

/* Look a submission up among those remembered. */
extern PlacedVerdict submitters_find_placed(DatabaseSlot *slot, uint64 number,
											PlacedSearch *search,
											PlacedSubmission *found);

/* Signalled after each submitters_note_placed(). */
extern ConditionVariable *submitters_placed_signal(DatabaseSlot *slot);

/* Was a number of this life given out already? */
extern bool submitters_number_known(DatabaseSlot *slot, uint64 number,
									bool *before_start);

#endif							/* CALVIN_SHARED_SUBMITTERS_H */
