/*
 * triggers.c
 *	  The triggers of the extension's tables.
 */
#include "compat.h"

#include "access/detoast.h"
#include "access/htup_details.h"
#include "access/toast_compression.h"
#include "commands/trigger.h"
#include "log/append.h"
#include "log/direct.h"
#include "log/identity.h"
#include "log/insert.h"
#include "log/report.h"
#include "log/snapshots.h"
#include "log/truncate.h"
#include "replication/logicalworker.h"
#include "sql/triggers.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

CALVIN_FUNCTION(seq_log_before_insert);
CALVIN_FUNCTION(seq_log_after_insert);
CALVIN_FUNCTION(seq_log_refuse_change);
CALVIN_FUNCTION(seq_snapshots_before_insert);
CALVIN_FUNCTION(seq_identity_before_change);

static void
report_misuse(const char *function)
{
	ereport(ERROR,
			(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
			 errmsg("%s() was not called by its trigger", function)));
}

static bool
is_before_row_insert(FunctionCallInfo fcinfo)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	return CALLED_AS_TRIGGER(fcinfo) &&
		TRIGGER_FIRED_BEFORE(trigger->tg_event) &&
		TRIGGER_FIRED_FOR_ROW(trigger->tg_event) &&
		TRIGGER_FIRED_BY_INSERT(trigger->tg_event);
}

static void
require_table(FunctionCallInfo fcinfo, const char *function, Oid relid)
{
	Relation	rel = ((TriggerData *) fcinfo->context)->tg_relation;

	if (RelationGetRelid(rel) != relid)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("%s() serves %s only", function, get_rel_name(relid))));
}

void
trigger_require_insert_into(FunctionCallInfo fcinfo, const char *function,
							SideTable side)
{
	if (!is_before_row_insert(fcinfo))
		report_misuse(function);
	require_table(fcinfo, function, log_side_table(log_table_require(), side));
	shape_check_side_columns(((TriggerData *) fcinfo->context)->tg_relation, side);
}

/* The entry of a row that is inserted, detoasted. */
static struct varlena *
new_entry(HeapTuple tuple, TupleDesc desc, Datum *stored)
{
	bool		isnull;

	*stored = heap_getattr(tuple, LOG_ATTR_ENTRY, desc, &isnull);
	if (isnull)
		ereport(ERROR,
				(errcode(ERRCODE_NOT_NULL_VIOLATION),
				 errmsg("null value in column \"entry\" of relation \"seq_log\" violates not-null constraint"),
				 errhint("A no-op is an entry of no bytes.")));
	if (toast_raw_datum_size(*stored) - VARHDRSZ > WIRE_MAX_ENTRY)
	{
		WireError	error = {WIRE_TOO_LARGE, 0, "entry", "a smaller one"};

		wire_report(&error);
	}
	return pg_detoast_datum_packed((struct varlena *) DatumGetPointer(*stored));
}

/*
 * BEFORE INSERT FOR EACH ROW on seq_log: assigns log_index, derives kind and
 * epoch.  The column's storage keeps the server from compressing an entry, but not
 * from storing what comes compressed from another column as it is.
 */
Datum
seq_log_before_insert(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	HeapTuple	tuple;
	TupleDesc	desc;
	Datum		stored;
	Datum		wanted;
	bool		isnull;
	struct varlena *entry;
	AppendPlace place;
	bool		compressed;
	int			columns[] = {LOG_ATTR_INDEX, LOG_ATTR_KIND, LOG_ATTR_EPOCH, LOG_ATTR_ENTRY};
	Datum		values[4];
	bool		nulls[4] = {false};

	if (!is_before_row_insert(fcinfo))
		report_misuse("seq_log_before_insert");
	/* whose columns were compared when it was looked up */
	require_table(fcinfo, "seq_log_before_insert", log_table_require()->log);

	tuple = trigger->tg_trigtuple;
	desc = RelationGetDescr(trigger->tg_relation);
	entry = new_entry(tuple, desc, &stored);
	wanted = heap_getattr(tuple, LOG_ATTR_INDEX, desc, &isnull);
	append_place_row(!isnull, isnull ? 0 : DatumGetInt64(wanted), entry,
					 direct_insert(trigger->tg_relation), &place);

	values[0] = Int64GetDatum(place.log_index);
	values[1] = CStringGetTextDatum(place.kind);
	values[2] = Int64GetDatum(place.epoch);
	nulls[2] = place.epoch < 0;
	values[3] = PointerGetDatum(entry);
	compressed = toast_get_compression_id((struct varlena *) DatumGetPointer(stored)) !=
		TOAST_INVALID_COMPRESSION_ID;
	tuple = heap_modify_tuple_by_cols(tuple, desc, compressed ? 4 : 3, columns, values,
									  nulls);
	if ((Pointer) entry != DatumGetPointer(stored))
		pfree(entry);
	return PointerGetDatum(tuple);
}

/* AFTER INSERT FOR EACH STATEMENT on seq_log. */
Datum
seq_log_after_insert(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) ||
		!TRIGGER_FIRED_AFTER(trigger->tg_event) ||
		!TRIGGER_FIRED_BY_INSERT(trigger->tg_event))
		report_misuse("seq_log_after_insert");
	append_end_statement();
	return PointerGetDatum(NULL);
}

/* What a trigger's statement does, as errors name it. */
static const char *
command_name(const TriggerData *trigger)
{
	return TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ? "UPDATE" :
		TRIGGER_FIRED_BY_DELETE(trigger->tg_event) ? "DELETE FROM" :
		"TRUNCATE";
}

static int64
index_of(const TriggerData *trigger)
{
	bool		isnull;

	return DatumGetInt64(heap_getattr(trigger->tg_trigtuple, LOG_ATTR_INDEX,
									  RelationGetDescr(trigger->tg_relation), &isnull));
}

/* BEFORE UPDATE, DELETE, TRUNCATE on seq_log: the log is append-only. */
Datum
seq_log_refuse_change(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	bool		for_row;

	if (!CALLED_AS_TRIGGER(fcinfo))
		report_misuse("seq_log_refuse_change");
	for_row = TRIGGER_FIRED_FOR_ROW(trigger->tg_event);
	if (append_is_correcting() && TRIGGER_FIRED_BY_UPDATE(trigger->tg_event))
		return PointerGetDatum(for_row ? trigger->tg_newtuple : NULL);
	if (TRIGGER_FIRED_BY_DELETE(trigger->tg_event) && truncate_is_removing(0) &&
		(!for_row || truncate_is_removing(index_of(trigger))))
		return PointerGetDatum(for_row ? trigger->tg_trigtuple : NULL);
	/* the log that they come from was truncated, or a kind in it corrected */
	if (for_row && IsLogicalWorker())
		return PointerGetDatum(NULL);
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("cannot %s seq_log: it is append-only", command_name(trigger)),
			 errdetail("Its rows are the history that every replica derives its state from.")));
	pg_unreachable();
}

/* BEFORE INSERT FOR EACH ROW on seq_snapshots, which only a restore does. */
Datum
seq_snapshots_before_insert(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	HeapTuple	tuple;
	TupleDesc	desc;
	Datum		log_index;
	Datum		base;
	Datum		version;
	bool		no_index;
	bool		no_base;
	bool		no_version;

	trigger_require_insert_into(fcinfo, "seq_snapshots_before_insert", SIDE_SNAPSHOTS);
	tuple = trigger->tg_trigtuple;
	if (insert_is_under_way(trigger->tg_relation, tuple))
		return PointerGetDatum(tuple);
	desc = RelationGetDescr(trigger->tg_relation);
	log_index = heap_getattr(tuple, SNAPSHOT_ATTR_INDEX, desc, &no_index);
	if (no_index)
		return PointerGetDatum(tuple);
	base = heap_getattr(tuple, SNAPSHOT_ATTR_BASE, desc, &no_base);
	version = heap_getattr(tuple, SNAPSHOT_ATTR_VERSION, desc, &no_version);
	if (!snapshots_accept_restored(DatumGetInt64(log_index),
								   !no_base && DatumGetBool(base),
								   no_version ? 0 : DatumGetInt32(version)))
		return PointerGetDatum(NULL);
	return PointerGetDatum(tuple);
}

/* BEFORE INSERT FOR EACH ROW, UPDATE, DELETE and TRUNCATE on seq_identity. */
Datum
seq_identity_before_change(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		report_misuse("seq_identity_before_change");
	if (TRIGGER_FIRED_BY_DELETE(trigger->tg_event) && identity_is_replacing())
		return PointerGetDatum(NULL);
	if (!is_before_row_insert(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot %s seq_identity", command_name(trigger)),
				 errdetail("It tells which log this is.")));
	trigger_require_insert_into(fcinfo, "seq_identity_before_change", SIDE_IDENTITY);
	if (!insert_is_under_way(trigger->tg_relation, trigger->tg_trigtuple))
		identity_accept_restored();
	return PointerGetDatum(trigger->tg_trigtuple);
}
