/*
 * table.c
 *	  Where the extension's tables are in this database.
 */
#include "compat.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/pg_extension.h"
#include "commands/extension.h"
#include "log/direct.h"
#include "log/table.h"
#include "log/version.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

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

static Oid
find_table(const char *name, Oid schema)
{
	Oid			relid = get_relname_relid(name, schema);

	if (!OidIsValid(relid))
		shape_report_altered(name, "It was not found in the extension's schema.");
	return relid;
}

/*
 * Look everything up.  False: something of it went away meanwhile, and there is
 * news of what came in its place.
 */
static bool
look_up(LogTable *found)
{
	Relation	rel;
	bool		complete;

	found->extension = get_extension_oid(EXTENSION_NAME, true);
	if (!OidIsValid(found->extension))
		return true;
	check_version(found->extension, look_up_extension(found));
	found->log = find_table(LOG_NAME, found->schema);
	rel = try_relation_open(found->log, AccessShareLock);
	if (rel == NULL)
		return false;
	found->owner = rel->rd_rel->relowner;
	found->epoch_index = get_relname_relid(EPOCH_INDEX_NAME, found->schema);
	found->ack_index = get_relname_relid(ACK_INDEX_NAME, found->schema);
	complete = shape_check_log(rel, &found->log_pkey, found->epoch_index,
							   found->ack_index);
	found->bare = complete && direct_append(rel);
	relation_close(rel, AccessShareLock);
	return complete;
}

const LogTable *
log_table_find(void)
{
	static bool registered = false;
	LogTable	found;
	uint64		before;

	if (cached_valid)
		return &cached;
	if (!registered)
	{
		CacheRegisterRelcacheCallback(invalidate, (Datum) 0);
		registered = true;
	}

	do
	{
		CHECK_FOR_INTERRUPTS();
		before = invalidations;
	} while (!look_up(&found));
	if (!OidIsValid(found.extension))
		return NULL;

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

void
log_table_require_same(Oid log, const char *consumer)
{
	/* just that: a table that was altered is no other one */
	AcceptInvalidationMessages();
	if (SearchSysCacheExists1(RELOID, ObjectIdGetDatum(log)))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_IN_USE),
			 errmsg("the log that \"%s\" was subscribed to is no longer there",
					consumer),
			 errdetail("The extension was dropped, and created anew."),
			 errhint("Subscribe again.")));
}

Oid
log_side_table(const LogTable *table, SideTable side)
{
	return find_table(shape_side_name(side), table->schema);
}

Oid
log_schema(void)
{
	LogTable	found;

	found.extension = get_extension_oid(EXTENSION_NAME, true);
	if (!OidIsValid(found.extension))
		return InvalidOid;
	(void) look_up_extension(&found);
	return found.schema;
}

Oid
log_relation_oid(void)
{
	Oid			schema = log_schema();

	return OidIsValid(schema) ? get_relname_relid(LOG_NAME, schema) : InvalidOid;
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
