/*
 * shape.c
 *	  What the extension's script made: names, columns, indexes and triggers of
 *	  its tables.
 */
#include "compat.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/sysattr.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/pg_am_d.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_index.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type_d.h"
#include "commands/trigger.h"
#include "log/inbox.h"
#include "log/shape.h"
#include "shared/pause.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

typedef struct OwnColumn
{
	const char *name;
	Oid			type;
} OwnColumn;

static const OwnColumn log_columns[] = {
	{"log_index", INT8OID}, {"entry", BYTEAOID}, {"kind", TEXTOID},
	{"epoch", INT8OID}, {"appended_at", TIMESTAMPTZOID}
};

static const OwnColumn cursors_columns[] = {
	{"name", NAMEOID}, {"vshard", INT4OID}, {"epoch", INT8OID},
	{"position", INT8OID}, {"version", INT8OID},
	{"committed_at", TIMESTAMPTZOID}, {"incarnation", INT8OID},
	{"stored_by", INT8OID}
};

static const OwnColumn snapshots_columns[] = {
	{"log_index", INT8OID}, {"last_applied_epoch", INT8OID},
	{"digest", TEXTOID}, {"digest_version", INT4OID},
	{"taken_at", TIMESTAMPTZOID}, {"base", BOOLOID},
	{"entry_length", INT8OID}, {"entry_crc", INT8OID}, {"identity", UUIDOID}
};

static const OwnColumn identity_columns[] = {
	{"one", BOOLOID}, {"identity", UUIDOID}
};

static const OwnColumn landing_columns[] = {
	{"place", INT8OID}, {"submission", INT8OID}, {"log_end", INT8OID},
	{"tx_class", BYTEAOID}
};

static const OwnColumn registrations_columns[] = {
	{"name", NAMEOID}, {"id", INT8OID}, {"kind", TEXTOID}, {"owner", OIDOID},
	{"owner_name", NAMEOID}, {"vshards", INT4ARRAYOID}, {"partitions", INT4OID},
	{"collections", TEXTARRAYOID}, {"registered_at", TIMESTAMPTZOID},
	{"lost_before", INT8OID}
};

static const OwnColumn group_positions_columns[] = {
	{"id", INT8OID}, {"partition", INT4OID}, {"version", INT8OID},
	{"epoch", INT8OID}, {"position", INT8OID}, {"vshard", INT4OID},
	{"moved_at", TIMESTAMPTZOID}, {"delivered", INT8OID}, {"attempts", INT4OID},
	{"retried", INT8OID}, {"retry_at", TIMESTAMPTZOID}, {"error", TEXTOID}
};

static const OwnColumn parked_columns[] = {
	{"id", INT8OID}, {"epoch", INT8OID}, {"position", INT8OID}, {"vshard", INT4OID},
	{"epoch_system_ms", INT8OID}, {"tx_class", BYTEAOID}, {"reason", TEXTOID},
	{"attempts", INT4OID}, {"parked_at", TIMESTAMPTZOID}, {"settled", BOOLOID}
};

static const OwnColumn handlers_columns[] = {
	{"name", NAMEOID}, {"id", INT8OID}, {"definition", INT8OID},
	{"handler_schema", NAMEOID}, {"handler_name", NAMEOID}, {"takes_array", BOOLOID},
	{"role", OIDOID}, {"role_name", NAMEOID}, {"workers", INT4OID},
	{"max_attempts", INT4OID}, {"batch", INT4OID}, {"backoff_ms", INT4OID},
	{"defined_at", TIMESTAMPTZOID}, {"handler_owner", NAMEOID}
};

static const OwnColumn following_columns[] = {
	{"one", BOOLOID}, {"id", UUIDOID}, {"mode", TEXTOID}, {"source", TEXTOID},
	{"conninfo", TEXTOID}, {"since", TIMESTAMPTZOID}, {"first_base", INT8OID}
};

static const OwnColumn followers_columns[] = {
	{"id", UUIDOID}, {"name", TEXTOID}, {"log_index", INT8OID},
	{"seen_at", TIMESTAMPTZOID}, {"since", TIMESTAMPTZOID}
};

static const OwnColumn acks_columns[] = {
	{"epoch", INT8OID}, {"position", INT8OID}, {"vshard", INT4OID},
	{"stored_by", INT8OID}, {"stored_at", TIMESTAMPTZOID}
};

static const OwnColumn starts_columns[] = {
	{"id", INT8OID}, {"vshard", INT4OID}, {"epoch", INT8OID}, {"position", INT8OID}
};

static const OwnColumn moves_columns[] = {
	{"move", UUIDOID}, {"state", TEXTOID}, {"name", NAMEOID}, {"role_name", NAMEOID},
	{"vshards", INT4ARRAYOID}, {"handover", JSONBOID}, {"changed_at", TIMESTAMPTZOID}
};

static const OwnColumn inbox_columns[] = {
	{"stamp", INT8OID}, {"at", INT8OID}, {"link", INT8OID}, {"kind", CHAROID},
	{"data", BYTEAOID}
};

typedef struct OwnSideTable
{
	const char *name;
	const OwnColumn *columns;
	int			ncolumns;
	AttrNumber	key; /* first column of the primary key */
	int			nkeys;
} OwnSideTable;

static const OwnSideTable side_tables[SIDE_TABLES] = {
	[SIDE_CURSORS] = {CURSORS_NAME, cursors_columns,
	lengthof(cursors_columns), CURSOR_ATTR_NAME, 4},
	[SIDE_SNAPSHOTS] = {SNAPSHOTS_NAME, snapshots_columns,
	lengthof(snapshots_columns), SNAPSHOT_ATTR_INDEX, 1},
	[SIDE_IDENTITY] = {IDENTITY_NAME, identity_columns,
	lengthof(identity_columns), IDENTITY_ATTR_ONE, 1},
	[SIDE_LANDING] = {LANDING_NAME, landing_columns,
	lengthof(landing_columns), LANDING_ATTR_PLACE, 1},
	[SIDE_REGISTRATIONS] = {REGISTRATIONS_NAME, registrations_columns,
	lengthof(registrations_columns), REGISTRATION_ATTR_NAME, 1},
	[SIDE_GROUP_POSITIONS] = {GROUP_POSITIONS_NAME, group_positions_columns,
	lengthof(group_positions_columns), GROUP_ATTR_ID, 3},
	[SIDE_PARKED] = {PARKED_NAME, parked_columns,
	lengthof(parked_columns), PARKED_ATTR_ID, 4},
	[SIDE_HANDLERS] = {HANDLERS_NAME, handlers_columns,
	lengthof(handlers_columns), HANDLER_ATTR_NAME, 1},
	[SIDE_FOLLOWING] = {FOLLOWING_NAME, following_columns,
	lengthof(following_columns), FOLLOWING_ATTR_ONE, 1},
	[SIDE_FOLLOWERS] = {FOLLOWERS_NAME, followers_columns,
	lengthof(followers_columns), FOLLOWER_ATTR_ID, 1},
	[SIDE_ACKS] = {ACKS_NAME, acks_columns,
	lengthof(acks_columns), ACK_ATTR_EPOCH, 4},
	[SIDE_STARTS] = {STARTS_NAME, starts_columns,
	lengthof(starts_columns), START_ATTR_ID, 2},
	[SIDE_MOVES] = {MOVES_NAME, moves_columns,
	lengthof(moves_columns), MOVE_ATTR_MOVE, 1},
};

typedef struct OwnTrigger
{
	const char *table; /* NULL: each but the log */
	const char *name;
	const char *function;
} OwnTrigger;

static const OwnTrigger own_triggers[] = {
	{LOG_NAME, "seq_log_assign", "seq_log_before_insert"},
	{LOG_NAME, "seq_log_correct", "seq_log_after_insert"},
	{LOG_NAME, "seq_log_no_change", "seq_log_refuse_change"},
	{LOG_NAME, "seq_log_no_row_change", "seq_log_refuse_change"},
	{LOG_NAME, "seq_log_no_truncate", "seq_log_refuse_change"},
	{NULL, "seq_apply_passes_over", "seq_pass_over_replicated"},
	{NULL, "seq_no_truncate", "seq_refuse_truncate"},
	{CURSORS_NAME, "seq_cursor_positions_alone", "seq_cursor_positions_before_insert"},
	{SNAPSHOTS_NAME, "seq_snapshots_pass_over", "seq_snapshots_before_insert"},
	{IDENTITY_NAME, "seq_identity_restore", "seq_identity_before_change"},
	{IDENTITY_NAME, "seq_identity_no_change", "seq_identity_before_change"},
	{LANDING_NAME, "seq_inbox_restore", "seq_inbox_before_insert"},
	{FOLLOWING_NAME, "seq_following_restore", "seq_following_before_change"},
	{FOLLOWING_NAME, "seq_following_no_change", "seq_following_before_change"},
	{REGISTRATIONS_NAME, "seq_registrations_restore", "seq_registrations_before_insert"},
	{HANDLERS_NAME, "seq_handler_definitions_restore",
	"seq_handler_definitions_before_change"},
	{HANDLERS_NAME, "seq_handler_definitions_no_change",
	"seq_handler_definitions_before_change"},
	{HANDLERS_NAME, "seq_handler_definitions_role",
	"seq_handler_definitions_after_change"},
	{HANDLERS_NAME, "seq_handler_definitions_tell",
	"seq_handler_definitions_after_change"},
};

const char *
shape_side_name(SideTable side)
{
	return side_tables[side].name;
}

bool
shape_is_side_name(const char *name)
{
	for (int i = 0; i < SIDE_TABLES; i++)
		if (strcmp(name, side_tables[i].name) == 0)
			return true;
	return false;
}

void
shape_report_altered(const char *table, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("table %s is not as extension %s made it",
					table, EXTENSION_NAME),
			 errdetail("%s", detail),
			 errhint("Undo what was altered, or restore the log into a fresh database.")));
}

static void
check_columns(Relation rel, const OwnColumn *columns, int n)
{
	TupleDesc	desc = RelationGetDescr(rel);
	const char *name = RelationGetRelationName(rel);

	if (desc->natts < n)
		shape_report_altered(name, "Columns are missing.");
	for (int i = 0; i < n; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);

		if (attribute->attisdropped || attribute->atttypid != columns[i].type ||
			strcmp(NameStr(attribute->attname), columns[i].name) != 0)
			shape_report_altered(name, "A column was dropped or renamed, or has another type.");
	}
}

/* The primary key, or the index of a name, as it is now. */
static Oid
find_index(Relation table, const char *name)
{
	AcceptInvalidationMessages();
	return name == NULL ? compat_primary_key_index(table) :
		get_relname_relid(name, RelationGetNamespace(table));
}

/*
 * An index has to be a usable btree index of the table on n columns, of which
 * the first is the given one, ascending; with a predicate if it is to have one.
 * False if it is gone, or REINDEX CONCURRENTLY has put another one in its place
 * since it was looked up: it is not valid any more then.
 */
static bool
check_index(Relation table, Oid index, const char *name, AttrNumber column, int n,
			bool partial, const char *complaint)
{
	Relation	rel;
	bool		usable = false;

	if (OidIsValid(index))
	{
		PAUSE_POINT("shape: index looked up");
		rel = try_relation_open(index, AccessShareLock);
		if (rel == NULL)
			return false;
		usable = rel->rd_rel->relkind == RELKIND_INDEX &&
			rel->rd_index->indrelid == RelationGetRelid(table) &&
			rel->rd_rel->relam == BTREE_AM_OID &&
			rel->rd_index->indisvalid && rel->rd_index->indisready &&
			rel->rd_index->indnkeyatts == n &&
			rel->rd_index->indkey.values[0] == column &&
			rel->rd_indoption[0] == 0 &&
			(RelationGetIndexPredicate(rel) != NIL) == partial;
		relation_close(rel, AccessShareLock);
	}
	if (usable)
		return true;
	if (find_index(table, name) == index)
		shape_report_altered(RelationGetRelationName(table), complaint);
	return false;
}

/* The same of the primary key, whose OID it returns too. */
static bool
check_primary_key(Relation rel, AttrNumber first, int n, Oid *primary_key)
{
	*primary_key = compat_primary_key_index(rel);
	return check_index(rel, *primary_key, NULL, first, n, false,
					   "Its primary key is missing.");
}

bool
shape_check_log(Relation rel, Oid *primary_key, Oid epoch_index, Oid ack_index)
{
	check_columns(rel, log_columns, lengthof(log_columns));
	return check_primary_key(rel, LOG_ATTR_INDEX, 1, primary_key) &&
		check_index(rel, epoch_index, EPOCH_INDEX_NAME, LOG_ATTR_EPOCH, 1, true,
					"Its index " EPOCH_INDEX_NAME " is missing.") &&
		check_index(rel, ack_index, ACK_INDEX_NAME, LOG_ATTR_EPOCH, 2, true,
					"Its index " ACK_INDEX_NAME " is missing.");
}

void
shape_check_side_columns(Relation rel, SideTable side)
{
	check_columns(rel, side_tables[side].columns, side_tables[side].ncolumns);
}

bool
shape_check_side(Relation rel, SideTable side, Oid *primary_key)
{
	const OwnSideTable *own = &side_tables[side];

	shape_check_side_columns(rel, side);
	return check_primary_key(rel, own->key, own->nkeys, primary_key);
}

void
shape_inbox_name(uint32 partition, char *name)
{
	snprintf(name, NAMEDATALEN, LANDING_NAME "_%u", partition);
}

bool
shape_is_inbox_name(const char *name)
{
	const char *digits = name + strlen(LANDING_NAME "_");

	return strncmp(name, LANDING_NAME "_", strlen(LANDING_NAME "_")) == 0 &&
		strlen(digits) == 1 && digits[0] >= '0' &&
		digits[0] < '0' + INBOX_PARTITIONS;
}

void
shape_check_inbox(Relation rel)
{
	TupleDesc	desc = RelationGetDescr(rel);

	check_columns(rel, inbox_columns, lengthof(inbox_columns));
	if (rel->rd_rel->relkind != RELKIND_MATVIEW || RelationIsPopulated(rel) ||
		rel->rd_rel->relam != HEAP_TABLE_AM_OID ||
		rel->rd_rel->relpersistence != RELPERSISTENCE_PERMANENT ||
		desc->natts != lengthof(inbox_columns) ||
		TupleDescAttr(desc, INBOX_ATTR_DATA - 1)->attstorage != TYPSTORAGE_PLAIN)
		shape_report_altered(RelationGetRelationName(rel),
							 "It is another kind of relation, or stored in another way.");
}

static bool
is_of_table(const OwnTrigger *own, Relation rel)
{
	const char *name = RelationGetRelationName(rel);

	return own->table == NULL ? strcmp(name, LOG_NAME) != 0 : strcmp(name, own->table) == 0;
}

int
shape_own_triggers(Relation rel)
{
	int			n = 0;

	for (size_t i = 0; i < lengthof(own_triggers); i++)
		n += is_of_table(&own_triggers[i], rel);
	return n;
}

/* Does a trigger of ours call what the script had it call, and always? */
static bool
calls_own_function(const OwnTrigger *own, const Trigger *trigger, Oid schema)
{
	HeapTuple	tuple;
	Form_pg_proc function;
	bool		calls;

	if (trigger->tgenabled != TRIGGER_FIRES_ALWAYS)
		return false;
	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(trigger->tgfoid));
	if (!HeapTupleIsValid(tuple))
		return false;
	function = (Form_pg_proc) GETSTRUCT(tuple);
	calls = strcmp(NameStr(function->proname), own->function) == 0 &&
		function->pronamespace == schema;
	ReleaseSysCache(tuple);
	return calls;
}

bool
shape_is_own_trigger(Relation rel, const Trigger *trigger)
{
	for (size_t i = 0; i < lengthof(own_triggers); i++)
		if (strcmp(trigger->tgname, own_triggers[i].name) == 0 &&
			is_of_table(&own_triggers[i], rel))
			return calls_own_function(&own_triggers[i], trigger,
									  RelationGetNamespace(rel));
	return false;
}

/* What is known of a table's columns; NULL of other relations. */
static const OwnColumn *
find_columns(Oid relid, int *n)
{
	const char *name = get_rel_name(relid);

	if (name != NULL && strcmp(name, LOG_NAME) == 0)
	{
		*n = lengthof(log_columns);
		return log_columns;
	}
	for (int i = 0; name != NULL && i < SIDE_TABLES; i++)
		if (strcmp(name, side_tables[i].name) == 0)
		{
			*n = side_tables[i].ncolumns;
			return side_tables[i].columns;
		}
	return NULL;
}

int
shape_own_columns(Oid relid)
{
	int			n;

	return find_columns(relid, &n) != NULL ? n : MaxHeapAttributeNumber;
}

bool
shape_takes_columns(Oid relid)
{
	const char *name = get_rel_name(relid);

	return strcmp(name, LOG_NAME) == 0 || strcmp(name, CURSORS_NAME) == 0 ||
		strcmp(name, SNAPSHOTS_NAME) == 0;
}

bool
shape_columns_intact(Oid relid)
{
	int			n = 0;
	const OwnColumn *columns = find_columns(relid, &n);

	if (columns == NULL)
		return true;
	for (int i = 0; i < n; i++)
	{
		AttrNumber	number = (AttrNumber) (i + 1);
		char	   *name = get_attname(relid, number, true);

		if (name == NULL || strcmp(name, columns[i].name) != 0 ||
			get_atttype(relid, number) != columns[i].type)
			return false;
	}
	return true;
}

bool
shape_is_index_name(const char *name)
{
	static const char *const indexes[] = {
		EPOCH_INDEX_NAME, ACK_INDEX_NAME, "seq_cursor_positions_first_idx",
		"seq_snapshots_base_idx", "seq_registrations_id_key"
	};

	for (size_t i = 0; name != NULL && i < lengthof(indexes); i++)
		if (strcmp(name, indexes[i]) == 0)
			return true;
	return false;
}
