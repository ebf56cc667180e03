/*
 * cursors.c
 *	  Durable cursors: the table seq_cursor_positions.
 *
 * A cursor is the first key that its name has not processed yet.  Storing is
 * compare-and-set on a version that every change raises: of two sessions that
 * continued from the same cursor only one can commit.  The other one waits
 * for it at the row, finds another version and fails.
 *
 * Every version is a row of its own, which takes the place of the one before.
 * While somebody holds an old snapshot, what was replaced can not be removed;
 * but it lies behind the newest row in the primary key (name, vshard,
 * incarnation, version), which is read from its upper end.  So neither storing
 * nor reading ever passes by it.  A cursor that is made anew after it was
 * dropped is of another incarnation: a transaction's number, so a higher one.
 *
 * Of two sessions that make the same cursor, one fails at the unique index on
 * first versions.  If the other one's has moved on by then there is no such
 * row any more, so who makes one looks again.
 */
#include "compat.h"

#include "access/genam.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/pg_type_d.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "log/access.h"
#include "log/cursors.h"
#include "log/insert.h"
#include "log/newest.h"
#include "log/owner.h"
#include "log/remove.h"
#include "miscadmin.h"
#include "shared/pause.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* Looking for the newest row of a cursor. */
typedef NewestScan CursorScan;

struct CursorWalk
{
	CursorScan	scan;
	bool		started;
	NameData	name;	/* where it stands */
	int32		vshard;
};

static FullTransactionId stored_in = {0}; /* the last transaction that did */

static void
scan_begin(CursorScan *scan, LOCKMODE mode, AccessSnapshot kind)
{
	newest_begin(scan, SIDE_CURSORS, mode, kind, 2);
}

/* The last row in the order of the key with these bounds, or false. */
static bool
scan_last(CursorScan *scan, StrategyNumber name_strategy, RegProcedure name_proc,
		  const NameData *name, StrategyNumber vshard_strategy,
		  RegProcedure vshard_proc, int32 vshard)
{
	ScanKeyData keys[2];

	ScanKeyInit(&keys[0], CURSOR_ATTR_NAME, name_strategy, name_proc,
				NameGetDatum(name));
	ScanKeyInit(&keys[1], CURSOR_ATTR_VSHARD, vshard_strategy, vshard_proc,
				Int32GetDatum(vshard));
	return newest_find(scan, keys);
}

static bool
scan_newest(CursorScan *scan, const NameData *name, uint16 vshard)
{
	return scan_last(scan, BTEqualStrategyNumber, F_NAMEEQ, name,
					 BTEqualStrategyNumber, F_INT4EQ, vshard);
}

static bool
scan_before_vshard(CursorScan *scan, const NameData *name, int32 vshard)
{
	return scan_last(scan, BTEqualStrategyNumber, F_NAMEEQ, name,
					 BTLessStrategyNumber, F_INT4LT, vshard);
}

static void
read_row(const TupleTableSlot *slot, StreamCursor *row)
{
	const Datum *values = slot->tts_values;

	row->vshard = (uint16) DatumGetInt32(values[CURSOR_ATTR_VSHARD - 1]);
	row->next.epoch = (uint64) DatumGetInt64(values[CURSOR_ATTR_EPOCH - 1]);
	row->next.position = (uint32) DatumGetInt64(values[CURSOR_ATTR_POSITION - 1]);
	row->version = (uint64) DatumGetInt64(values[CURSOR_ATTR_VERSION - 1]);
	row->incarnation = (uint64) DatumGetInt64(values[CURSOR_ATTR_INCARNATION - 1]);
	row->stored_by = (uint64) DatumGetInt64(values[CURSOR_ATTR_STORED_BY - 1]);
}

static bool
is_of(const TupleTableSlot *slot, const NameData *name, int32 vshard)
{
	const Datum *values = slot->tts_values;

	return DatumGetInt32(values[CURSOR_ATTR_VSHARD - 1]) == vshard &&
		strcmp(NameStr(*DatumGetName(values[CURSOR_ATTR_NAME - 1])),
			   NameStr(*name)) == 0;
}

int
cursors_load(const char *name, int n, const uint16 *vshards, StreamCursor *rows)
{
	CursorScan	scan;
	NameData	wanted;
	int			found = 0;

	namestrcpy(&wanted, name);
	scan_begin(&scan, AccessShareLock, ACCESS_LATEST);
	for (int i = 0; i < n; i++)
		if (scan_newest(&scan, &wanted, vshards[i]))
			read_row(scan.slot, &rows[found++]);
	newest_end(&scan);
	return found;
}

bool
cursors_exist(const char *name, uint16 vshard)
{
	StreamCursor row;

	return cursors_load(name, 1, &vshard, &row) > 0;
}

CursorWalk *
cursors_walk_begin(AccessSnapshot kind)
{
	CursorWalk *walk = palloc0(sizeof(CursorWalk));

	scan_begin(&walk->scan, AccessShareLock, kind);
	return walk;
}

/* From the last name to the first one, from its last vshard to its first one. */
bool
cursors_walk_next(CursorWalk *walk, NamedCursor *cursor)
{
	CursorScan *scan = &walk->scan;
	const Datum *values = scan->slot->tts_values;
	bool		found;

	if (!walk->started)
		found = scan_last(scan, BTGreaterEqualStrategyNumber, F_NAMEGE,
						  &walk->name, BTGreaterEqualStrategyNumber, F_INT4GE, 0);
	else
		found = scan_before_vshard(scan, &walk->name, walk->vshard) ||
			scan_last(scan, BTLessStrategyNumber, F_NAMELT, &walk->name,
					  BTGreaterEqualStrategyNumber, F_INT4GE, 0);
	if (!found)
		return false;
	walk->started = true;
	walk->name = *DatumGetName(values[CURSOR_ATTR_NAME - 1]);
	read_row(scan->slot, &cursor->cursor);
	walk->vshard = cursor->cursor.vshard;
	cursor->name = walk->name;
	cursor->committed_at =
		DatumGetTimestampTz(values[CURSOR_ATTR_COMMITTED_AT - 1]);
	return true;
}

void
cursors_walk_end(CursorWalk *walk)
{
	newest_end(&walk->scan);
	pfree(walk);
}

/*
 * Of one cursor, from where the scan has found its last row on: does it stand
 * at an epoch or before, for sure?  It may, if it is only about to be moved.
 */
static bool
stands_behind(CursorWalk *walk, SnapshotData *dirty, uint64 epoch,
			  NamedCursor *cursor, TransactionId *changing)
{
	CursorScan *scan = &walk->scan;
	bool		behind = false;
	TransactionId under_way = InvalidTransactionId;

	for (;;)
	{
		bool		settled = !TransactionIdIsValid(dirty->xmin);

		behind |= cursor->cursor.next.epoch <= epoch;
		if (!settled)
			under_way = dirty->xmin;
		else if (TransactionIdIsValid(dirty->xmax))
			under_way = dirty->xmax;
		if (settled ||
			!index_getnext_slot(scan->scan, BackwardScanDirection, scan->slot))
			break;
		slot_getallattrs(scan->slot);
		if (!is_of(scan->slot, &walk->name, walk->vshard))
			break;
		read_row(scan->slot, &cursor->cursor);
	}
	if (!behind || !TransactionIdIsValid(under_way))
		return behind;
	*changing = under_way;
	return false;
}

int
cursors_behind(uint64 epoch, NamedCursor **cursors, TransactionId *changing)
{
	CursorWalk *walk = cursors_walk_begin(ACCESS_LATEST);
	SideAccess *access = &walk->scan.access;
	SnapshotData dirty;
	NamedCursor cursor;
	int			size = 64;
	int			n = 0;

	*changing = InvalidTransactionId;
	*cursors = palloc(sizeof(NamedCursor) * size);
	/* what is not committed yet, too */
	InitDirtySnapshot(dirty);
	index_endscan(walk->scan.scan);
	walk->scan.scan = compat_index_beginscan(access->rel, access->by_key, &dirty, 2);
	while (cursors_walk_next(walk, &cursor))
	{
		if (!stands_behind(walk, &dirty, epoch, &cursor, changing))
			continue;
		if (n == size)
		{
			size *= 2;
			*cursors = repalloc_huge(*cursors, sizeof(NamedCursor) * size);
		}
		(*cursors)[n++] = cursor;
	}
	cursors_walk_end(walk);
	return n;
}

static Datum
int8_array(int n, const Datum *values)
{
	return PointerGetDatum(construct_array((Datum *) values, n, INT8OID,
										   sizeof(int64), FLOAT8PASSBYVAL,
										   TYPALIGN_DOUBLE));
}

void
cursors_move(int n, const NamedCursor *cursors, uint64 epoch)
{
	static const char *const update =
		"UPDATE %s c SET epoch = $5, \"position\" = 0"
		" FROM (SELECT * FROM unnest($1, $2, $3, $4)"
		" AS u(name, vshard, incarnation, version)) u"
		" WHERE c.name OPERATOR(pg_catalog.=) u.name"
		" AND c.vshard OPERATOR(pg_catalog.=) u.vshard"
		" AND c.incarnation OPERATOR(pg_catalog.=) u.incarnation"
		" AND c.version OPERATOR(pg_catalog.=) u.version";
	const LogTable *table = log_table_require();
	LogIdentity self;
	SideAccess	access;
	SPIPlanPtr	plan;
	Oid			types[] = {NAMEARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8OID};
	Datum	   *names;
	Datum	   *columns[3];
	Datum		values[5];

	if (n == 0)
		return;
	names = palloc(sizeof(Datum) * n);
	for (int c = 0; c < 3; c++)
		columns[c] = palloc(sizeof(Datum) * n);
	for (int i = 0; i < n; i++)
	{
		names[i] = NameGetDatum(&cursors[i].name);
		columns[0][i] = Int64GetDatum(cursors[i].cursor.vshard);
		columns[1][i] = Int64GetDatum((int64) cursors[i].cursor.incarnation);
		columns[2][i] = Int64GetDatum((int64) cursors[i].cursor.version);
	}
	values[0] = PointerGetDatum(construct_array(names, n, NAMEOID, NAMEDATALEN,
												false, TYPALIGN_CHAR));
	for (int c = 0; c < 3; c++)
		values[1 + c] = int8_array(n, columns[c]);
	values[4] = Int64GetDatum((int64) epoch);
	self = log_become_side_owner(table, SIDE_CURSORS);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	/* what was found was committed just now, whatever the isolation level */
	side_access_begin(&access, SIDE_CURSORS, RowExclusiveLock, ACCESS_LATEST);
	plan = SPI_prepare(psprintf(update, log_cursors_name(table)), 5, types);
	if (plan == NULL ||
		SPI_execute_snapshot(plan, values, NULL, access.snapshot, InvalidSnapshot,
							 false, true, 0) != SPI_OK_UPDATE)
		elog(ERROR, "could not move cursors");
	if (SPI_processed != (uint64) n)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("a durable cursor was changed while the log was being truncated"),
				 errhint("Truncate again.")));
	side_access_end(&access);
	SPI_finish();
	log_become_self(&self);
}

/*
 * Take the row away that a cursor continued from, if it is still the newest
 * one.  In the higher isolation levels it has to be in the transaction's
 * snapshot too, as the server would have it.
 */
static bool
remove_version(CursorScan *scan, Insert *insert, const NameData *name,
			   const StreamCursor *row)
{
	for (;;)
	{
		StreamCursor stored;

		if (!scan_newest(scan, name, row->vshard))
			return row->version == 0;
		read_row(scan->slot, &stored);
		if (stored.version != row->version ||
			(row->version > 0 && (stored.incarnation != row->incarnation ||
								  stored.stored_by != row->stored_by)))
			return false;
		if (!side_access_serializable(&scan->access, scan->slot))
			return false;
		switch (remove_row(insert, scan->slot, scan->access.snapshot))
		{
			case REMOVAL_DONE:
				newest_try_dead(scan);
				return true;
			case REMOVAL_KEPT:
				return false;
			case REMOVAL_GONE:
				/* in vain, unless seq_truncate() has moved it along */
				newest_refresh(scan);
				break;
		}
	}
}

/* What somebody has added to the columns goes on with the new row. */
static void
fill_in(Insert *insert, const TupleTableSlot *before, const NameData *name,
		const StreamCursor *row)
{
	TupleTableSlot *slot = insert->slot;
	Datum	   *values = slot->tts_values;

	ExecClearTuple(slot);
	insert->carries = !TTS_EMPTY(before);
	for (int i = 0; i < slot->tts_tupleDescriptor->natts; i++)
	{
		slot->tts_isnull[i] = TTS_EMPTY(before) || before->tts_isnull[i];
		values[i] = slot->tts_isnull[i] ? (Datum) 0 : before->tts_values[i];
	}
	for (int i = 0; i < CURSOR_ATTR_STORED_BY; i++)
		slot->tts_isnull[i] = false;
	values[CURSOR_ATTR_NAME - 1] = NameGetDatum(name);
	values[CURSOR_ATTR_VSHARD - 1] = Int32GetDatum(row->vshard);
	values[CURSOR_ATTR_EPOCH - 1] = Int64GetDatum((int64) row->next.epoch);
	values[CURSOR_ATTR_POSITION - 1] = Int64GetDatum(row->next.position);
	values[CURSOR_ATTR_VERSION - 1] = Int64GetDatum((int64) row->version + 1);
	values[CURSOR_ATTR_COMMITTED_AT - 1] =
		TimestampTzGetDatum(GetCurrentTimestamp());
	values[CURSOR_ATTR_INCARNATION - 1] = Int64GetDatum((int64) row->incarnation);
	values[CURSOR_ATTR_STORED_BY - 1] = Int64GetDatum((int64) row->stored_by);
}

static bool
store_rows(CursorScan *scan, Insert *insert, const NameData *name, int n,
		   StreamCursor *rows)
{
	for (int i = 0; i < n; i++)
	{
		if (!remove_version(scan, insert, name, &rows[i]))
			return false;
		rows[i].stored_by = U64FromFullTransactionId(GetCurrentFullTransactionId());
		if (rows[i].version == 0)
		{
			ExecClearTuple(scan->slot);
			rows[i].incarnation = rows[i].stored_by;
		}
		PAUSE_POINT("cursors: between look and row");
		fill_in(insert, scan->slot, name, &rows[i]);
		if (!insert_row(insert))
			return false;
		ResetPerTupleExprContext(insert->estate);
	}
	return true;
}

/* Those that were made here have to be alone; what is committed now counts. */
static bool
first_ones_alone(CursorScan *scan, const NameData *name, int n,
				 const StreamCursor *rows)
{
	bool		refreshed = false;

	for (int i = 0; i < n; i++)
	{
		StreamCursor newest;

		if (rows[i].version > 0)
			continue;
		if (!refreshed)
			newest_refresh(scan);
		refreshed = true;
		if (!scan_newest(scan, name, rows[i].vshard))
			return false;
		read_row(scan->slot, &newest);
		if (newest.version != 1 || newest.incarnation != rows[i].incarnation ||
			index_getnext_slot(scan->scan, BackwardScanDirection, scan->behind))
			return false;
	}
	return true;
}

/* Is the error that was caught one of a unique index of this table? */
static bool
is_duplicate(const char *schema, const char *table, MemoryContext context)
{
	ErrorData  *error;
	bool		duplicate;

	if (geterrcode() != ERRCODE_UNIQUE_VIOLATION)
		return false;
	MemoryContextSwitchTo(context);
	error = CopyErrorData();
	duplicate = error->table_name != NULL && error->schema_name != NULL &&
		strcmp(error->table_name, table) == 0 &&
		strcmp(error->schema_name, schema) == 0;
	FreeErrorData(error);
	return duplicate;
}

static int
compare_vshards(const void *a, const void *b)
{
	return (int) ((const StreamCursor *) a)->vshard -
		(int) ((const StreamCursor *) b)->vshard;
}

bool
cursors_store(const char *name, int n, StreamCursor *rows)
{
	MemoryContext context = CurrentMemoryContext;
	const LogTable *table = log_table_require();
	Oid			relid = log_side_table(table, SIDE_CURSORS);
	char	   *name_of_table = get_rel_name(relid);
	char	   *name_of_schema = get_namespace_name(table->schema);
	LogIdentity self;
	CursorScan	scan;
	Insert		insert;
	NameData	wanted;
	volatile bool ok = false;

	if (n == 0)
		return true;
	PreventCommandIfReadOnly("seq_commit()");
	namestrcpy(&wanted, name);
	/* two that store several of the same shall not wait for each other */
	qsort(rows, n, sizeof(StreamCursor), compare_vshards);
	self = log_become_side_owner(table, SIDE_CURSORS);
	stored_in = GetTopFullTransactionId();
	PAUSE_POINT("cursors: before the look");
	PG_TRY();
	{
		scan_begin(&scan, RowExclusiveLock, ACCESS_LATEST);
		insert_begin(&insert, RelationGetRelid(scan.access.rel));
		ok = store_rows(&scan, &insert, &wanted, n, rows);
		insert_end(&insert);
		ok = ok && first_ones_alone(&scan, &wanted, n, rows);
		newest_end(&scan);
	}
	PG_CATCH();
	{
		/* who came first has made it: to the caller it is the same */
		if (!is_duplicate(name_of_schema, name_of_table, context))
			PG_RE_THROW();
		FlushErrorState();
		ok = false;
	}
	PG_END_TRY();
	log_become_self(&self);
	return ok;
}

bool
cursors_stored_here(void)
{
	FullTransactionId here = GetTopFullTransactionIdIfAny();

	return FullTransactionIdIsValid(here) &&
		FullTransactionIdEquals(here, stored_in);
}

/* All rows of a cursor, whoever has moved it meanwhile. */
static bool
drop_one(CursorScan *scan, Insert *insert, const NameData *name, uint16 vshard)
{
	bool		dropped = false;

	while (scan_newest(scan, name, vshard))
	{
		switch (remove_row(insert, scan->slot, scan->access.snapshot))
		{
			case REMOVAL_DONE:
				dropped = true;
				break;
			case REMOVAL_KEPT:
				return dropped;
			case REMOVAL_GONE:
				break;
		}
		CommandCounterIncrement();
		insert->estate->es_output_cid = GetCurrentCommandId(true);
		newest_refresh(scan);
	}
	return dropped;
}

int
cursors_drop(const char *name, int n, const uint16 *vshards)
{
	const LogTable *table = log_table_require();
	LogIdentity self;
	CursorScan	scan;
	Insert		insert;
	NameData	wanted;
	int			dropped = 0;

	PreventCommandIfReadOnly("seq_drop_cursor()");
	namestrcpy(&wanted, name);
	self = log_become_side_owner(table, SIDE_CURSORS);
	scan_begin(&scan, RowExclusiveLock, ACCESS_LATEST);
	insert_begin(&insert, RelationGetRelid(scan.access.rel));
	if (vshards == NULL)
	{
		int32		vshard = WIRE_VSHARDS;

		while (scan_before_vshard(&scan, &wanted, vshard))
		{
			vshard = DatumGetInt32(scan.slot->tts_values[CURSOR_ATTR_VSHARD - 1]);
			dropped += drop_one(&scan, &insert, &wanted, (uint16) vshard);
		}
	}
	for (int i = 0; vshards != NULL && i < n; i++)
		dropped += drop_one(&scan, &insert, &wanted, vshards[i]);
	insert_end(&insert);
	newest_end(&scan);
	log_become_self(&self);
	return dropped;
}
