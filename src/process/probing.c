/*
 * probing.c
 *	  Finding out which databases have the extension.
 *
 * A process cannot change its database, so a worker is sent to look at one and
 * leaves: the probe.  There is one at a time.  Databases to look at come as
 * requests from committing transactions (see hooks.c), or all of them when a
 * launcher begins and after a promotion.
 *
 * On a standby nobody can ask: there the databases without an applier are
 * probed one after the other, newest first, as long as new WAL is replayed.
 *
 * A probe may wait, for whoever has a catalog of its database locked.  After a
 * while it is ended, and its database is put aside: the others are looked at
 * first, and it again later.
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
#include "process/probing.h"
#include "process/replay_wait.h"
#include "process/worker.h"
#include "shared/clock.h"
#include "shared/database.h"
#include "shared/requests.h"
#include "shared/worker_slot.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

/* On a standby: between two probes, and between two rounds of them. */
#define STANDBY_PROBE_MS 250
#define STANDBY_ROUND_MS 3000

/* How long a probe may take, and when its database is looked at again. */
#define PATIENCE_MS 10000
#define ASIDE_MS 5000

/* The probe under way. */
typedef struct Probe
{
	BackgroundWorkerHandle *handle; /* NULL: there is none */
	Oid			database;
	uint32		token;
	int64		sent_at; /* clock_ms() */
	bool		ended;	 /* by us, since it took too long */
} Probe;

static Probe probe;

/* Databases to look at, as Oids, in TopMemoryContext. */
static List *pending = NIL;
static List *aside = NIL; /* not before aside_until */
static int64 aside_until;
static List *told_of = NIL; /* whose probe the log says took too long */

static void
add_pending(Oid database)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

	if (!list_member_oid(aside, database))
		pending = list_append_unique_oid(pending, database);
	MemoryContextSwitchTo(old);
}

static bool
can_be_connected(Form_pg_database database)
{
	/* a connection limit of -2 marks one that is being dropped */
	return database->datallowconn && database->datconnlimit != -2;
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

		if (can_be_connected(database))
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
bool
probing_database_exists(Oid database, bool *open)
{
	Relation	rel;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		exists;

	StartTransactionCommand();
	rel = table_open(DatabaseRelationId, AccessShareLock);
	ScanKeyInit(&key, Anum_pg_database_oid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(database));
	/* without a database of one's own, indexes cannot be opened */
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 1, &key);
	tuple = systable_getnext(scan);
	exists = HeapTupleIsValid(tuple);
	*open = exists && can_be_connected((Form_pg_database) GETSTRUCT(tuple));
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
	static bool warned_full = false;

	if (worker_slot_adopt(database))
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

static int
newest_first(const ListCell *a, const ListCell *b)
{
	return lfirst_oid(a) < lfirst_oid(b) ? 1 : lfirst_oid(a) > lfirst_oid(b) ? -1 : 0;
}

/*
 * On a standby: list the databases to be probed, one a call.
 * Returns the time in ms until the next call, or -1 if that is due when more is
 * replayed than up to *replayed.
 */
static long
standby_round(XLogRecPtr *replayed_up_to)
{
	static XLogRecPtr round_at = InvalidXLogRecPtr;
	static int64 round_started = -STANDBY_ROUND_MS;

	/* the one place that lists: what is pending here is the round itself */
	if (pending == NIL && probe.handle == NULL)
	{
		XLogRecPtr	replayed = GetXLogReplayRecPtr(NULL);
		int64		now = clock_ms();

		if (now - round_started < STANDBY_ROUND_MS)
			return deadline_left(round_started + STANDBY_ROUND_MS);
		if (replayed == round_at)
		{
			if (!replay_wakes())
				return STANDBY_ROUND_MS;
			*replayed_up_to = replayed;
			return -1;
		}
		round_at = replayed;
		round_started = now;
		list_databases();
		list_sort(pending, newest_first);
	}
	return STANDBY_PROBE_MS;
}

/* The probe's patience is at an end: whoever it waits for shall not hold up others. */
static void
end_probe(void)
{
	MemoryContext old;

	probe.ended = true;
	TerminateBackgroundWorker(probe.handle);
	if (list_member_oid(told_of, probe.database))
		return;
	ereport(LOG,
			(errmsg("calvin_seq: looking for the extension in the database with OID %u takes too long",
					probe.database),
			 errdetail("Somebody may have a catalog locked there. Other databases are looked at first; it is tried again every few seconds.")));
	old = MemoryContextSwitchTo(TopMemoryContext);
	told_of = lappend_oid(told_of, probe.database);
	MemoryContextSwitchTo(old);
}

static void
put_aside(Oid database)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

	aside = list_append_unique_oid(aside, database);
	aside_until = clock_ms() + ASIDE_MS;
	MemoryContextSwitchTo(old);
}

/* The probe is gone: take in what it has found. */
static void
take_result(void)
{
	bool		found = requests_probe_found(probe.token);

	if (probe.ended && !found)
	{
		put_aside(probe.database);
		return;
	}
	told_of = list_delete_oid(told_of, probe.database);
	if (found)
		adopt_database(probe.database);
}

/* Send a probe to the first of the pending databases; false: no place for it. */
static bool
send_probe(void)
{
	Oid			database = linitial_oid(pending);
	WorkerArgs	args = {0};
	bool		open;

	if (!database_has_slot(database) &&
		probing_database_exists(database, &open) && open)
	{
		probe.database = database;
		probe.token = requests_begin_probe();
		probe.sent_at = clock_ms();
		probe.ended = false;
		args.database = database;
		args.token = probe.token;
		if (!worker_start(&worker_probe, &args, &probe.handle))
		{
			probe.handle = NULL;
			return false;
		}
	}
	pending = list_delete_first(pending);
	return true;
}

/* The time in ms until the probe under way has taken too long, -1 if it is ended. */
static long
patience_left(void)
{
	int64		left = probe.sent_at + PATIENCE_MS - clock_ms();

	if (left <= 0 && !probe.ended)
		end_probe();
	/* the postmaster wakes us when it is gone */
	return probe.ended ? -1 : (long) left;
}

/* Those put aside become pending when there is nothing else, at their time. */
static long
aside_left(void)
{
	int64		left = aside_until - clock_ms();

	if (aside == NIL)
		return -1;
	if (left > 0)
		return (long) left;
	pending = aside;
	aside = NIL;
	return 0;
}

static long
advance(void)
{
	if (probe.handle != NULL && worker_ended(&probe.handle))
		take_result();
	while (probe.handle == NULL)
	{
		if (pending == NIL)
		{
			long		left = aside_left();

			if (left != 0)
				return left;
		}
		if (!send_probe())
			return worker_retry_ms();
	}
	return patience_left();
}

long
probing_advance(XLogRecPtr *replayed)
{
	static bool was_standby = false;
	bool		standby = RecoveryInProgress();
	long		round = -1;
	long		wait;

	/* what has been replayed meanwhile was not told by anybody */
	if (was_standby && !standby)
		requests_post(InvalidOid);
	was_standby = standby;
	take_requests();
	*replayed = InvalidXLogRecPtr;
	if (standby)
		round = standby_round(replayed);
	wait = advance();
	return round >= 0 && (wait < 0 || round < wait) ? round : wait;
}

bool
probing_at_rest(void)
{
	return probe.handle == NULL && pending == NIL;
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
	worker_settle(&worker_probe);

	StartTransactionCommand();
	found = log_extension_exists();
	CommitTransactionCommand();

	requests_answer_probe(args.token, found);
	proc_exit(0);
}
