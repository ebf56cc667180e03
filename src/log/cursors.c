/*
 * cursors.c
 *	  Durable cursors: the table seq_cursors.
 *
 * A cursor is the first key that its name has not processed yet.  Storing is
 * compare-and-set on a version that every change raises: of two sessions that
 * continued from the same cursor only one can commit.  The other one waits
 * for it at the row, finds another version and fails.
 */
#include "compat.h"

#include "access/genam.h"
#include "access/stratnum.h"
#include "access/tableam.h"
#include "catalog/pg_type_d.h"
#include "executor/spi.h"
#include "log/access.h"
#include "log/cursors.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"

/* One column of the rows as an array, for unnest(). */
typedef enum CursorColumn
{
	COLUMN_VSHARD,
	COLUMN_EPOCH,
	COLUMN_POSITION,
	COLUMN_VERSION
} CursorColumn;

int
cursors_load(const char *name, StreamCursor *rows)
{
	SideAccess	access;
	TupleTableSlot *slot;
	IndexScanDesc scan;
	NameData	wanted;
	ScanKeyData key;
	int			n = 0;

	side_access_begin(&access, SIDE_CURSORS, AccessShareLock, ACCESS_LATEST);
	slot = table_slot_create(access.rel, NULL);
	scan = compat_index_beginscan(access.rel, access.by_key, access.snapshot, 1);
	namestrcpy(&wanted, name);
	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_NAMEEQ, NameGetDatum(&wanted));
	index_rescan(scan, &key, 1, NULL, 0);
	while (n < WIRE_VSHARDS &&
		   index_getnext_slot(scan, ForwardScanDirection, slot))
	{
		StreamCursor *row = &rows[n];
		int32		vshard;

		slot_getsomeattrs(slot, CURSOR_ATTR_VERSION);
		vshard = DatumGetInt32(slot->tts_values[CURSOR_ATTR_VSHARD - 1]);
		if (vshard < 0 || vshard >= WIRE_VSHARDS)
			continue;
		row->vshard = (uint16) vshard;
		row->next.epoch = (uint64) DatumGetInt64(slot->tts_values[CURSOR_ATTR_EPOCH - 1]);
		row->next.position = (uint32) DatumGetInt64(slot->tts_values[CURSOR_ATTR_POSITION - 1]);
		row->version = (uint64) DatumGetInt64(slot->tts_values[CURSOR_ATTR_VERSION - 1]);
		n++;
	}
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	side_access_end(&access);
	return n;
}

int
cursors_behind(uint64 epoch, NamedCursor **cursors)
{
	SideAccess	access;
	TupleTableSlot *slot;
	TableScanDesc scan;
	int			size = 64;
	int			n = 0;

	side_access_begin(&access, SIDE_CURSORS, AccessShareLock, ACCESS_LATEST);
	slot = table_slot_create(access.rel, NULL);
	scan = table_beginscan(access.rel, access.snapshot, 0, NULL);

	*cursors = palloc(sizeof(NamedCursor) * size);
	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		NamedCursor *cursor;
		uint64		next;

		CHECK_FOR_INTERRUPTS();
		slot_getsomeattrs(slot, CURSOR_ATTR_POSITION);
		next = (uint64) DatumGetInt64(slot->tts_values[CURSOR_ATTR_EPOCH - 1]);
		if (next > epoch)
			continue;
		if (n == size)
		{
			size *= 2;
			*cursors = repalloc_huge(*cursors, sizeof(NamedCursor) * size);
		}
		cursor = &(*cursors)[n++];
		cursor->name = *DatumGetName(slot->tts_values[CURSOR_ATTR_NAME - 1]);
		cursor->vshard = (uint16) DatumGetInt32(slot->tts_values[CURSOR_ATTR_VSHARD - 1]);
		cursor->next.epoch = next;
		cursor->next.position =
			(uint32) DatumGetInt64(slot->tts_values[CURSOR_ATTR_POSITION - 1]);
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	side_access_end(&access);
	return n;
}

void
cursors_move(int n, const NamedCursor *cursors, uint64 epoch)
{
	static const char *const update =
		"UPDATE %s c SET epoch = $3, \"position\" = 0"
		" FROM unnest($1, $2) AS u(name, vshard)"
		" WHERE c.name OPERATOR(pg_catalog.=) u.name"
		" AND c.vshard OPERATOR(pg_catalog.=) u.vshard"
		" AND c.epoch OPERATOR(pg_catalog.<) $3";
	const LogTable *table = log_table_require();
	LogIdentity self;
	Oid			types[] = {NAMEARRAYOID, INT8ARRAYOID, INT8OID};
	Datum	   *names;
	Datum	   *vshards;
	Datum		values[3];

	if (n == 0)
		return;
	names = palloc(sizeof(Datum) * n);
	vshards = palloc(sizeof(Datum) * n);
	for (int i = 0; i < n; i++)
	{
		names[i] = NameGetDatum(&cursors[i].name);
		vshards[i] = Int64GetDatum(cursors[i].vshard);
	}
	values[0] = PointerGetDatum(construct_array(names, n, NAMEOID, NAMEDATALEN,
												false, TYPALIGN_CHAR));
	values[1] = PointerGetDatum(construct_array(vshards, n, INT8OID,
												sizeof(int64), FLOAT8PASSBYVAL,
												TYPALIGN_DOUBLE));
	values[2] = Int64GetDatum((int64) epoch);
	self = log_become_side_owner(table, SIDE_CURSORS, false);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (SPI_execute_with_args(psprintf(update, log_cursors_name(table)), 3,
							  types, values, NULL, false, 0) != SPI_OK_UPDATE)
		elog(ERROR, "could not move cursors");
	SPI_finish();
	log_become_self(&self);
}

/* An int8[] of one column of the rows with, or without, a stored cursor. */
static Datum
column_array(int n, const StreamCursor *rows, CursorColumn column, bool stored,
			 int *count)
{
	Datum	   *values = palloc(sizeof(Datum) * n);

	*count = 0;
	for (int i = 0; i < n; i++)
	{
		int64		value = 0;

		if ((rows[i].version > 0) != stored)
			continue;
		switch (column)
		{
			case COLUMN_VSHARD:
				value = rows[i].vshard;
				break;
			case COLUMN_EPOCH:
				value = (int64) rows[i].next.epoch;
				break;
			case COLUMN_POSITION:
				value = rows[i].next.position;
				break;
			case COLUMN_VERSION:
				value = (int64) rows[i].version;
				break;
		}
		values[(*count)++] = Int64GetDatum(value);
	}
	return PointerGetDatum(construct_array(values, *count, INT8OID,
										   sizeof(int64), FLOAT8PASSBYVAL,
										   TYPALIGN_DOUBLE));
}

/* Run one of the statements below over the rows it is for. */
static bool
store_some(const char *statement, int n, const StreamCursor *rows, bool stored,
		   NameData *name)
{
	Oid			types[] = {NAMEOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID};
	Datum		values[5];
	int			count;

	values[0] = NameGetDatum(name);
	for (int c = COLUMN_VSHARD; c <= COLUMN_VERSION; c++)
		values[1 + c] = column_array(n, rows, (CursorColumn) c, stored, &count);
	if (count == 0)
		return true;
	if (SPI_execute_with_args(statement, 5, types, values, NULL, false, 0) < 0)
		elog(ERROR, "could not store cursors");
	return SPI_processed == (uint64) count;
}

bool
cursors_store(const char *name, int n, const StreamCursor *rows)
{
	/* of several arguments, an unqualified unnest() is pg_catalog's for sure */
	static const char *const update =
		"UPDATE %s c SET epoch = u.epoch, \"position\" = u.pos,"
		" version = u.version OPERATOR(pg_catalog.+) 1,"
		" committed_at = pg_catalog.clock_timestamp()"
		" FROM (SELECT * FROM unnest($2, $3, $4, $5)"
		" AS u(vshard, epoch, pos, version)) u"
		" WHERE c.name OPERATOR(pg_catalog.=) $1"
		" AND c.vshard OPERATOR(pg_catalog.=) u.vshard"
		" AND c.version OPERATOR(pg_catalog.=) u.version";
	static const char *const insert =
		"INSERT INTO %s (name, vshard, epoch, \"position\", version, committed_at)"
		" SELECT $1, vshard, epoch, pos, 1, pg_catalog.clock_timestamp()"
		" FROM unnest($2, $3, $4, $5) AS u(vshard, epoch, pos, version)"
		" ON CONFLICT DO NOTHING";
	const LogTable *table = log_table_require();
	char	   *target = log_cursors_name(table);
	LogIdentity self = log_become_side_owner(table, SIDE_CURSORS, false);
	NameData	wanted;
	bool		ok;

	namestrcpy(&wanted, name);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	ok = store_some(psprintf(update, target), n, rows, true, &wanted) &&
		store_some(psprintf(insert, target), n, rows, false, &wanted);
	SPI_finish();
	log_become_self(&self);
	return ok;
}

int
cursors_drop(const char *name, int n, const uint16 *vshards)
{
	const LogTable *table = log_table_require();
	char	   *target = log_cursors_name(table);
	LogIdentity self = log_become_side_owner(table, SIDE_CURSORS, false);
	Oid			types[] = {NAMEOID, INT8ARRAYOID};
	Datum	   *elements = palloc(sizeof(Datum) * Max(n, 1));
	Datum		values[2];
	NameData	wanted;
	int			dropped;

	for (int i = 0; i < n; i++)
		elements[i] = Int64GetDatum(vshards[i]);
	namestrcpy(&wanted, name);
	values[0] = NameGetDatum(&wanted);
	values[1] = PointerGetDatum(construct_array(elements, n, INT8OID,
												sizeof(int64), FLOAT8PASSBYVAL,
												TYPALIGN_DOUBLE));
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (SPI_execute_with_args(psprintf("DELETE FROM %s"
									   " WHERE name OPERATOR(pg_catalog.=) $1%s",
									   target, vshards == NULL ? "" :
									   " AND vshard OPERATOR(pg_catalog.=) ANY ($2)"),
							  2, types, values, NULL, false, 0) != SPI_OK_DELETE)
		elog(ERROR, "could not drop cursors");
	dropped = (int) SPI_processed;
	SPI_finish();
	log_become_self(&self);
	return dropped;
}
