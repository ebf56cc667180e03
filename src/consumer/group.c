/*
 * group.c
 *	  A group as this session knows it.
 *
 * What a registration is about never changes, so what was made of it is kept under
 * its id, for as long as the log is the same: a restore brings ids back, with positions
 * from before.
 */
#include "compat.h"

#include "access/xact.h"
#include "consumer/group.h"
#include "log/definitions.h"
#include "log/hint.h"
#include "log/parked.h"
#include "log/starts.h"
#include "mb/pg_wchar.h"
#include "shared/wakeup.h"
#include "utils/memutils.h"
#include "wire/write_set.h"

/* So many are kept from one transaction to the next. */
#define GROUPS_KEPT 64

static FetchGroup *groups = NULL;
static int	ngroups = 0;

/* At the end of a transaction: not too many are kept, whoever has looked at them. */
static void
at_xact_event(XactEvent event, void *arg)
{
	if (ngroups <= GROUPS_KEPT ||
		(event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT &&
		 event != XACT_EVENT_PREPARE))
		return;
	while (groups != NULL)
	{
		FetchGroup    *group = groups;

		groups = group->link;
		MemoryContextDelete(group->context);
	}
	ngroups = 0;
}

static void
divide_vshards(FetchGroup *group, const Registration *registration)
{
	int			rank = 0;

	for (int i = 0; i < WIRE_VSHARDS; i++)
		group->partition_of[i] = -1;
	for (int i = 0; i < WIRE_VSHARDS; i++)
	{
		if (registration->vshards != NULL &&
			(rank == registration->nvshards || registration->vshards[rank] != i))
			continue;
		group->partition_of[i] = (int16) (rank++ % group->partitions);
		group->mask[i / 64] |= UINT64CONST(1) << (i % 64);
	}
}

static void
find_starts(FetchGroup *group)
{
	GroupKey   *keys;
	int			n = starts_list(group->id, &keys);

	if (n == 0)
		return;
	group->starts = palloc0(sizeof(GroupKey) * WIRE_VSHARDS);
	for (int i = 0; i < n; i++)
		group->starts[keys[i].vshard] = keys[i];
	pfree(keys);
}

static void
make_filter(GroupFilter *filter, const char *name)
{
	Size		len = strlen(name);

	filter->prefix = len > 0 && name[len - 1] == '%';
	if (filter->prefix)
		len--;
	filter->name = pg_server_to_any(name, (int) len, PG_UTF8);
	if (filter->name == name)
		filter->name = pnstrdup(name, len);
	else
		len = strlen(filter->name);
	filter->len = (uint32) len;
}

static FetchGroup *
make_group(const Registration *registration)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "calvin_seq group",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	FetchGroup    *group = palloc0(sizeof(FetchGroup));

	group->context = context;
	group->log = log_table_require()->log;
	group->id = registration->id;
	group->name = registration->name;
	group->partitions = registration->partitions;
	divide_vshards(group, registration);
	find_starts(group);
	if (registration->collections != NULL)
	{
		group->nfilters = registration->ncollections;
		group->filters = palloc(sizeof(GroupFilter) * Max(group->nfilters, 1));
		for (int i = 0; i < group->nfilters; i++)
			make_filter(&group->filters[i], registration->collections[i]);
	}
	group->known = palloc0(sizeof(GroupKey) * group->partitions);
	group->is_known = palloc0(sizeof(bool) * group->partitions);
	group->seen = palloc0(sizeof(uint64) * group->partitions);
	group->stored = palloc0(sizeof(GroupKey) * group->partitions);
	MemoryContextSwitchTo(old);
	/* unless there was an error on the way */
	MemoryContextSetParent(context, TopMemoryContext);
	return group;
}

FetchGroup *
group_open(const Registration *registration)
{
	static bool registered = false;
	Oid			log = log_table_require()->log;
	FetchGroup    *group;

	if (!registered)
		RegisterXactCallback(at_xact_event, NULL);
	registered = true;
	for (group = groups; group != NULL; group = group->link)
		if (group->id == registration->id && group->log == log)
			return group;
	group = make_group(registration);
	group->link = groups;
	groups = group;
	ngroups++;
	return group;
}

void
group_note_moved(uint64 id, int partition, const GroupKey *key)
{
	for (FetchGroup *group = groups; group != NULL; group = group->link)
	{
		/* one that is of a log before may have had fewer */
		if (group->id != id || partition >= group->partitions)
			continue;
		group->is_known[partition] = key != NULL;
		if (key != NULL)
			group->known[partition] = *key;
	}
}

/* Under which id a name was known last, 0 if it was not. */
static uint64
guess_id(const char *name)
{
	for (const FetchGroup *group = groups; group != NULL; group = group->link)
		if (strcmp(NameStr(group->name), name) == 0)
			return group->id;
	return 0;
}

static void
refuse_lost(const Registration *registration)
{
	if (registration->lost_before == 0)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("group \"%s\" is lost", NameStr(registration->name)),
			 errdetail("Something before epoch " UINT64_FORMAT ", which it had not processed, was truncated from the log.",
					   registration->lost_before),
			 errhint_for_role("What is missing cannot be had any more. Make the group anew with seq_drop_group() and seq_create_group().")));
}

void
group_forget(const Registration *registration)
{
	if (definitions_remove(NameStr(registration->name)))
		wakeup_defined_at_commit();
	group_positions_drop(registration->id, registration->partitions);
	parked_drop(registration->id);
	starts_drop(registration->id);
}

void
group_require_kept(const FetchGroup *group)
{
	Registration *registration = registry_find(NameStr(group->name));

	if (registration != NULL && registration->id == group->id)
		refuse_lost(registration);
}

FetchGroup *
group_require(const char *name)
{
	uint64		locked = guess_id(name);

	if (locked != 0)
		registry_lock(locked, RowExclusiveLock);
	for (;;)
	{
		Registration *registration = registry_require(name, REGISTRATION_GROUP);

		/* who had it locked may have ended it, and another one been made */
		if (registration->id == locked)
		{
			refuse_lost(registration);
			return group_open(registration);
		}
		locked = registration->id;
		registry_lock(locked, RowExclusiveLock);
	}
}

static bool
passes(const FetchGroup *group, WireSlice name)
{
	for (int i = 0; i < group->nfilters; i++)
	{
		const GroupFilter *filter = &group->filters[i];

		if ((filter->prefix ? name.len >= filter->len : name.len == filter->len) &&
			memcmp(name.data, filter->name, filter->len) == 0)
			return true;
	}
	return false;
}

bool
group_collection(const FetchGroup *group, WireSlice tx_class, uint16 vshard, WireSlice *name)
{
	WireWriteSet set;

	wire_write_set_begin(&set, tx_class);
	while (wire_write_set_next(&set, name))
		if (wire_vshard(name->data, name->len) == vshard &&
			(group->nfilters == 0 || passes(group, *name)))
			return true;
	return false;
}

bool
group_wants(const FetchGroup *group, const WireTxn *txn, uint16 vshard)
{
	WireSlice	name;

	return group->partition_of[vshard] >= 0 &&
		(group->nfilters == 0 ||
		 group_collection(group, txn->tx_class, vshard, &name));
}
