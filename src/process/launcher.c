/*
 * launcher.c
 *	  Keeps one applier per database that has the extension.
 *
 * Databases to look at come as requests from committing transactions (see
 * hooks.c), or all of them at its own start.  One probe at a time finds out
 * whether a database has the extension; if it has, it gets a slot and an
 * applier.  When an applier ends, it leaves its slot WANTED, and the launcher
 * starts the next one, a little later each time it fails without progress.
 *
 * On a primary the launcher sleeps until its latch is set.  On a standby
 * nobody can ask it: there it probes the databases without an applier one
 * after the other, newest first, as long as new WAL is replayed.
 */
#include "compat.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "catalog/pg_database.h"
#include "libpq/pqsignal.h"
#include "log/table.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "process/worker.h"
#include "shared/applier_slot.h"
#include "shared/clock.h"
#include "shared/database.h"
#include "shared/requests.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

/* On a standby: between two probes, and between two rounds of them. */
#define STANDBY_PROBE_MS 250
#define STANDBY_ROUND_MS 3000

/* How long to wait for a worker place before asking again. */
#define NO_WORKER_RETRY_MS 5000

typedef struct Launched
{
	Oid			database;
	uint32		token;
	BackgroundWorkerHandle *handle;
} Launched;

/* The appliers this launcher started and that have not ended, by slot. */
static Launched *launched;

static List *pending = NIL; /* databases to probe, as Oids */
static BackgroundWorkerHandle *probe = NULL;
static Oid	probe_database;
static uint32 probe_token;
static bool warned_full = false;
static bool warned_no_worker = false;
static bool short_of_workers = false;
static MemoryContext launcher_context;

void
launcher_init(void)
{
	BackgroundWorker worker;

	worker_describe(&worker, LAUNCHER_NAME, "calvin_seq_launcher_main");
	worker.bgw_restart_time = 1;
	RegisterBackgroundWorker(&worker);
}

/* Ask the postmaster for a worker; false if there is no place for it. */
static bool
start_worker(const char *type, const char *function, Oid database, uint32 token,
			 BackgroundWorkerHandle **handle)
{
	BackgroundWorker worker;
	WorkerArgs	args = {database, token};
	MemoryContext old = MemoryContextSwitchTo(launcher_context);
	bool		started;

	worker_describe(&worker, type, function);
	worker.bgw_notify_pid = MyProcPid;
	memcpy(worker.bgw_extra, &args, sizeof(args));
	started = RegisterDynamicBackgroundWorker(&worker, handle);
	MemoryContextSwitchTo(old);

	if (started)
	{
		warned_no_worker = false;
		return true;
	}
	short_of_workers = true;
	if (!warned_no_worker)
		ereport(WARNING,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("no background worker left for a %s", type),
				 errhint("Raise max_worker_processes: calvin_seq needs calvin_seq.max_databases (now %d) and 2 more.",
						 Calvin->max_databases)));
	warned_no_worker = true;
	return false;
}

/* Is the worker behind a handle gone?  Frees the handle if so. */
static bool
worker_ended(BackgroundWorkerHandle **handle)
{
	pid_t		pid;

	switch (GetBackgroundWorkerPid(*handle, &pid))
	{
		case BGWH_STARTED:
		case BGWH_NOT_YET_STARTED:
			return false;
		case BGWH_STOPPED:
		case BGWH_POSTMASTER_DIED:
			break;
	}
	pfree(*handle);
	*handle = NULL;
	return true;
}

static void
add_pending(Oid database)
{
	MemoryContext old = MemoryContextSwitchTo(launcher_context);

	pending = list_append_unique_oid(pending, database);
	MemoryContextSwitchTo(old);
}

/* Databases that can be connected to, appended to the pending ones. */
static void
list_databases(void)
{
	Relation	rel;
	TableScanDesc scan;
	HeapTuple	tuple;

	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database database = (Form_pg_database) GETSTRUCT(tuple);

		/* a connection limit of -2 marks one that is being dropped */
		if (database->datallowconn && database->datconnlimit != -2)
			add_pending(database->oid);
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	CommitTransactionCommand();
}

/*
 * Asked of the table itself: who dropped a database tells us before its
 * invalidations reach our cache.
 */
static bool
database_exists(Oid database)
{
	Relation	rel;
	ScanKeyData key;
	SysScanDesc scan;
	bool		exists;

	StartTransactionCommand();
	rel = table_open(DatabaseRelationId, AccessShareLock);
	ScanKeyInit(&key, Anum_pg_database_oid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(database));
	/* without a database of one's own, indexes cannot be opened */
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 1, &key);
	exists = HeapTupleIsValid(systable_getnext(scan));
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	CommitTransactionCommand();
	return exists;
}

static void
take_requests(void)
{
	Oid			requests[CALVIN_MAX_REQUESTS];
	bool		all;
	int			n = requests_take(requests, &all);

	for (int i = 0; i < n; i++)
		add_pending(requests[i]);
	if (all)
		list_databases();
}

/* A database turned out to have the extension. */
static void
adopt_database(Oid database)
{
	if (applier_slot_adopt(database))
		warned_full = false;
	else if (!warned_full)
	{
		warned_full = true;
		ereport(WARNING,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("more databases have calvin_seq than can have an applier"),
				 errdetail("Database with OID %u gets none, nor do further ones; %d have one.",
						   database, Calvin->max_databases),
				 errhint("Raise calvin_seq.max_databases and restart the server.")));
	}
}

/* One step of the probing: take in a result, send the next probe out. */
static void
advance_probe(void)
{
	if (probe != NULL)
	{
		if (!worker_ended(&probe))
			return;
		if (requests_probe_found(probe_token))
			adopt_database(probe_database);
	}
	while (probe == NULL && pending != NIL)
	{
		probe_database = linitial_oid(pending);
		if (database_has_slot(probe_database) || !database_exists(probe_database))
		{
			pending = list_delete_first(pending);
			continue;
		}
		probe_token = requests_begin_probe();
		if (!start_worker(PROBE_NAME, "calvin_seq_probe_main", probe_database,
						  probe_token, &probe))
		{
			probe = NULL;
			return;
		}
		pending = list_delete_first(pending);
	}
}

/*
 * Start the applier of a slot if it is wanted.  Returns the time in ms until
 * it will be, or -1.
 */
static long
start_if_wanted(int number)
{
	DatabaseSlot *slot = &Calvin->databases[number];
	Launched   *mine = &launched[number];
	Oid			database;
	uint32		token;
	long		wait;

	/* one of ours that ended without having claimed its slot */
	if (mine->handle != NULL && worker_ended(&mine->handle))
		applier_slot_not_started(slot, mine->database, mine->token,
								 NO_WORKER_RETRY_MS);
	database = applier_slot_wanted(slot, &wait);
	if (!OidIsValid(database))
		return wait;
	if (mine->handle != NULL)
		return -1;				/* the last one is still on its way out */
	if (!database_exists(database))
	{
		applier_slot_forget(slot, database);
		return -1;
	}

	if (!applier_slot_start(slot, database, &token))
		return -1;				/* held since */
	if (start_worker(APPLIER_NAME, "calvin_seq_applier_main", database,
					 token, &mine->handle))
	{
		mine->database = database;
		mine->token = token;
		return -1;
	}
	mine->handle = NULL;
	applier_slot_not_started(slot, database, token, 0);
	return NO_WORKER_RETRY_MS;
}

static int
newest_first(const ListCell *a, const ListCell *b)
{
	return lfirst_oid(a) < lfirst_oid(b) ? 1 : lfirst_oid(a) > lfirst_oid(b) ? -1 : 0;
}

/*
 * On a standby: have the next database without a slot probed, one a call.
 * Returns the time in ms until the next call.
 */
static long
standby_round(void)
{
	static XLogRecPtr round_at = InvalidXLogRecPtr;
	static int64 round_started = -STANDBY_ROUND_MS;

	/* the one place that lists: what is pending here is the round itself */
	if (pending == NIL && probe == NULL)
	{
		XLogRecPtr	replayed = GetXLogReplayRecPtr(NULL);
		int64		now = clock_ms();

		if (replayed == round_at || now - round_started < STANDBY_ROUND_MS)
			return STANDBY_ROUND_MS;
		round_at = replayed;
		round_started = now;
		list_databases();
		list_sort(pending, newest_first);
	}
	return STANDBY_PROBE_MS;
}

static void
launcher_exit(int code, Datum arg)
{
	requests_end_serving();
}

void
calvin_seq_launcher_main(Datum arg)
{
	bool		was_standby;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	pqsignal(SIGINT, SIG_IGN);
	BackgroundWorkerUnblockSignals();

	launcher_context = AllocSetContextCreate(TopMemoryContext,
											 "calvin_seq launcher",
											 ALLOCSET_DEFAULT_SIZES);
	launched = MemoryContextAllocZero(launcher_context,
									  sizeof(Launched) * Calvin->max_databases);
	before_shmem_exit(launcher_exit, (Datum) 0);
	requests_begin_serving();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	worker_settle(LAUNCHER_NAME);
	MemoryContextSwitchTo(launcher_context);
	applier_slot_reset_starting();
	requests_post(InvalidOid);
	was_standby = RecoveryInProgress();

	for (;;)
	{
		bool		standby = RecoveryInProgress();
		long		timeout = -1;

		short_of_workers = false;
		if (was_standby && !standby)
			requests_post(InvalidOid);
		was_standby = standby;
		take_requests();
		if (standby)
			timeout = standby_round();
		advance_probe();
		for (int i = 0; i < Calvin->max_databases; i++)
		{
			long		wait = start_if_wanted(i);

			if (wait >= 0 && (timeout < 0 || wait < timeout))
				timeout = wait;
		}
		if (short_of_workers && (timeout < 0 || timeout > NO_WORKER_RETRY_MS))
			timeout = NO_WORKER_RETRY_MS;

		pgstat_report_stat(true);
		pgstat_report_activity(STATE_IDLE, "waiting for databases to come and go");
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_EXIT_ON_PM_DEATH |
						 (timeout >= 0 ? WL_TIMEOUT : 0),
						 timeout, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
	}
}

/* Look whether one database has the extension, and leave. */
void
calvin_seq_probe_main(Datum arg)
{
	WorkerArgs	args;
	bool		found;

	memcpy(&args, MyBgworkerEntry->bgw_extra, sizeof(args));
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(args.database, InvalidOid, 0);
	worker_settle(PROBE_NAME);

	StartTransactionCommand();
	found = log_extension_exists();
	CommitTransactionCommand();

	requests_answer_probe(args.token, found);
	proc_exit(0);
}
