/*
 * members.c
 *	  What belongs to the extension, by the catalogs.
 */
#include "compat.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/index.h"
#include "catalog/indexing.h"
#include "catalog/objectaddress.h"
#include "catalog/pg_attrdef.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_index.h"
#include "catalog/pg_policy.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_rewrite.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "log/members.h"
#include "log/shape.h"
#include "utils/acl.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

/* Catalogs whose rows are parts of a relation, and the columns that say so. */
static const struct
{
	Oid			catalog;
	AttrNumber	oid;
	AttrNumber	relation;
}			parts[] = {
	{TriggerRelationId, Anum_pg_trigger_oid, Anum_pg_trigger_tgrelid},
	{RewriteRelationId, Anum_pg_rewrite_oid, Anum_pg_rewrite_ev_class},
	{ConstraintRelationId, Anum_pg_constraint_oid, Anum_pg_constraint_conrelid},
	{PolicyRelationId, Anum_pg_policy_oid, Anum_pg_policy_polrelid},
	{AttrDefaultRelationId, Anum_pg_attrdef_oid, Anum_pg_attrdef_adrelid},
};

typedef struct Adoption
{
	Oid			extension;
	Oid			catalog;
	bool		upgraded; /* what is known, else what is new */
} Adoption;

bool
members_include(Oid extension, Oid class_id, Oid object_id)
{
	if (class_id == RelationRelationId &&
		get_rel_relkind(object_id) == RELKIND_COMPOSITE_TYPE)
	{
		class_id = TypeRelationId;
		object_id = get_rel_type_id(object_id);
	}
	return OidIsValid(object_id) &&
		getExtensionOfObject(class_id, object_id) == extension;
}

Oid
members_relation_of(Oid class_id, Oid object_id)
{
	Relation	rel;
	HeapTuple	tuple;
	bool		isnull;
	Oid			found = InvalidOid;

	if (class_id == RelationRelationId)
	{
		Oid			table = IndexGetRelation(object_id, true);

		return OidIsValid(table) ? table : object_id;
	}
	for (size_t i = 0; i < lengthof(parts); i++)
	{
		if (parts[i].catalog != class_id)
			continue;
		rel = table_open(class_id, AccessShareLock);
		tuple = get_catalog_object_by_oid(rel, parts[i].oid, object_id);
		if (HeapTupleIsValid(tuple))
			found = DatumGetObjectId(heap_getattr(tuple, parts[i].relation,
												  RelationGetDescr(rel), &isnull));
		table_close(rel, AccessShareLock);
	}
	return found;
}

bool
members_is_new(HeapTuple tuple)
{
	return TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(tuple->t_data));
}

void
members_visit(Oid catalog, Oid index, AttrNumber column, Oid oid,
			  MemberVisitor visit, void *arg)
{
	Relation	rel = table_open(catalog, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, column, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(oid));
	scan = systable_beginscan(rel, index, true, NULL, 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)) && visit(tuple, arg))
		;
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
}

static void
adopt(const Adoption *adoption, Oid object_id)
{
	ObjectAddress part;
	ObjectAddress extension;

	if (OidIsValid(getExtensionOfObject(adoption->catalog, object_id)))
		return;
	ObjectAddressSet(part, adoption->catalog, object_id);
	ObjectAddressSet(extension, ExtensionRelationId, adoption->extension);
	recordDependencyOn(&part, &extension, DEPENDENCY_EXTENSION);
	/* a command can touch it twice */
	CommandCounterIncrement();
}

static bool
adopt_index(HeapTuple tuple, void *arg)
{
	const Adoption *adoption = arg;
	Form_pg_index index = (Form_pg_index) GETSTRUCT(tuple);

	if (adoption->upgraded ?
		index->indisprimary || shape_is_index_name(get_rel_name(index->indexrelid)) :
		members_is_new(tuple))
		adopt(adoption, index->indexrelid);
	return true;
}

static bool
adopt_trigger(HeapTuple tuple, void *arg)
{
	const Adoption *adoption = arg;
	Form_pg_trigger trigger = (Form_pg_trigger) GETSTRUCT(tuple);

	if (!trigger->tgisinternal &&
		(adoption->upgraded ?
		 members_include(adoption->extension, ProcedureRelationId, trigger->tgfoid) :
		 members_is_new(tuple)))
		adopt(adoption, trigger->oid);
	return true;
}

static bool
adopt_constraint(HeapTuple tuple, void *arg)
{
	const Adoption *adoption = arg;
	Form_pg_constraint constraint = (Form_pg_constraint) GETSTRUCT(tuple);

	/* of a key that is, indexes being looked at before */
	if (adoption->upgraded ?
		(constraint->contype == CONSTRAINT_PRIMARY ||
		 constraint->contype == CONSTRAINT_UNIQUE) &&
		members_include(adoption->extension, RelationRelationId, constraint->conindid) :
		members_is_new(tuple))
		adopt(adoption, constraint->oid);
	return true;
}

/*
 * A column of a relation's row type in somebody's table would be in the way of DROP
 * EXTENSION, and of updates: nobody else is to use it.  A REVOKE in the script would be
 * noted in pg_init_privs, where pg_dump does not expect row types and warns of each.
 */
static void
close_row_type(Oid relid)
{
	Oid			type = get_rel_type_id(relid);
	Relation	rel;
	HeapTuple	tuple;
	HeapTuple	closed;
	Datum		values[Natts_pg_type] = {0};
	bool		nulls[Natts_pg_type] = {0};
	bool		replaces[Natts_pg_type] = {0};
	AclItem		everybody = {.ai_grantee = ACL_ID_PUBLIC};
	bool		isnull;
	Oid			owner;

	if (!OidIsValid(type))
		return;
	rel = table_open(TypeRelationId, RowExclusiveLock);
	tuple = SearchSysCacheCopy1(TYPEOID, ObjectIdGetDatum(type));
	(void) heap_getattr(tuple, Anum_pg_type_typacl, RelationGetDescr(rel), &isnull);
	if (isnull)
	{
		owner = ((Form_pg_type) GETSTRUCT(tuple))->typowner;
		everybody.ai_grantor = owner;
		ACLITEM_SET_PRIVS_GOPTIONS(everybody, ACL_USAGE, ACL_NO_RIGHTS);
		values[Anum_pg_type_typacl - 1] =
			PointerGetDatum(aclupdate(acldefault(OBJECT_TYPE, owner), &everybody,
									  ACL_MODECHG_DEL, owner, DROP_RESTRICT));
		replaces[Anum_pg_type_typacl - 1] = true;
		closed = heap_modify_tuple(tuple, RelationGetDescr(rel), values, nulls, replaces);
		CatalogTupleUpdate(rel, &closed->t_self, closed);
		CommandCounterIncrement();
	}
	table_close(rel, RowExclusiveLock);
}

static void
adopt_parts(Adoption *adoption, Oid relid)
{
	close_row_type(relid);
	adoption->catalog = RelationRelationId;
	members_visit(IndexRelationId, IndexIndrelidIndexId, Anum_pg_index_indrelid,
				  relid, adopt_index, adoption);
	adoption->catalog = TriggerRelationId;
	members_visit(TriggerRelationId, TriggerRelidNameIndexId,
				  Anum_pg_trigger_tgrelid, relid, adopt_trigger, adoption);
	adoption->catalog = ConstraintRelationId;
	members_visit(ConstraintRelationId, ConstraintRelidTypidNameIndexId,
				  Anum_pg_constraint_conrelid, relid, adopt_constraint, adoption);
}

void
members_adopt_new(Oid extension, Oid relid)
{
	Adoption	adoption = {.extension = extension};

	adopt_parts(&adoption, relid);
}

void
members_adopt_upgraded(Oid extension)
{
	Adoption	adoption = {.extension = extension, .upgraded = true};
	Relation	rel = table_open(DependRelationId, AccessShareLock);
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple	tuple;
	List	   *relations = NIL;
	ListCell   *lc;

	ScanKeyInit(&keys[0], Anum_pg_depend_refclassid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(ExtensionRelationId));
	ScanKeyInit(&keys[1], Anum_pg_depend_refobjid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(extension));
	scan = systable_beginscan(rel, DependReferenceIndexId, true, NULL, 2, keys);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_depend depend = (Form_pg_depend) GETSTRUCT(tuple);

		if (depend->classid == RelationRelationId &&
			depend->deptype == DEPENDENCY_EXTENSION)
			relations = lappend_oid(relations, depend->objid);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	foreach(lc, relations)
		adopt_parts(&adoption, lfirst_oid(lc));
}
