/*
 * cursor_positions.c
 *	  The view seq_cursors, and the trigger on the table behind it.
 */
#include "compat.h"

#include "access/htup_details.h"
#include "catalog/pg_type_d.h"
#include "log/cursors.h"
#include "log/hint.h"
#include "log/insert.h"
#include "sql/result.h"
#include "sql/triggers.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

CALVIN_FUNCTION(seq_cursors_info);
CALVIN_FUNCTION(seq_cursor_positions_before_insert);

/*
 * (name name, vshard int, epoch bigint, position bigint, version bigint,
 *  committed_at timestamptz)
 */
#define CURSOR_COLUMNS 6

Datum
seq_cursors_info(PG_FUNCTION_ARGS)
{
	static const Oid types[CURSOR_COLUMNS] = {
		NAMEOID, INT4OID, INT8OID, INT8OID, INT8OID, TIMESTAMPTZOID
	};
	ReturnSetInfo *rsinfo = result_rows(fcinfo, CURSOR_COLUMNS, types);
	CursorWalk *walk;
	NamedCursor cursor;

	walk = cursors_walk_begin(ACCESS_STATEMENT);
	while (cursors_walk_next(walk, &cursor))
	{
		Datum		values[CURSOR_COLUMNS];
		bool		nulls[CURSOR_COLUMNS] = {false};

		values[0] = NameGetDatum(&cursor.name);
		values[1] = Int32GetDatum(cursor.cursor.vshard);
		values[2] = Int64GetDatum((int64) cursor.cursor.next.epoch);
		values[3] = Int64GetDatum(cursor.cursor.next.position);
		values[4] = Int64GetDatum((int64) cursor.cursor.version);
		values[5] = TimestampTzGetDatum(cursor.committed_at);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	cursors_walk_end(walk);
	return (Datum) 0;
}

/*
 * BEFORE INSERT FOR EACH ROW on seq_cursor_positions: whoever writes to the
 * table himself, as a restore does, finds no index that would keep a second row
 * of the same cursor out.
 */
Datum
seq_cursor_positions_before_insert(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	TupleDesc	desc;
	bool		no_name;
	bool		no_vshard;
	Datum		name;
	int32		vshard;

	trigger_require_insert_into(fcinfo, "seq_cursor_positions_before_insert",
								SIDE_CURSORS);
	if (insert_is_under_way(trigger->tg_relation, trigger->tg_trigtuple))
		return PointerGetDatum(trigger->tg_trigtuple);
	desc = RelationGetDescr(trigger->tg_relation);
	name = heap_getattr(trigger->tg_trigtuple, CURSOR_ATTR_NAME, desc, &no_name);
	vshard = DatumGetInt32(heap_getattr(trigger->tg_trigtuple,
										CURSOR_ATTR_VSHARD, desc, &no_vshard));
	/* the constraints have their say later */
	if (no_name || no_vshard || vshard < 0 || vshard >= WIRE_VSHARDS)
		return PointerGetDatum(trigger->tg_trigtuple);
	if (cursors_exist(NameStr(*DatumGetName(name)), (uint16) vshard))
		ereport(ERROR,
				(errcode(ERRCODE_UNIQUE_VIOLATION),
				 errmsg("there is a durable cursor \"%s\" of vshard %d already",
						NameStr(*DatumGetName(name)), (int) vshard),
				 errhint_for_role("Use seq_drop_cursor() first.")));
	return PointerGetDatum(trigger->tg_trigtuple);
}
