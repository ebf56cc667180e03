/*
 * append.c
 *	  Appending to seq_log: the order of appends, and their wake-up.
 *
 * log_index is the order in which appends commit.  To make it so, appenders
 * hold one heavyweight lock from their first row to the end of their
 * transaction, and look the end of the log up under it: with SnapshotSelf,
 * which sees all that is committed and all of this transaction, in every
 * isolation level.  Rolling back leaves nothing behind, so there are no
 * holes, except those that explicit log_indexes make on purpose.
 *
 * The lock is on the extension's catalog object with a sub-object number that
 * nothing else uses.  It belongs to the subtransaction that took it, as the
 * rows do: rolled back to a savepoint before the first append, it is released,
 * and everything remembered below is forgotten.
 */
#include "compat.h"

#include "access/xact.h"
#include "catalog/pg_type_d.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "log/access.h"
#include "log/append.h"
#include "log/following.h"
#include "log/identity.h"
#include "log/insert.h"
#include "log/locks.h"
#include "log/owner.h"
#include "log/reader.h"
#include "log/snapshots.h"
#include "replication/logicalworker.h"
#include "shared/bound.h"
#include "shared/wakeup.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* Whether this transaction has the lock, from which subtransaction on. */
static bool locked = false;
static SubTransactionId locked_subid;

/* The log's end when it took the lock. */
static int64 end_when_locked;
static int64 epoch_when_locked;

/* It is about to commit: whatever it appends now is told to others at once. */
static bool committing = false;

/*
 * The log's end now, and which log that is.  Looked up for every row: whether the row before really
 * went in is not ours to say, another trigger may have kept it out.
 */
static Oid	end_log;
static int64 end_index;
static int64 end_epoch; /* of the last batch that raised it, or -1 */

/*
 * When the log's last batch was, to spare reading it back: a log has an epoch
 * once.  Not beyond a rollback, after which it may come again with another time.
 */
static Oid	ms_log = InvalidOid;
static int64 ms_epoch;
static int64 ms_of_epoch;

/* This statement has put a row before another one of this transaction. */
static bool out_of_order = false;

/* Set while this module itself corrects "kind". */
static bool correcting = false;

/* Set while rows are put in that another server's log has. */
static bool copying = false;

static void
forget_all(void)
{
	locked = false;
	committing = false;
	out_of_order = false;
	correcting = false;
	copying = false;
}

/*
 * An apply worker of logical replication fires no triggers of statements.  Nor has it a
 * snapshot at the commit, beneath those that SQL takes.
 */
static void
end_without_statement(void)
{
	LogAccess	access;

	log_access_begin(&access, 0, ACCESS_LATEST);
	PushActiveSnapshot(access.snapshot);
	append_end_statement();
	PopActiveSnapshot();
	log_access_end(&access);
}

/* What was rolled back is gone; the lock is still held. */
static void
lower_bound(void)
{
	BoundEnd	before = {end_when_locked, epoch_when_locked};

	if (locked)
		bound_end(&before);
}

static void
at_xact_event(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_PREPARE:
			if (locked)
				ereport(ERROR,
						(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						 errmsg("cannot PREPARE a transaction that has appended to seq_log"),
						 errdetail("It would keep all other appenders waiting, and its place in the log open."),
						 errhint("Append in a transaction of its own.")));
			break;
		case XACT_EVENT_PRE_COMMIT:
			if (out_of_order)
				end_without_statement();
			committing = true;
			if (locked)
				bound_publish();
			break;
		case XACT_EVENT_ABORT:
			ms_log = InvalidOid;
			lower_bound();
			forget_all();
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_PREPARE:
			if (locked)
				bound_end(NULL);
			forget_all();
			break;
		default:
			break;
	}
}

static void
at_subxact_event(SubXactEvent event, SubTransactionId subid,
				 SubTransactionId parent, void *arg)
{
	correcting = false;
	copying = false;
	if (event == SUBXACT_EVENT_ABORT_SUB)
		ms_log = InvalidOid;
	if (locked && locked_subid == subid)
	{
		if (event == SUBXACT_EVENT_ABORT_SUB)
		{
			lower_bound();
			locked = false;
		}
		else if (event == SUBXACT_EVENT_COMMIT_SUB)
			locked_subid = parent;
	}
}

void
append_init(void)
{
	RegisterXactCallback(at_xact_event, NULL);
	RegisterSubXactCallback(at_subxact_event, NULL);
}

/*
 * Behind which log_index, and which epoch (-1: none), a log without batches
 * goes on: while a dump is restored, its base may be there already.
 */
static int64
base_epoch(int64 *log_index)
{
	LogAccess	access;
	MachineState base;
	bool		found;

	log_access_begin(&access, ACCESS_SNAPSHOTS, ACCESS_SELF);
	found = snapshots_base(&access, &base);
	log_access_end(&access);
	if (!found)
		return -1;
	*log_index = (int64) base.last_applied_index;
	/* MACHINE_NO_EPOCH is -1 in these terms */
	return (int64) base.last_applied_epoch;
}

/* The epoch that the log has reached before a log_index, -1 for none. */
static int64
epoch_before(int64 log_index)
{
	LogAccess	access;
	int64		epoch;
	int64		unused;

	log_access_begin(&access, 0, ACCESS_SELF);
	epoch = log_epoch_before(&access, log_index);
	log_access_end(&access);
	return epoch >= 0 ? epoch : base_epoch(&unused);
}

void
append_lock(void)
{
	LogAccess	access;
	BoundEnd	end;

	for (;;)
	{
		Oid			extension = log_table_require()->extension;

		log_lock_for_transaction(LOG_LOCK_APPEND, ExclusiveLock);
		log_access_begin(&access, 0, ACCESS_SELF);
		if (access.table.extension == extension)
			break;
		/* it was created anew while we waited: the lock is not that of its log */
		log_access_end(&access);
	}
	end_log = access.table.log;
	end_index = log_end(&access, &end_epoch);
	if (out_of_order)
		/* not all kinds are right yet */
		end_epoch = log_last_epoch(&access);
	log_access_end(&access);
	if (end_epoch < 0)
	{
		int64		begin = 0;

		end_epoch = base_epoch(&begin);
		end_index = Max(end_index, begin);
	}
	end.log_index = end_index;
	end.epoch = end_epoch;
	if (locked)
		bound_set_own(end);
	else
	{
		bound_begin(end_log, end);
		locked = true;
		locked_subid = GetCurrentSubTransactionId();
		end_when_locked = end_index;
		epoch_when_locked = end_epoch;
	}
}

uint64
append_next_epoch(void)
{
	return (uint64) (end_epoch + 1);
}

int64
append_current_end(void)
{
	return end_index;
}

/* When the log's last batch was; PG_INT64_MIN if there is none to be read. */
static int64
last_batch_ms(void)
{
	LogAccess	access;
	LogReader	reader;
	LogRow		row;
	int64		ms = PG_INT64_MIN;

	if (end_epoch < 0)
		return ms;
	if (ms_log == end_log && ms_epoch == end_epoch)
		return ms_of_epoch;
	log_access_begin(&access, 0, ACCESS_SELF);
	log_reader_begin_by_epoch(&reader, &access, end_epoch, end_epoch);
	if (log_reader_next(&reader, &row))
	{
		WireEntry	batch;
		bool		canonical;

		if (wire_examine(row.entry, row.entry_len, &batch, &canonical) &&
			batch.kind == WIRE_EPOCH_BATCH)
			ms = batch.epoch_system_ms;
	}
	log_reader_end(&reader);
	log_access_end(&access);
	ms_log = end_log;
	ms_epoch = end_epoch;
	ms_of_epoch = ms;
	return ms;
}

int64
append_batch_ms(void)
{
	int64		now = (GetCurrentTimestamp() +
					   (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY) / 1000;

	return Max(now, last_batch_ms());
}

int64
append_committed_end(void)
{
	LogAccess	access;
	int64		end;

	/* nobody else appends while we hold the lock */
	if (locked)
		return end_when_locked;
	log_access_begin(&access, 0, ACCESS_LATEST);
	end = log_last_index(&access);
	log_access_end(&access);
	return end;
}

int64
append_committed_epoch(void)
{
	LogAccess	access;
	int64		epoch;

	log_access_begin(&access, 0, ACCESS_LATEST);
	epoch = locked ? log_epoch_before(&access, end_when_locked + 1) :
		log_last_epoch(&access);
	log_access_end(&access);
	return epoch;
}

/*
 * Rows went in before others of this transaction.  Of the rows since its
 * first append, those batches raise the epoch that are above all before them.
 */
static void
correct_kinds(const LogTable *table)
{
	static const char *const update =
		"UPDATE ONLY %s l SET kind = r.kind FROM ("
		"SELECT log_index, CASE WHEN epoch OPERATOR(pg_catalog.>)"
		" COALESCE(pg_catalog.max(epoch) OVER (ORDER BY log_index"
		" ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), $2)"
		" AND epoch OPERATOR(pg_catalog.>) $2"
		" THEN '" LOG_KIND_EPOCH_BATCH "' ELSE '" LOG_KIND_STALE_BATCH "' END AS kind"
		" FROM ONLY %s WHERE log_index OPERATOR(pg_catalog.>) $1 AND kind"
		" OPERATOR(pg_catalog.=) ANY (ARRAY['" LOG_KIND_EPOCH_BATCH "', '"
		LOG_KIND_STALE_BATCH "'])) r"
		" WHERE l.log_index OPERATOR(pg_catalog.=) r.log_index"
		" AND l.kind OPERATOR(pg_catalog.<>) r.kind";
	char	   *name = log_table_name(table);
	Oid			types[] = {INT8OID, INT8OID};
	Datum		values[2];
	LogIdentity self;

	values[0] = Int64GetDatum(end_when_locked);
	values[1] = Int64GetDatum(epoch_before(end_when_locked + 1));
	self = log_become_owner(table);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	correcting = true;
	if (SPI_execute_with_args(psprintf(update, name, name), 2, types, values,
							  NULL, false, 0) != SPI_OK_UPDATE)
		elog(ERROR, "could not correct seq_log.kind");
	correcting = false;
	SPI_finish();
	log_become_self(&self);
}

/*
 * A row is to go in: told before it is there, so before anybody else can see it.
 * Of a batch with its epoch, else -1; "final": no trigger of others can give it another
 * place.
 */
static void
note_place(int64 log_index, int64 batch_epoch, bool final)
{
	BoundEnd	end = {log_index, batch_epoch};

	if (!final)
		bound_forget();
	bound_raise_own(end);
	if (committing)
		bound_publish();
}

static const char *
classify(const WireEntry *entry, int64 log_index, int64 *epoch)
{
	int64		before;

	switch (entry->kind)
	{
		case WIRE_NOOP:
			return LOG_KIND_NOOP;
		case WIRE_COMPLETION_ACK:
			*epoch = (int64) entry->epoch;
			return LOG_KIND_COMPLETION_ACK;
		case WIRE_EPOCH_BATCH:
			break;
	}

	*epoch = (int64) entry->epoch;
	before = log_index > end_index ? end_epoch : epoch_before(log_index);
	if (*epoch <= before)
		return LOG_KIND_STALE_BATCH;
	return LOG_KIND_EPOCH_BATCH;
}

/* The log_index of a new row: the next one, or an explicit one if it may be. */
static int64
choose_index(bool is_explicit, int64 wanted)
{
	if (!copying || !is_explicit)
		following_refuse_row(is_explicit);
	if (!is_explicit)
	{
		identity_ensure(end_log, end_index == 0);
		if (end_index == PG_INT64_MAX)
			ereport(ERROR,
					(errcode(ERRCODE_SEQUENCE_GENERATOR_LIMIT_EXCEEDED),
					 errmsg("seq_log has no log_index left"),
					 errdetail("Its last row has log_index " INT64_FORMAT ".",
							   end_index)));
		return end_index + 1;
	}
	if (wanted <= end_when_locked)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("log_index " INT64_FORMAT " is not above the end of the log",
						wanted),
				 errdetail("The log ended at " INT64_FORMAT " when this transaction first appended to it.",
						   end_when_locked),
				 IsLogicalWorker() ?
				 errhint("A log that is replicated must get no entries of its own.  To replicate other tables into this database, publish without seq_log.") :
				 errhint("Leave log_index out to have it assigned.")));
	return wanted;
}

/* What a row is, by its bytes, where it is to stand at a log_index. */
static const char *
classify_bytes(const struct varlena *entry, int64 log_index, int64 *epoch,
			   int64 *batch_epoch)
{
	WireEntry	what;
	bool		canonical;

	*epoch = -1;
	*batch_epoch = -1;
	if (!wire_examine((const uint8 *) VARDATA_ANY(entry), VARSIZE_ANY_EXHDR(entry),
					  &what, &canonical))
		return LOG_KIND_UNDECODABLE;
	if (what.kind == WIRE_EPOCH_BATCH)
		*batch_epoch = (int64) what.epoch;
	return classify(&what, log_index, epoch);
}

void
append_place_row(bool is_explicit, int64 wanted, struct varlena *entry,
				 bool final, AppendPlace *place)
{
	int64		batch_epoch;

	append_lock();
	place->log_index = choose_index(is_explicit, wanted);
	place->kind = classify_bytes(entry, place->log_index, &place->epoch, &batch_epoch);
	note_place(place->log_index, batch_epoch, final);
	wakeup_applier_at_commit();
	out_of_order |= place->log_index < end_index;
}

void
append_end_statement(void)
{
	if (out_of_order && locked)
		correct_kinds(log_table_require());
	out_of_order = false;
}

bool
append_is_correcting(void)
{
	return correcting;
}

/* What seq_log_before_insert() would make of the row in the slot. */
static void
put_place(TupleTableSlot *slot, int64 log_index, const char *kind, int64 epoch)
{
	slot->tts_values[LOG_ATTR_INDEX - 1] = Int64GetDatum(log_index);
	slot->tts_isnull[LOG_ATTR_INDEX - 1] = false;
	slot->tts_values[LOG_ATTR_KIND - 1] = CStringGetTextDatum(kind);
	slot->tts_isnull[LOG_ATTR_KIND - 1] = false;
	slot->tts_values[LOG_ATTR_EPOCH - 1] = Int64GetDatum(epoch);
	slot->tts_isnull[LOG_ATTR_EPOCH - 1] = epoch < 0;
	wakeup_applier_at_commit();
}

static void
assign(TupleTableSlot *slot, const WireEntry *what)
{
	int64		log_index = choose_index(false, 0);
	int64		epoch = -1;
	const char *kind = classify(what, log_index, &epoch);

	note_place(log_index, what->kind == WIRE_EPOCH_BATCH ? epoch : -1, true);
	put_place(slot, log_index, kind, epoch);
}

/* With this lock nobody can give the log another trigger, or another owner. */
static const LogTable *
lock_table(void)
{
	const LogTable *table;

	log_lock_table_for_transaction(end_log, RowExclusiveLock);
	table = log_table_require();
	/* the end that was looked up is not that of another one */
	if (table->log != end_log)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("extension %s was dropped and created anew meanwhile",
						EXTENSION_NAME)));
	return table;
}

static void
insert_or_fail(Insert *insert)
{
	if (!insert_row(insert))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the entry was not inserted into seq_log"),
				 errdetail("A trigger on the table kept it out.")));
}

static void
fill_in(TupleTableSlot *slot, bytea *entry, TimestampTz appended_at)
{
	slot->tts_values[LOG_ATTR_ENTRY - 1] = PointerGetDatum(entry);
	slot->tts_isnull[LOG_ATTR_ENTRY - 1] = false;
	slot->tts_values[LOG_ATTR_APPENDED_AT - 1] = TimestampTzGetDatum(appended_at);
	slot->tts_isnull[LOG_ATTR_APPENDED_AT - 1] = false;
}

/*
 * Where the table has our triggers alone, they are passed by: all that they
 * would do for this row is done here, from what is known of the entry, and it
 * spares copying the row over and over.  Else the entry is inserted as by anybody.
 */
int64
append_insert(bytea *entry, const WireEntry *what)
{
	const LogTable *table;
	LogIdentity self;
	bool		direct;
	Insert		insert;
	TupleTableSlot *slot;
	bool		isnull;
	int64		log_index;

	table = lock_table();
	direct = table->bare;
	self = log_become_owner_to_append(table);
	insert_begin_known(&insert, table->log, direct);
	slot = insert.slot;
	fill_in(slot, entry, GetCurrentTimestamp());
	if (direct)
		assign(slot, what);
	insert_or_fail(&insert);
	log_index = DatumGetInt64(slot_getattr(slot, LOG_ATTR_INDEX, &isnull));
	insert_end(&insert);
	log_become_self(&self);
	/* who knows what other triggers have made of it */
	if (direct && what->kind == WIRE_EPOCH_BATCH && (int64) what->epoch > end_epoch)
	{
		ms_log = end_log;
		ms_epoch = (int64) what->epoch;
		ms_of_epoch = what->epoch_system_ms;
	}
	return log_index;
}

/*
 * As append_insert(), with one insertion for all.  Behind each of them the log's end
 * is known: with our triggers alone nobody else puts rows in.
 */
void
append_copies(const CopiedRow *rows, int n)
{
	const LogTable *table = lock_table();
	LogIdentity self = log_become_owner_to_append(table);
	Insert		insert;

	/* a worker has none, and what others have attached to the log needs one */
	access_push_snapshot();
	insert_begin_known(&insert, table->log, table->bare);
	copying = true;
	for (int i = 0; i < n; i++)
	{
		const CopiedRow *row = &rows[i];
		int64		log_index = choose_index(true, row->log_index);
		int64		epoch;
		int64		batch_epoch;
		const char *kind = classify_bytes(row->entry, log_index, &epoch, &batch_epoch);

		CHECK_FOR_INTERRUPTS();
		note_place(log_index, batch_epoch, insert.direct);
		ExecClearTuple(insert.slot);
		fill_in(insert.slot, row->entry, row->appended_at);
		put_place(insert.slot, log_index, kind, epoch);
		insert_or_fail(&insert);
		end_index = log_index;
		if (strcmp(kind, LOG_KIND_EPOCH_BATCH) == 0)
			end_epoch = epoch;
		ResetPerTupleExprContext(insert.estate);
	}
	copying = false;
	insert_end(&insert);
	PopActiveSnapshot();
	log_become_self(&self);
}
