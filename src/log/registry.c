/*
 * registry.c
 *	  Consumers by name, and whose they are: the table seq_registrations.
 *
 * What a registration is about never changes: whoever wants another one takes it
 * away and registers anew, under another id.  So whatever is known of an id holds.
 * Only that it has lost something is noted later.
 */
#include "compat.h"

#include "access/genam.h"
#include "access/stratnum.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_type_d.h"
#include "common/hashfn.h"
#include "executor/executor.h"
#include "log/access.h"
#include "log/hint.h"
#include "log/insert.h"
#include "log/locks.h"
#include "log/memory.h"
#include "log/newest.h"
#include "log/owner.h"
#include "log/registry.h"
#include "log/remove.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/timestamp.h"

/* Sub-object numbers of an id: its partitions from 0 on, and all of it. */
#define REGISTRATION_LOCK 0xffff

/* And of what is made of a name. */
#define NAME_LOCK 0xfffe

static uint16 *
read_vshards(Datum datum, int *n)
{
	Datum	   *elements;
	uint16	   *vshards;

	deconstruct_array(DatumGetArrayTypeP(datum), INT4OID, sizeof(int32), true,
					  TYPALIGN_INT, &elements, NULL, n);
	vshards = palloc(sizeof(uint16) * Max(*n, 1));
	for (int i = 0; i < *n; i++)
		vshards[i] = (uint16) DatumGetInt32(elements[i]);
	return vshards;
}

static char **
read_collections(Datum datum, int *n)
{
	Datum	   *elements;
	char	  **collections;

	deconstruct_array(DatumGetArrayTypeP(datum), TEXTOID, -1, false, TYPALIGN_INT,
					  &elements, NULL, n);
	collections = palloc(sizeof(char *) * Max(*n, 1));
	for (int i = 0; i < *n; i++)
		collections[i] = TextDatumGetCString(elements[i]);
	return collections;
}

static Registration *
read_row(const TupleTableSlot *slot)
{
	Registration *registration = palloc0(sizeof(Registration));
	const Datum *values = slot->tts_values;
	const bool *nulls = slot->tts_isnull;
	char	   *kind = TextDatumGetCString(values[REGISTRATION_ATTR_KIND - 1]);

	registration->name = *DatumGetName(values[REGISTRATION_ATTR_NAME - 1]);
	registration->id = (uint64) DatumGetInt64(values[REGISTRATION_ATTR_ID - 1]);
	registration->kind = strcmp(kind, REGISTRATION_KIND_GROUP) == 0 ?
		REGISTRATION_GROUP : REGISTRATION_STREAM;
	registration->owner = DatumGetObjectId(values[REGISTRATION_ATTR_OWNER - 1]);
	if (!nulls[REGISTRATION_ATTR_VSHARDS - 1])
		registration->vshards = read_vshards(values[REGISTRATION_ATTR_VSHARDS - 1],
											 &registration->nvshards);
	if (!nulls[REGISTRATION_ATTR_PARTITIONS - 1])
		registration->partitions =
			DatumGetInt32(values[REGISTRATION_ATTR_PARTITIONS - 1]);
	if (!nulls[REGISTRATION_ATTR_COLLECTIONS - 1])
		registration->collections =
			read_collections(values[REGISTRATION_ATTR_COLLECTIONS - 1],
							 &registration->ncollections);
	registration->registered_at =
		DatumGetTimestampTz(values[REGISTRATION_ATTR_REGISTERED_AT - 1]);
	if (!nulls[REGISTRATION_ATTR_LOST_BEFORE - 1])
		registration->lost_before =
			(uint64) DatumGetInt64(values[REGISTRATION_ATTR_LOST_BEFORE - 1]);
	pfree(kind);
	return registration;
}

static bool
scan_name(NewestScan *scan, const char *name)
{
	ScanKeyData key;
	NameData	wanted;

	namestrcpy(&wanted, name);
	ScanKeyInit(&key, REGISTRATION_ATTR_NAME, BTEqualStrategyNumber, F_NAMEEQ,
				NameGetDatum(&wanted));
	return newest_find(scan, &key);
}

Registration *
registry_find(const char *name)
{
	NewestScan	scan;
	Registration *registration = NULL;

	newest_begin(&scan, SIDE_REGISTRATIONS, AccessShareLock, ACCESS_LATEST, 1);
	if (scan_name(&scan, name))
		registration = read_row(scan.slot);
	newest_end(&scan);
	return registration;
}

int
registry_list(Registration ***registrations)
{
	SideAccess	access;
	IndexScanDesc scan;
	TupleTableSlot *slot;
	void	   *list = NULL;
	Size		size = 0;
	int			n = 0;

	side_access_begin(&access, SIDE_REGISTRATIONS, AccessShareLock, ACCESS_LATEST);
	scan = compat_index_beginscan(access.rel, access.by_key, access.snapshot, 0);
	slot = table_slot_create(access.rel, NULL);
	index_rescan(scan, NULL, 0, NULL, 0);
	while (index_getnext_slot(scan, ForwardScanDirection, slot))
	{
		CHECK_FOR_INTERRUPTS();
		slot_getallattrs(slot);
		memory_grow(NULL, &list, &size, (Size) n + 1, sizeof(Registration *));
		((Registration **) list)[n++] = read_row(slot);
	}
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	side_access_end(&access);
	*registrations = list;
	return n;
}

void
registry_require_owner(const Registration *registration)
{
	const char *owner;

	if (has_privs_of_role(GetUserId(), registration->owner))
		return;
	owner = GetUserNameFromId(registration->owner, true);
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied for consumer \"%s\"",
					NameStr(registration->name)),
			 owner != NULL ? errdetail("It belongs to the role \"%s\".", owner) :
			 errdetail("It belongs to the role that registered it, which was dropped."),
			 owner != NULL ?
			 errhint("Use another name, or become a member of that role.") :
			 errhint("Use another name. A superuser can end this one.")));
}

void
registry_require_kind(const Registration *registration, RegistrationKind kind)
{
	const char *name = NameStr(registration->name);
	bool		group = kind == REGISTRATION_GROUP;

	if (registration->kind == kind)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_WRONG_OBJECT_TYPE),
			 group ? errmsg("\"%s\" is a consumer, not a group", name) :
			 errmsg("\"%s\" is a group, not a consumer", name),
			 group ? errhint_for_role("Consumers receive with seq_receive().") :
			 errhint_for_role("Groups fetch with seq_fetch().")));
}

Registration *
registry_require(const char *name, RegistrationKind kind)
{
	Registration *registration = registry_find(name);
	bool		group = kind == REGISTRATION_GROUP;

	if (registration == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 group ? errmsg("there is no group \"%s\"", name) :
				 errmsg("consumer \"%s\" is not registered", name),
				 group ? errhint_for_role("Make it with seq_create_group().") :
				 errhint_for_role("Register it with seq_register().")));
	registry_require_kind(registration, kind);
	registry_require_owner(registration);
	return registration;
}

/* Not 0 and not that of another one, also as a lock's number. */
static bool
id_is_free(uint64 id, int n, Registration *const *registrations)
{
	if ((uint32) id == 0)
		return false;
	for (int i = 0; i < n; i++)
		if ((uint32) registrations[i]->id == (uint32) id)
			return false;
	return true;
}

static uint64
make_id(void)
{
	Registration **registrations;
	int			n = registry_list(&registrations);
	uint64		id;

	do
	{
		if (!pg_strong_random(&id, sizeof(id)))
			ereport(ERROR,
					(errcode(ERRCODE_INTERNAL_ERROR),
					 errmsg("could not generate random values")));
		id &= PG_INT64_MAX;
	} while (!id_is_free(id, n, registrations));
	return id;
}

static void
fill_in(TupleTableSlot *slot, const Registration *registration)
{
	insert_put(slot, REGISTRATION_ATTR_NAME, NameGetDatum(&registration->name));
	insert_put(slot, REGISTRATION_ATTR_ID, Int64GetDatum((int64) registration->id));
	insert_put(slot, REGISTRATION_ATTR_KIND,
		CStringGetTextDatum(registration->kind == REGISTRATION_GROUP ?
							REGISTRATION_KIND_GROUP : REGISTRATION_KIND_STREAM));
	insert_put(slot, REGISTRATION_ATTR_OWNER, ObjectIdGetDatum(registration->owner));
	if (registration->vshards != NULL)
	{
		Datum	   *elements = palloc(sizeof(Datum) * registration->nvshards);

		for (int i = 0; i < registration->nvshards; i++)
			elements[i] = Int32GetDatum(registration->vshards[i]);
		insert_put(slot, REGISTRATION_ATTR_VSHARDS,
			PointerGetDatum(construct_array(elements, registration->nvshards, INT4OID,
											sizeof(int32), true, TYPALIGN_INT)));
	}
	if (registration->partitions > 0)
		insert_put(slot, REGISTRATION_ATTR_PARTITIONS,
			Int32GetDatum(registration->partitions));
	if (registration->collections != NULL)
	{
		Datum	   *elements = palloc(sizeof(Datum) * registration->ncollections);

		for (int i = 0; i < registration->ncollections; i++)
			elements[i] = CStringGetTextDatum(registration->collections[i]);
		insert_put(slot, REGISTRATION_ATTR_COLLECTIONS,
			PointerGetDatum(construct_array(elements, registration->ncollections,
											TEXTOID, -1, false, TYPALIGN_INT)));
	}
	insert_put(slot, REGISTRATION_ATTR_REGISTERED_AT,
		TimestampTzGetDatum(registration->registered_at));
	if (registration->lost_before != 0)
		insert_put(slot, REGISTRATION_ATTR_LOST_BEFORE,
			Int64GetDatum((int64) registration->lost_before));
}

static void
insert(const Registration *registration, Oid relid)
{
	Insert		insert;

	insert_begin(&insert, relid);
	fill_in(insert.slot, registration);
	if (!insert_row(&insert))
		ereport(ERROR,
				(errcode(ERRCODE_TRIGGERED_ACTION_EXCEPTION),
				 errmsg("a trigger on %s has kept \"%s\" out", REGISTRATIONS_NAME,
						NameStr(registration->name))));
	insert_end(&insert);
}

void
registry_add(Registration *registration)
{
	const LogTable *table = log_table_require();
	Oid			relid = log_side_table(table, SIDE_REGISTRATIONS);
	LogIdentity self;

	/* one at a time: the name is looked for, then the row is there */
	(void) log_lock_object_for_transaction(relid, InvalidOid, REGISTRATION_LOCK,
										   ExclusiveLock, true);
	if (registry_find(NameStr(registration->name)) != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("\"%s\" is registered already", NameStr(registration->name)),
				 errhint_for_role("Use another name, or end that one with seq_unregister() or seq_drop_group().")));
	registration->id = make_id();
	registration->registered_at = GetCurrentTimestamp();
	self = log_become_side_owner(table, SIDE_REGISTRATIONS);
	insert(registration, relid);
	log_become_self(&self);
}

bool
registry_remove(const Registration *registration)
{
	LogIdentity self = log_become_side_owner(log_table_require(), SIDE_REGISTRATIONS);
	NewestScan	scan;
	Insert		insert;
	bool		removed = false;

	newest_begin(&scan, SIDE_REGISTRATIONS, RowExclusiveLock, ACCESS_LATEST, 1);
	insert_begin(&insert, RelationGetRelid(scan.access.rel));
	if (scan_name(&scan, NameStr(registration->name)) &&
		DatumGetInt64(scan.slot->tts_values[REGISTRATION_ATTR_ID - 1]) ==
		(int64) registration->id)
		removed = remove_row(&insert, scan.slot, scan.access.snapshot) == REMOVAL_DONE;
	insert_end(&insert);
	newest_end(&scan);
	log_become_self(&self);
	return removed;
}

bool
registry_mark_lost(const Registration *registration, uint64 before)
{
	const LogTable *table = log_table_require();
	Registration lost = *registration;
	LogIdentity self;

	if (!registry_remove(registration))
		return false;
	lost.lost_before = Max(lost.lost_before, before);
	self = log_become_side_owner(table, SIDE_REGISTRATIONS);
	insert(&lost, log_side_table(table, SIDE_REGISTRATIONS));
	log_become_self(&self);
	return true;
}

void
registry_lock_name(const char *name, LOCKMODE mode)
{
	Oid			relid = log_side_table(log_table_require(), SIDE_REGISTRATIONS);
	uint32		hash = hash_bytes((const unsigned char *) name, (int) strlen(name));

	(void) log_lock_object_for_transaction(relid, (Oid) hash, NAME_LOCK, mode, true);
}

void
registry_lock(uint64 id, LOCKMODE mode)
{
	Oid			relid = log_side_table(log_table_require(), SIDE_REGISTRATIONS);

	(void) log_lock_object_for_transaction(relid, (Oid) id, REGISTRATION_LOCK, mode,
										   true);
}

bool
registry_lock_partition(uint64 id, int partition, bool wait)
{
	Oid			relid = log_side_table(log_table_require(), SIDE_REGISTRATIONS);

	return log_lock_object_for_transaction(relid, (Oid) id, (uint16) partition,
										   ExclusiveLock, wait);
}

void
registry_hold_partition(uint64 id, int partition)
{
	Oid			relid = log_side_table(log_table_require(), SIDE_REGISTRATIONS);

	log_hold_object(relid, (Oid) id, (uint16) partition);
}

void
registry_end_hold(void)
{
	log_release_held_object();
}

void
registry_unlock_partition(uint64 id, int partition)
{
	Oid			relid = log_side_table(log_table_require(), SIDE_REGISTRATIONS);

	log_unlock_object(relid, (Oid) id, (uint16) partition, ExclusiveLock);
}

bool
registry_partition_is_locked(uint64 id, int partition)
{
	Oid			relid = log_side_table(log_table_require(), SIDE_REGISTRATIONS);

	return log_object_is_locked(relid, (Oid) id, (uint16) partition, ExclusiveLock);
}

static int
compare_pids(const void *a, const void *b)
{
	return (*(const int *) a > *(const int *) b) - (*(const int *) a < *(const int *) b);
}

int
registry_users(uint64 id, int **pids)
{
	Oid			relid = log_side_table(log_table_require(), SIDE_REGISTRATIONS);
	LockData   *data = GetLockStatusData();
	int			n = 0;

	*pids = palloc(sizeof(int) * Max(data->nelements, 1));
	for (int i = 0; i < data->nelements; i++)
	{
		const LockInstanceData *lock = &data->locks[i];

		if (lock->locktag.locktag_type == LOCKTAG_OBJECT &&
			lock->locktag.locktag_field1 == MyDatabaseId &&
			lock->locktag.locktag_field2 == relid &&
			lock->locktag.locktag_field3 == (Oid) id &&
			lock->locktag.locktag_field4 == REGISTRATION_LOCK &&
			(lock->holdMask & LOCKBIT_ON(RowExclusiveLock)) != 0)
			(*pids)[n++] = lock->pid;
	}
	pfree(data->locks);
	pfree(data);
	qsort(*pids, n, sizeof(int), compare_pids);
	return n;
}
