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
 * something else.  It is held for short, bounded loops over the slots only,
 * never across I/O, waits or anything that can raise an error.  Fields of
 * type pg_atomic_* are read by anyone without a lock; each has one writer,
 * named beside it.
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

/* Databases that may have the extension wait here for the launcher. */
#define CALVIN_MAX_REQUESTS 64

#define CALVIN_ERROR_LEN 512

typedef enum ApplierStatus
{
	APPLIER_NONE = 0, /* nothing runs and nothing should */
	APPLIER_WANTED,	  /* the launcher has to start one, not before not_before */
	APPLIER_STARTING, /* asked of the postmaster, did not report yet */
	APPLIER_RUNNING
} ApplierStatus;

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

/* The part of the state that becomes visible in one step. */
typedef struct PublishedState
{
	MachineState machine;
	MachineCounters counters;
} PublishedState;

#define PUBLISHED_WORDS (sizeof(PublishedState) / sizeof(uint64))

/*
 * One database with the extension.  The slot outlives its applier, so that
 * the next one goes on where the last one stopped.
 */
typedef struct DatabaseSlot
{
	Oid			database; /* InvalidOid: the slot is free */
	Oid			log_relid; /* which seq_log "published" speaks of, */
	uint64		identity[2]; /* and its identity; zeros: it has none yet */
	ApplierStatus status;
	uint32		start_token;   /* of the worker that may claim STARTING */
	int			holds;		   /* utility commands the applier gives way to */
	int			failures;	   /* exits in a row without progress */
	int64		not_before;	   /* clock_ms() of the next start */
	pid_t		applier_pid;   /* 0: none */
	TimestampTz applier_started;
	TimestampTz last_error_at; /* 0: none */
	char		last_error[CALVIN_ERROR_LEN];
	PublishedState baseline;   /* of seq_metrics_reset: counters at that time */
	Histogram	latency_baseline;

	/*
	 * Highest log_index for which the applier has already fixed who gets it.
	 * Written by the applier under the lock in shared mode, read by
	 * subscribers under it in exclusive mode.
	 */
	uint64		routed_through;

	/* PGPROC of the applier as a pointer, 0 for none.  Written under lock. */
	pg_atomic_uint64 applier_proc;

	pg_atomic_uint64 appends;		/* commits that appended; any backend */
	pg_atomic_uint32 subs_changed;	/* bumped under lock with every change */
	pg_atomic_uint32 recheck;		/* DDL may have removed the extension */
	pg_atomic_uint32 stop;			/* give way now */
	pg_atomic_uint32 activity;		/* ApplierActivity; the applier */
	pg_atomic_uint64 catch_up_from; /* where it stood when it started, */
	pg_atomic_uint64 catch_up_to;	/* and the log's end; the applier */

	/*
	 * Sequence lock over the words below: odd while the applier (the only
	 * writer) changes them.  See database_publish() and database_read().
	 */
	pg_atomic_uint64 version;
	pg_atomic_uint64 published[PUBLISHED_WORDS];

	Histogram	latency; /* append to fan-out, microseconds; the applier */

	ConditionVariable progress; /* broadcast after every publication */
} DatabaseSlot;

/*
 * One (database, vshard, name).  "generation" goes up with every change of
 * hands: whoever remembers another one no longer owns the slot.
 */
typedef struct SubscriptionSlot
{
	bool		in_use;
	bool		lossless;
	bool		attached;	 /* the queue has got its sender, for good */
	uint16		vshard;
	uint32		generation;
	Oid			database;
	pid_t		pid;		 /* of the owner; kept after it left, for messages */
	PGPROC	   *owner;		 /* to wake it */
	dsm_handle	segment;	 /* where the queue is */
	Size		queue_offset; /* of its QueueControl in there */
	Size		ring_size;	 /* bytes, of the queue's ring */
	uint64		start_index; /* only entries above it are routed here */
	NameData	name;
	TimestampTz subscribed_at;

	/*
	 * Progress, for everyone to see.  Written by the applier at the end of a
	 * burst and by the consumer at the end of a call, both under the lock in
	 * shared mode after a look at "generation": so nobody writes into a slot
	 * that has changed hands.  A reader may see a key's two halves from
	 * before and after a change, for a moment.
	 */
	pg_atomic_uint64 routed;  /* applier: transactions meant for it */
	pg_atomic_uint64 routed_epoch; /* applier: last key meant for it, dropped */
	pg_atomic_uint32 routed_position; /* or not; MACHINE_NO_EPOCH: none */
	pg_atomic_uint32 stalled; /* applier: the last one did not fit */
	pg_atomic_uint64 sent;	  /* applier: of those, put on the queue */
	pg_atomic_uint64 dropped; /* applier: of those, not */
	pg_atomic_uint64 written; /* applier: bytes put on the ring */
	pg_atomic_uint64 read;	  /* consumer: bytes taken off the ring */
	pg_atomic_uint64 replayed; /* consumer: transactions taken from the log */
	pg_atomic_uint64 delivered_epoch; /* consumer: last key handed out, */
	pg_atomic_uint32 delivered_position; /* MACHINE_NO_EPOCH: none */
	pg_atomic_uint64 next_epoch; /* consumer: first key it still wants */
	pg_atomic_uint32 next_position;
	pg_atomic_uint64 log_until_epoch; /* consumer: reads the log up to there */
	pg_atomic_uint64 floor_epoch; /* consumer: no rollback leads back behind */
	pg_atomic_uint32 floor_position; /* this key; MACHINE_NO_EPOCH: not told yet */

	/*
	 * Nothing from this key on, through this epoch, was meant for it.  Written
	 * under the lock in exclusive mode, before the log may lose these epochs.
	 */
	bool		quiet;
	StreamKey	quiet_from;
	uint64		quiet_through;
} SubscriptionSlot;

typedef struct CalvinShared
{
	LWLock	   *lock;
	int			max_databases;
	int			max_subscriptions;

	pg_atomic_uint64 launcher_proc; /* as applier_proc */

	/* What the launcher shall look at; it takes them off. */
	int			nrequests;
	bool		rescan; /* all databases: at start, or when requests overflowed */
	Oid			requests[CALVIN_MAX_REQUESTS];
	bool		refused; /* a database found no free slot */

	ConditionVariable databases_changed; /* a slot was given or taken */

	/* The probe of one database: does it have the extension? */
	Oid			probe_database;
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

/* Called by _PG_init() while shared_preload_libraries are processed. */
extern void shmem_init(void);

/* Raise an error with a hint unless calvin_seq was preloaded. */
extern void shmem_require(void);

#endif							/* CALVIN_SHARED_SHMEM_H */
