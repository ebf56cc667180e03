/*
 * definitions.c
 *	  Which function handles what a group gets, and as whom: the table
 *	  seq_handler_definitions.
 *
 * The function is kept by its names, and the role by its name beside its number: the
 * numbers are others after a dump, and in a new version of the server.  The name of the
 * function's owner is kept so that nobody puts one of his own in its place.
 */
#include "compat.h"

#include "access/genam.h"
#include "access/stratnum.h"
#include "access/tableam.h"
#include "executor/executor.h"
#include "log/definitions.h"
#include "log/insert.h"
#include "log/locks.h"
#include "log/memory.h"
#include "log/newest.h"
#include "log/owner.h"
#include "log/remove.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/timestamp.h"

static void
read_row(const TupleTableSlot *slot, HandlerDefinition *definition)
{
	const Datum *values = slot->tts_values;

	definition->name = *DatumGetName(values[HANDLER_ATTR_NAME - 1]);
	definition->id = (uint64) DatumGetInt64(values[HANDLER_ATTR_ID - 1]);
	definition->definition = (uint64) DatumGetInt64(values[HANDLER_ATTR_DEFINITION - 1]);
	definition->schema = *DatumGetName(values[HANDLER_ATTR_SCHEMA - 1]);
	definition->function = *DatumGetName(values[HANDLER_ATTR_FUNCTION - 1]);
	definition->takes_array = DatumGetBool(values[HANDLER_ATTR_TAKES_ARRAY - 1]);
	definition->role = DatumGetObjectId(values[HANDLER_ATTR_ROLE - 1]);
	definition->role_name = *DatumGetName(values[HANDLER_ATTR_ROLE_NAME - 1]);
	definition->workers = DatumGetInt32(values[HANDLER_ATTR_WORKERS - 1]);
	definition->max_attempts = DatumGetInt32(values[HANDLER_ATTR_MAX_ATTEMPTS - 1]);
	definition->batch = DatumGetInt32(values[HANDLER_ATTR_BATCH - 1]);
	definition->backoff_ms = DatumGetInt32(values[HANDLER_ATTR_BACKOFF_MS - 1]);
	definition->defined_at =
		DatumGetTimestampTz(values[HANDLER_ATTR_DEFINED_AT - 1]);
	definition->owner = *DatumGetName(values[HANDLER_ATTR_OWNER - 1]);
}

static bool
scan_name(NewestScan *scan, const char *name)
{
	ScanKeyData key;
	NameData	wanted;

	namestrcpy(&wanted, name);
	ScanKeyInit(&key, HANDLER_ATTR_NAME, BTEqualStrategyNumber, F_NAMEEQ,
				NameGetDatum(&wanted));
	return newest_find(scan, &key);
}

bool
definitions_find(const char *name, HandlerDefinition *definition)
{
	NewestScan	scan;
	bool		found;

	newest_begin(&scan, SIDE_HANDLERS, AccessShareLock, ACCESS_LATEST, 1);
	found = scan_name(&scan, name);
	if (found)
		read_row(scan.slot, definition);
	newest_end(&scan);
	return found;
}

int
definitions_list(HandlerDefinition **definitions)
{
	SideAccess	access;
	IndexScanDesc scan;
	TupleTableSlot *slot;
	void	   *list = NULL;
	Size		size = 0;
	int			n = 0;

	side_access_begin(&access, SIDE_HANDLERS, AccessShareLock, ACCESS_LATEST);
	scan = compat_index_beginscan(access.rel, access.by_key, access.snapshot, 0);
	slot = table_slot_create(access.rel, NULL);
	index_rescan(scan, NULL, 0, NULL, 0);
	while (index_getnext_slot(scan, ForwardScanDirection, slot))
	{
		CHECK_FOR_INTERRUPTS();
		slot_getallattrs(slot);
		memory_grow(NULL, &list, &size, (Size) n + 1, sizeof(HandlerDefinition));
		read_row(slot, &((HandlerDefinition *) list)[n++]);
	}
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	side_access_end(&access);
	*definitions = list;
	return n;
}

static void
fill_in(TupleTableSlot *slot, const HandlerDefinition *definition)
{
	insert_put(slot, HANDLER_ATTR_NAME, NameGetDatum(&definition->name));
	insert_put(slot, HANDLER_ATTR_ID, Int64GetDatum((int64) definition->id));
	insert_put(slot, HANDLER_ATTR_DEFINITION, Int64GetDatum((int64) definition->definition));
	insert_put(slot, HANDLER_ATTR_SCHEMA, NameGetDatum(&definition->schema));
	insert_put(slot, HANDLER_ATTR_FUNCTION, NameGetDatum(&definition->function));
	insert_put(slot, HANDLER_ATTR_TAKES_ARRAY, BoolGetDatum(definition->takes_array));
	insert_put(slot, HANDLER_ATTR_ROLE, ObjectIdGetDatum(definition->role));
	insert_put(slot, HANDLER_ATTR_ROLE_NAME, NameGetDatum(&definition->role_name));
	insert_put(slot, HANDLER_ATTR_WORKERS, Int32GetDatum(definition->workers));
	insert_put(slot, HANDLER_ATTR_MAX_ATTEMPTS, Int32GetDatum(definition->max_attempts));
	insert_put(slot, HANDLER_ATTR_BATCH, Int32GetDatum(definition->batch));
	insert_put(slot, HANDLER_ATTR_BACKOFF_MS, Int32GetDatum(definition->backoff_ms));
	insert_put(slot, HANDLER_ATTR_DEFINED_AT, TimestampTzGetDatum(definition->defined_at));
	insert_put(slot, HANDLER_ATTR_OWNER, NameGetDatum(&definition->owner));
}

/* The table, open to be changed as its owner. */
typedef struct Changing
{
	LogIdentity self;
	NewestScan	scan;
	Insert		insert;
} Changing;

static void
change_begin(Changing *changing)
{
	const LogTable *table = log_table_require();

	/* one at a time: a row is looked for, then another one is there */
	log_lock_object_for_transaction(log_side_table(table, SIDE_HANDLERS), InvalidOid, 0,
									ExclusiveLock, true);
	changing->self = log_become_side_owner(table, SIDE_HANDLERS);
	newest_begin(&changing->scan, SIDE_HANDLERS, RowExclusiveLock, ACCESS_LATEST, 1);
	insert_begin(&changing->insert, RelationGetRelid(changing->scan.access.rel));
}

static void
change_end(Changing *changing)
{
	insert_end(&changing->insert);
	newest_end(&changing->scan);
	log_become_self(&changing->self);
}

/* False if there is none. */
static bool
remove_name(Changing *changing, const char *name)
{
	if (!scan_name(&changing->scan, name))
		return false;
	if (remove_row(&changing->insert, changing->scan.slot,
				   changing->scan.access.snapshot) != REMOVAL_DONE)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("the handler of group \"%s\" was changed by another transaction",
						name),
				 errhint("Run the transaction again.")));
	return true;
}

void
definitions_put(HandlerDefinition *definition)
{
	Changing	changing;

	if (!pg_strong_random(&definition->definition, sizeof(definition->definition)))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate random values")));
	definition->definition = (definition->definition & PG_INT64_MAX) | 1;
	definition->defined_at = GetCurrentTimestamp();
	change_begin(&changing);
	(void) remove_name(&changing, NameStr(definition->name));
	fill_in(changing.insert.slot, definition);
	if (!insert_row(&changing.insert))
		ereport(ERROR,
				(errcode(ERRCODE_TRIGGERED_ACTION_EXCEPTION),
				 errmsg("a trigger on %s keeps handlers out", HANDLERS_NAME)));
	change_end(&changing);
}

bool
definitions_remove(const char *name)
{
	Changing	changing;
	bool		removed;

	change_begin(&changing);
	removed = remove_name(&changing, name);
	change_end(&changing);
	return removed;
}
