/*
 * shmem.h
 *	  The extension's shared memory: layout, and who may touch what.
 *
 * One struct in the main segment, made at postmaster start when calvin_seq is
 * in shared_preload_libraries.  It holds a fixed array of database slots and
 * a fixed array of subscription slots; queues live in DSM segments of their
 * subscribers.
 *
 * Locking.  CalvinShared.lock (an LWLock) guards every field not said to be
 * something else.  It is taken in this layer only, for short, bounded loops
 * over the slots, never across I/O, waits or anything that can raise an error.
 * Fields of type pg_atomic_* are read by anyone without a lock; who writes
 * them, and what a reader may conclude, is said beside them.
 */
#ifndef CALVIN_SHARED_SHMEM_H
#define CALVIN_SHARED_SHMEM_H

#include "compat.h"

#include "machine/machine.h"
#include "port/atomics.h"
#include "shared/histogram.h"
#include "shared/key.h"
#include "storage/condition_variable.h"
#include "storage/dsm.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/spin.h"

/* Databases that may have the extension wait here for the launcher. */
#define CALVIN_MAX_REQUESTS 64

#define CALVIN_ERROR_LEN 512

/* The workers of a database: the sequencer on a primary alone. */
typedef enum WorkerKind
{
	WORKER_APPLIER = 0,
	WORKER_SEQUENCER
} WorkerKind;

#define WORKER_KINDS 2

typedef enum WorkerStatus
{
	WORKER_NONE = 0, /* nothing runs and nothing should */
	WORKER_WANTED,	 /* the launcher has to start one, not before not_before */
	WORKER_STARTING, /* asked of the postmaster, did not report yet */
	WORKER_RUNNING
} WorkerStatus;

/* What an applier is busy with, for seq_state. */
typedef enum ApplierActivity
{
	ACTIVITY_IDLE = 0,
	ACTIVITY_STARTING,	 /* did not look at the log yet */
	ACTIVITY_CATCHING_UP, /* applies what was there before it started */
	ACTIVITY_APPLYING,
	ACTIVITY_WAITING_SYNC, /* for a flush, or for synchronous standbys */
	ACTIVITY_WAITING_BASE, /* the log's beginning was not restored yet */
	ACTIVITY_RETRYING	   /* after an error */
} ApplierActivity;

/* What the worker of a database that follows another server's log does. */
typedef enum FollowerState
{
	FOLLOWER_NONE = 0,		/* it has not begun */
	FOLLOWER_CONNECTING,
	FOLLOWER_COMPARING,		/* identities and digests */
	FOLLOWER_CATCHING_UP,
	FOLLOWER_FOLLOWING,		/* has all that the source has applied */
	FOLLOWER_UNREACHABLE,	/* no connection, or it was lost */
	FOLLOWER_REFUSED,		/* the source does not serve us */
	FOLLOWER_OTHER_LOG,		/* another identity */
	FOLLOWER_OTHER_HISTORY, /* another digest, or a hole */
	FOLLOWER_SOURCE_BEHIND, /* the source has less than we have */
	FOLLOWER_TRUNCATED,		/* the source has removed what comes next */
	FOLLOWER_FAILED			/* an error here, not there */
} FollowerState;

#define FOLLOWER_HOST_LEN 256

/* Written under the lock by the worker. */
typedef struct FollowerTold
{
	uint64		proved_index;
	TimestampTz proved_at;
	uint64		rows;
	uint64		bytes;
	TimestampTz appended_at;
	TimestampTz error_at;
	char		host[FOLLOWER_HOST_LEN];
	char		error[CALVIN_ERROR_LEN];
} FollowerTold;

/* See follower.c. */
typedef struct FollowerSlot
{
	pg_atomic_uint64 gate;	/* who changes seq_following, or has looked at it */
	pg_atomic_uint32 state; /* FollowerState: the worker */
	pg_atomic_uint64 source_index; /* applied there, as told last: the worker */
	pg_atomic_uint64 acks; /* commits that have stored some; anybody adds */
	FollowerTold told;
} FollowerSlot;

/* The part of the state that becomes visible in one step. */
typedef struct PublishedState
{
	MachineState machine;
	MachineCounters counters;
} PublishedState;

#define PUBLISHED_WORDS (sizeof(PublishedState) / sizeof(uint64))

/* Why a submission was refused. */
typedef enum AdmissionReason
{
	ADMISSION_NO_PARTICIPANTS,
	ADMISSION_PLANS_BYTES,
	ADMISSION_PARTICIPANTS,
	ADMISSION_DEPENDENT_BYTES,
	ADMISSION_DEPENDENT_PASSIVES,
	ADMISSION_TOO_LARGE,
	ADMISSION_TENANT_QUOTA,
	ADMISSION_INBOX_FULL
} AdmissionReason;

#define ADMISSION_REASONS (ADMISSION_INBOX_FULL + 1)

/*
 * Submissions that wait to be sequenced, with those of transactions that have not
 * committed, and what was refused.  Written by admission.c for whoever submits,
 * rolls back or sequences; read by anyone.  The two counts need not be of one
 * moment.
 */
typedef struct AdmissionCounts
{
	pg_atomic_uint64 rows;
	pg_atomic_uint64 bytes; /* of TxClasses */
	pg_atomic_uint64 rejected[ADMISSION_REASONS];
} AdmissionCounts;

/*
 * One worker of a database.  Its life is in worker_slot.c, which alone writes
 * what is not said to be something else, under the lock in exclusive mode.  A
 * lone pid or count can be read without it, and is then of a moment ago.
 */
typedef struct WorkerSlot
{
	WorkerStatus status;
	bool		no_place;	 /* all of max_worker_processes were taken lately */
	uint32		start_token; /* of the process that may claim STARTING */
	int			failures;	 /* exits in a row without success */
	int64		not_before;	 /* clock_ms() of the next start */
	pid_t		pid;		 /* 0: none; is set and cleared with proc */
	TimestampTz started;

	/* Its last error, for views.  Written by the worker under the lock. */
	TimestampTz last_error_at; /* 0: none */
	char		last_error[CALVIN_ERROR_LEN];

	/*
	 * Its PGPROC as a pointer, 0 for none.  Written by the worker under the
	 * lock, read by anyone to set its latch.  A PGPROC is never freed, so at
	 * worst a stranger wakes once for nothing; who needs it to be heard for
	 * sure also leaves a word that the next worker reads.
	 */
	pg_atomic_uint64 proc;

	/*
	 * Such words.  Each is set before the latch, and read by the worker after
	 * it has reset the latch.
	 */
	pg_atomic_uint32 recheck; /* DDL may have removed the extension: set by its
							   * session, taken by the worker */
	pg_atomic_uint32 stop;	  /* give way now: set under the lock, cleared by
							   * the next claim */
} WorkerSlot;

typedef struct BoundEnd
{
	int64		log_index;
	int64		epoch; /* -1: there are no batches */
} BoundEnd;

/*
 * Up to where the rows of a log are, and the epochs of its batches: bound.h.  Written
 * by who has the append lock of that log, or forgotten by anybody, under the mutex.
 */
typedef struct LogBound
{
	slock_t		mutex;
	Oid			log;	/* InvalidOid: nobody knows */
	pid_t		holder; /* who has the append lock, or 0 */
	BoundEnd	all;	/* of what is committed, or is about to be; */
	BoundEnd	own;	/* of that and what the holder has appended */
} LogBound;

/*
 * One database with the extension.  The slot outlives its workers, so that
 * the next ones go on where the last ones stopped.
 *
 * Who takes a slot's address keeps it for good: slots do not move.  But it may
 * be given to another database meanwhile, so whoever waits looks at "database"
 * each time, and who is to conclude anything from log_relid does so under the
 * lock.
 */
typedef struct DatabaseSlot
{
	/* Written by worker_slot.c, as the workers are. */
	Oid			database; /* InvalidOid: the slot is free */
	int			holds;	  /* utility commands the workers give way to */
	bool		ending;	  /* free when the last worker has left */
	WorkerSlot	workers[WORKER_KINDS];

	/*
	 * Which seq_log all of this speaks of, InvalidOid before the first session
	 * or applier that looked has said so.  Written once in a slot's life, under
	 * the lock: database.c.
	 */
	Oid			log_relid;

	/*
	 * The identity of that log, zeros while it has none.  Written by the applier
	 * under the lock, when it has proved that the state is of this log.
	 */
	uint64		identity[2];

	/*
	 * Counters at the time of the last seq_metrics_reset.  Written by its
	 * callers under the lock; of the histogram a reader may see the buckets of
	 * two resets for a moment.
	 */
	PublishedState baseline;
	Histogram	latency_baseline;

	/*
	 * Highest log_index for which the applier has already fixed who gets it.
	 * Written by the applier under the lock in shared mode, read by
	 * subscribers under it in exclusive mode: one of them is either known to
	 * the applier before it routes, or reads how far it has.
	 */
	uint64		routed_through;

	/*
	 * Words for the applier.  Each is raised before its latch is set, and read
	 * by the applier after it has reset the latch.
	 */
	pg_atomic_uint64 appends;	   /* commits that appended; anybody adds */
	pg_atomic_uint32 subs_changed; /* added to under the lock, with the change */

	/* Written by the applier alone, for seq_state and seq_progress. */
	pg_atomic_uint32 activity;		/* ApplierActivity */
	pg_atomic_uint64 catch_up_from; /* where it stood when it started, */
	pg_atomic_uint64 catch_up_to;	/* and the log's end; 0: it did not look yet */

	/*
	 * Sequence lock over the words below: odd while the applier (the only
	 * writer) changes them.  Who finds it even and unmoved around its reading
	 * has a whole state.  See database_publish() and database_read().
	 */
	pg_atomic_uint64 version;
	pg_atomic_uint64 published[PUBLISHED_WORDS];

	Histogram	latency; /* append to fan-out, microseconds; the applier */

	/*
	 * Broadcast after every publication, and when a worker ends or the slot is
	 * freed.
	 */
	ConditionVariable progress;

	/*
	 * Some consumer waits for epochs below this one to be applied, to read them
	 * from the log: raised by consumers, never lowered.  Each then looks at the
	 * published state once more, as the applier looks here after publishing.
	 */
	pg_atomic_uint64 wake_until;

	/*
	 * Epochs that a truncation under way removes, and how often that was told;
	 * written by who truncates.  See fence.h.
	 */
	pg_atomic_uint64 fence;
	pg_atomic_uint64 fence_raised;

	LogBound	bound;

	AdmissionCounts admission;

	FollowerSlot follower;
} DatabaseSlot;

/*
 * What the applier tells of a subscription: all that it has done for one
 * generation, whatever queues that had.  Whole words, published in one step.
 */
typedef struct RoutedState
{
	uint64		generation; /* that it speaks of */
	uint64		epoch;	   /* last key meant for it, dropped or not; */
	uint64		position;  /* MACHINE_NO_EPOCH: none yet */
	uint64		routed;	   /* transactions meant for it */
	uint64		sent;	   /* of those, put on the queue */
	uint64		dropped;   /* of those, not */
	uint64		stalled;   /* the last one did not fit */
	uint64		queue;	   /* the queue it sends to at present, */
	uint64		written;   /* and the bytes it has put on that */
} RoutedState;

/* What its consumer tells: likewise of one generation, and in one step. */
typedef struct ConsumedState
{
	uint64		generation;
	uint64		delivered_epoch; /* last key handed out; */
	uint64		delivered_position; /* MACHINE_NO_EPOCH: none yet */
	uint64		next_epoch;	 /* first key it still wants */
	uint64		next_position;
	uint64		log_until_epoch; /* before this key it reads the log */
	uint64		log_until_position;
	uint64		floor_epoch; /* no rollback leads back behind this key; */
	uint64		floor_position; /* MACHINE_NO_EPOCH: not told yet */
	uint64		replayed;	 /* transactions taken from the log */
	uint64		queue;		 /* the queue it reads at present, */
	uint64		read;		 /* and the bytes it has taken off that */
} ConsumedState;

#define ROUTED_WORDS (sizeof(RoutedState) / sizeof(uint64))
#define CONSUMED_WORDS (sizeof(ConsumedState) / sizeof(uint64))

/*
 * One (database, vshard, name).  "generation" goes up with every change of
 * hands: whoever remembers another one no longer owns the slot.
 *
 *	field			written by					read by
 *	generation		who claims, takes over or	the owner and the applier, also
 *					releases, under the lock	without the lock: a number that
 *					in exclusive mode			they do not know ends their right
 *	routed			the applier, under the lock	anyone, any time; it says nothing
 *					in shared mode if the		of another generation than the
 *					generation is its own; who	one in it
 *					claims, in exclusive mode
 *	consumed		the owner, likewise			likewise
 *	all others		who claims, takes over,		under the lock
 *					requeues or releases, and
 *					"attached" by the applier,
 *					in exclusive mode
 *
 * Whoever has read the database's state first, and then "routed" of its own
 * generation, may conclude: through that state's epoch nothing was meant for it
 * behind the key in "routed".  For the applier publishes in the other order,
 * and for every generation that it has routed to.
 */
typedef struct SubscriptionSlot
{
	bool		in_use;
	bool		lossless;
	bool		attached;	 /* the queue has got its sender, for good */
	uint16		vshard;
	uint32		generation;
	uint32		queue;		 /* goes up with every new queue */
	Oid			database;
	pid_t		pid;		 /* of the owner; kept after it left, for messages */
	PGPROC	   *owner;		 /* to wake it */
	dsm_handle	segment;	 /* where the queue is */
	Size		queue_offset; /* of its QueueControl in there */
	Size		ring_size;	 /* bytes, of the queue's ring */
	uint64		start_index; /* only entries above it are routed here */
	NameData	name;
	TimestampTz subscribed_at;

	pg_atomic_uint64 routed_version;
	pg_atomic_uint64 routed[ROUTED_WORDS];
	pg_atomic_uint64 consumed_version;
	pg_atomic_uint64 consumed[CONSUMED_WORDS];

	/*
	 * Nothing from this key on, through this epoch, was meant for it.  Written
	 * under the lock in exclusive mode, before the log may lose these epochs.
	 */
	bool		quiet;
	StreamKey	quiet_from;
	uint64		quiet_through;
	bool		passed; /* a truncation has removed what it needed, if it committed */
} SubscriptionSlot;

/*
 * All of it.  The lock, the two sizes and the place of the subscriptions are
 * written at postmaster start and never after.
 */
typedef struct CalvinShared
{
	LWLock	   *lock; /* named by the files of this layer only */
	int			max_databases;
	int			max_subscriptions;

	/* As the workers' proc, of the launcher; written by itself without the lock. */
	pg_atomic_uint64 launcher_proc;

	/*
	 * What the launcher shall look at: anybody adds, the launcher takes it off,
	 * both under the lock (requests.c).  Nothing is lost by there being no
	 * launcher, or too many requests: then rescan is set.
	 */
	int			nrequests;
	bool		rescan; /* all databases */
	Oid			requests[CALVIN_MAX_REQUESTS];

	/* A database found no free slot: the next one freed leads to a rescan. */
	bool		refused;

	ConditionVariable databases_changed; /* a slot was given or taken */

	/*
	 * The probe of one database: does it have the extension?  The launcher
	 * raises the token, the probe that has it answers, under the lock.
	 */
	uint32		probe_token;
	bool		probe_found;

	SubscriptionSlot *subscriptions; /* max_subscriptions of them */
	DatabaseSlot databases[FLEXIBLE_ARRAY_MEMBER];
} CalvinShared;

/* NULL unless calvin_seq was preloaded. */
extern CalvinShared *Calvin;

/* Settings of this part; see shmem.c. */
extern int	calvin_max_databases;
extern int	calvin_max_subscriptions;
extern int	calvin_max_handlers;

/* Called by _PG_init() while shared_preload_libraries are processed. */
extern void shmem_init(void);

/* Raise an error with a hint unless calvin_seq was preloaded. */
extern void shmem_require(void);

#endif							/* CALVIN_SHARED_SHMEM_H */
