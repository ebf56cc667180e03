/*
 * table.c
 *	  Where the extension's tables are in this database.
 */
#include "compat.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_am_d.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_type_d.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "log/cursors.h"
#include "log/snapshots.h"
#include "log/table.h"
#include "log/version.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#define EXTENSION_NAME "calvin_seq"
#define LOG_NAME "seq_log"
#define CURSORS_NAME "seq_cursor_positions"
#define SNAPSHOTS_NAME "seq_snapshots"
#define EPOCH_INDEX_NAME "seq_log_epoch_idx"
#define ACK_INDEX_NAME "seq_log_ack_idx"

/* What the extension script gives seq_log. */
#define OWN_INDEXES 3
#define OWN_TRIGGERS 5

/* As the server itself has it for maintenance commands, since 17. */
#define SAFE_SEARCH_PATH "pg_catalog, pg_temp"

static LogTable cached;
static bool cached_valid = false;

/* Counts invalidations, so that one that comes while we look is not lost. */
static uint64 invalidations = 0;

static void
invalidate(Datum arg, Oid relid)
{
	invalidations++;
	if (!OidIsValid(relid) || relid == cached.log ||
		relid == cached.log_pkey || relid == cached.epoch_index ||
		relid == cached.ack_index)
		cached_valid = false;
}

/* Where, in which version, and whether only just, an extension was installed. */
static char *
look_up_extension(LogTable *found)
{
	char	   *version = NULL;
	Relation	rel = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		isnull;

	found->schema = InvalidOid;
	found->created_here = false;
	ScanKeyInit(&key, Anum_pg_extension_oid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(found->extension));
	scan = systable_beginscan(rel, ExtensionOidIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		found->schema = ((Form_pg_extension) GETSTRUCT(tuple))->extnamespace;
		found->created_here =
			TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(tuple->t_data));
		version = TextDatumGetCString(heap_getattr(tuple,
												   Anum_pg_extension_extversion,
												   RelationGetDescr(rel), &isnull));
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return version;
}

/*
 * An error unless this library serves the version of the SQL objects.  Their
 * own script may be on the way from one to the other.
 */
static void
check_version(Oid extension, const char *version)
{
	static const char *const served[] = {
		CppAsString2(CALVIN_SEQ_VERSION), CppAsString2(CALVIN_SEQ_SERVES_TOO)
	};

	if (version == NULL ||
		(creating_extension && CurrentExtensionObject == extension))
		return;
	for (size_t i = 0; i < lengthof(served); i++)
		if (strcmp(version, served[i]) == 0)
			return;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("the library of extension %s does not serve its version in this database",
					EXTENSION_NAME),
			 errdetail("The library is of version %s, the extension in the database of version %s.",
					   CppAsString2(CALVIN_SEQ_VERSION), version),
			 errhint("If the library is newer, use ALTER EXTENSION %s UPDATE; if it is older, install the newer one and restart the server.",
					 EXTENSION_NAME)));
}

static void
report_altered(const char *name, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("table %s is not as extension %s made it",
					name, EXTENSION_NAME),
			 errdetail("%s", detail),
			 errhint("Undo what was altered, or restore the log into a fresh database.")));
}

typedef struct Column
{
	const char *name;
	Oid			type;
} Column;

static void
check_columns(Relation rel, const Column *columns, int n)
{
	TupleDesc	desc = RelationGetDescr(rel);
	const char *name = RelationGetRelationName(rel);

	if (desc->natts < n)
		report_altered(name, "Columns are missing.");
	for (int i = 0; i < n; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);

		if (attribute->attisdropped || attribute->atttypid != columns[i].type ||
			strcmp(NameStr(attribute->attname), columns[i].name) != 0)
			report_altered(name, "A column was dropped or renamed, or has another type.");
	}
}

/*
 * A usable btree index of the table on n columns, of which the first is the
 * given one, ascending; with a predicate if it is to have one.
 */
static bool
index_usable(Oid index, Oid table, AttrNumber column, int n, bool partial)
{
	Relation	rel;
	bool		usable;

	if (!OidIsValid(index) || get_rel_relkind(index) != RELKIND_INDEX)
		return false;
	rel = index_open(index, AccessShareLock);
	usable = rel->rd_index->indrelid == table &&
		rel->rd_rel->relam == BTREE_AM_OID &&
		rel->rd_index->indisvalid && rel->rd_index->indisready &&
		rel->rd_index->indnkeyatts == n &&
		rel->rd_index->indkey.values[0] == column &&
		rel->rd_indoption[0] == 0 &&
		(RelationGetIndexPredicate(rel) != NIL) == partial;
	index_close(rel, AccessShareLock);
	return usable;
}

/*
 * Check a table's columns, and its primary key of so many columns of which
 * the first is the given one; returns that index.
 */
static Oid
check_table(Relation rel, const Column *columns, int n, AttrNumber first,
			int nkeys)
{
	Oid			index;

	check_columns(rel, columns, n);
	index = compat_primary_key_index(rel);
	if (!index_usable(index, RelationGetRelid(rel), first, nkeys, false))
		report_altered(RelationGetRelationName(rel), "Its primary key is missing.");
	return index;
}

/* Are the triggers those of the extension script, all of them at work? */
static bool
has_own_triggers(Relation rel)
{
	static const char *const functions[] = {
		"seq_log_before_insert", "seq_log_after_insert", "seq_log_refuse_change"
	};
	const TriggerDesc *triggers = rel->trigdesc;

	if (triggers == NULL || triggers->numtriggers != OWN_TRIGGERS)
		return false;
	for (int i = 0; i < OWN_TRIGGERS; i++)
	{
		const Trigger *trigger = &triggers->triggers[i];
		const char *function = get_func_name(trigger->tgfoid);
		bool		own = false;

		for (size_t j = 0; function != NULL && j < lengthof(functions); j++)
			own |= strcmp(function, functions[j]) == 0;
		if (!own || trigger->tgenabled != TRIGGER_FIRES_ALWAYS ||
			get_func_namespace(trigger->tgfoid) != RelationGetNamespace(rel))
			return false;
	}
	return true;
}

/* Does a row that is inserted meet nothing but what the extension made? */
static bool
is_bare(Relation rel)
{
	const TupleConstr *constraints = RelationGetDescr(rel)->constr;
	List	   *indexes = RelationGetIndexList(rel);
	bool		bare = list_length(indexes) == OWN_INDEXES &&
		has_own_triggers(rel) &&
		(constraints == NULL || (constraints->num_check == 0 &&
								 !constraints->has_generated_stored));

	list_free(indexes);
	return bare;
}

static Oid
find_table(const char *name, Oid schema)
{
	Oid			relid = get_relname_relid(name, schema);

	if (!OidIsValid(relid))
		report_altered(name, "It was not found in the extension's schema.");
	return relid;
}

const LogTable *
log_table_find(void)
{
	static bool registered = false;
	static const Column log_columns[] = {
		{"log_index", INT8OID}, {"entry", BYTEAOID}, {"kind", TEXTOID},
		{"epoch", INT8OID}, {"appended_at", TIMESTAMPTZOID}
	};
	LogTable	found;
	Relation	rel;
	uint64		before;

	if (cached_valid)
		return &cached;
	if (!registered)
	{
		CacheRegisterRelcacheCallback(invalidate, (Datum) 0);
		registered = true;
	}

	before = invalidations;
	found.extension = get_extension_oid(EXTENSION_NAME, true);
	if (!OidIsValid(found.extension))
		return NULL;
	check_version(found.extension, look_up_extension(&found));
	found.log = find_table(LOG_NAME, found.schema);
	rel = table_open(found.log, AccessShareLock);
	found.owner = rel->rd_rel->relowner;
	found.log_pkey = check_table(rel, log_columns, lengthof(log_columns),
								 LOG_ATTR_INDEX, 1);
	found.epoch_index = get_relname_relid(EPOCH_INDEX_NAME, found.schema);
	if (!index_usable(found.epoch_index, found.log, LOG_ATTR_EPOCH, 1, true))
		report_altered(LOG_NAME, "Its index " EPOCH_INDEX_NAME " is missing.");
	found.ack_index = get_relname_relid(ACK_INDEX_NAME, found.schema);
	if (!index_usable(found.ack_index, found.log, LOG_ATTR_EPOCH, 2, true))
		report_altered(LOG_NAME, "Its index " ACK_INDEX_NAME " is missing.");
	found.bare = is_bare(rel);
	table_close(rel, AccessShareLock);

	cached = found;
	/* when its transaction ends, created_here does too */
	cached_valid = !found.created_here && invalidations == before;
	return &cached;
}

const LogTable *
log_table_require(void)
{
	const LogTable *table = log_table_find();

	if (table == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("extension %s is not installed in this database",
						EXTENSION_NAME),
				 errhint("Use CREATE EXTENSION %s.", EXTENSION_NAME)));
	return table;
}

static Oid
owner_of(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation with OID %u does not exist", relid)));
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

Oid
log_side_table(const LogTable *table, SideTable side)
{
	return find_table(side == SIDE_CURSORS ? CURSORS_NAME : SNAPSHOTS_NAME,
					  table->schema);
}

Relation
log_open_side_table(const LogTable *table, SideTable side, LOCKMODE mode,
					Oid *primary_key)
{
	static const Column cursors_columns[] = {
		{"name", NAMEOID}, {"vshard", INT4OID}, {"epoch", INT8OID},
		{"position", INT8OID}, {"version", INT8OID},
		{"committed_at", TIMESTAMPTZOID}, {"incarnation", INT8OID}
	};
	static const Column snapshots_columns[] = {
		{"log_index", INT8OID}, {"last_applied_epoch", INT8OID},
		{"digest", TEXTOID}, {"digest_version", INT4OID},
		{"taken_at", TIMESTAMPTZOID}, {"base", BOOLOID}
	};
	Relation	rel = table_open(log_side_table(table, side), mode);

	if (side == SIDE_CURSORS)
		*primary_key = check_table(rel, cursors_columns,
								   lengthof(cursors_columns),
								   CURSOR_ATTR_NAME, 4);
	else
		*primary_key = check_table(rel, snapshots_columns,
								   lengthof(snapshots_columns),
								   SNAPSHOT_ATTR_INDEX, 1);
	return rel;
}

Oid
log_relation_oid(void)
{
	LogTable	found;

	found.extension = get_extension_oid(EXTENSION_NAME, true);
	if (!OidIsValid(found.extension))
		return InvalidOid;
	(void) look_up_extension(&found);
	if (!OidIsValid(get_relname_relid(EPOCH_INDEX_NAME, found.schema)) ||
		!OidIsValid(get_relname_relid(ACK_INDEX_NAME, found.schema)))
		report_altered(LOG_NAME, "An index of it is missing.");
	return find_table(LOG_NAME, found.schema);
}

bool
log_extension_exists(void)
{
	return OidIsValid(get_extension_oid(EXTENSION_NAME, true));
}

void
log_table_forget(void)
{
	cached_valid = false;
}

char *
log_table_name(const LogTable *table)
{
	return quote_qualified_identifier(get_namespace_name(table->schema), LOG_NAME);
}

char *
log_cursors_name(const LogTable *table)
{
	return quote_qualified_identifier(get_namespace_name(table->schema),
									  CURSORS_NAME);
}

static LogIdentity
become(Oid user, int flags, bool safe_path)
{
	LogIdentity self;

	GetUserIdAndSecContext(&self.user, &self.context);
	SetUserIdAndSecContext(user,
						   self.context | SECURITY_LOCAL_USERID_CHANGE |
						   SECURITY_NOFORCE_RLS | flags);
	self.settings = 0;
	if (safe_path)
	{
		self.settings = NewGUCNestLevel();
		(void) set_config_option("search_path", SAFE_SEARCH_PATH, PGC_USERSET,
								 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	}
	return self;
}

LogIdentity
log_become_owner(const LogTable *table, bool restricted)
{
	return become(table->owner,
				  restricted ? SECURITY_RESTRICTED_OPERATION : 0, !restricted);
}

LogIdentity
log_become_side_owner(const LogTable *table, SideTable side, bool restricted)
{
	return become(owner_of(log_side_table(table, side)),
				  restricted ? SECURITY_RESTRICTED_OPERATION : 0, !restricted);
}

LogIdentity
log_become_owner_to_append(const LogTable *table)
{
	return become(table->owner, 0, !table->bare);
}

void
log_become_self(const LogIdentity *identity)
{
	if (identity->settings != 0)
		AtEOXact_GUC(false, identity->settings);
	SetUserIdAndSecContext(identity->user, identity->context);
}
