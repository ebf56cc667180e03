/*
 * moving.c
 *	  Giving a group other vshards than it has, each of which goes on where it stands.
 *
 * What is known of a registration's id never changes, in whichever session.  So the group
 * is registered anew, under another id: its vshards are dealt out anew, and each partition
 * begins where the first of its vshards stands.  What the others have processed from there
 * on is passed over by their starts.
 *
 * Nobody has a partition of the group meanwhile: the lock on the registration is held by
 * whoever fetches, from before he looks at it to the end of his transaction.  Nor is
 * anything truncated, which would mark the group as lost: the registration is read behind
 * both locks, and stays what it is.
 */
#include "compat.h"

#include "consumer/group.h"
#include "consumer/moving.h"
#include "consumer/taken.h"
#include "log/definitions.h"
#include "log/locks.h"
#include "log/parked.h"
#include "log/starts.h"
#include "shared/wakeup.h"

Registration *
moving_lock(const char *name)
{
	Registration *registration = registry_find(name);
	uint64		locked;

	while (registration != NULL)
	{
		registry_require_kind(registration, REGISTRATION_GROUP);
		registry_require_owner(registration);
		if (taken_any_of(registration->id))
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_IN_USE),
					 errmsg("this transaction has fetched for group \"%s\"", name),
					 errhint("Move vshards in a transaction of its own.")));
		locked = registration->id;
		registry_lock(locked, ExclusiveLock);
		/* behind it: who truncates is not to wait for those who fetch */
		log_lock_for_transaction(LOG_LOCK_TRUNCATION, ShareLock);
		registration = registry_find(name);
		/* who had it locked may have ended it, and another one been made */
		if (registration != NULL && registration->id == locked)
		{
			group_require_kept(group_open(registration));
			return registration;
		}
	}
	log_lock_for_transaction(LOG_LOCK_TRUNCATION, ShareLock);
	return NULL;
}

/* The first key of a vshard that is not in front of another key. */
static GroupKey
key_of_vshard(GroupKey next, uint16 vshard)
{
	if (vshard < next.vshard)
		next.position++;
	next.vshard = vshard;
	return next;
}

void
moving_read(const Registration *registration, GroupHolding *holding)
{
	FetchGroup *group = group_open(registration);
	GroupPosition *positions = palloc(sizeof(GroupPosition) * group->partitions);
	GroupStore	store;

	memset(holding, 0, sizeof(*holding));
	group_store_begin(&store, group->id, false);
	for (int i = 0; i < group->partitions; i++)
	{
		group_store_read(&store, i, &positions[i]);
		holding->delivered += positions[i].delivered;
		holding->retried += positions[i].retried;
	}
	group_store_end(&store);
	for (int v = 0; v < WIRE_VSHARDS; v++)
	{
		int			partition = group->partition_of[v];
		GroupKey	key;

		if (partition < 0)
			continue;
		key = key_of_vshard(positions[partition].next, (uint16) v);
		if (group_is_before_start(group, key))
			key = group->starts[v];
		holding->keys[holding->n++] = key;
	}
	pfree(positions);
}

void
moving_describe(Registration *registration, const GroupHolding *holding, int partitions)
{
	registration->partitions = Min(partitions, holding->n);
	registration->nvshards = 0;
	registration->vshards = NULL;
	if (holding->n == WIRE_VSHARDS)
		return;
	registration->nvshards = holding->n;
	registration->vshards = palloc(sizeof(uint16) * holding->n);
	for (int i = 0; i < holding->n; i++)
		registration->vshards[i] = holding->keys[i].vshard;
}

void
moving_begin(const Registration *registration, const GroupHolding *holding)
{
	int			partitions = registration->partitions;
	GroupPosition *positions = palloc0(sizeof(GroupPosition) * partitions);
	GroupKey   *starts = palloc(sizeof(GroupKey) * holding->n);
	int			n = 0;

	/* as they are dealt out by group.c */
	for (int i = 0; i < holding->n; i++)
	{
		GroupPosition *position = &positions[i % partitions];

		if (i < partitions || group_key_less(holding->keys[i], position->next))
			position->next = holding->keys[i];
	}
	for (int i = 0; i < holding->n; i++)
		if (group_key_less(key_of_vshard(positions[i % partitions].next,
										 holding->keys[i].vshard), holding->keys[i]))
			starts[n++] = holding->keys[i];
	positions[0].delivered = holding->delivered;
	positions[0].retried = holding->retried;
	group_positions_put(registration->id, partitions, positions);
	starts_add(registration->id, n, starts);
	pfree(positions);
	pfree(starts);
}

static void
remove_registration(const Registration *registration)
{
	if (!registry_remove(registration))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("group \"%s\" was changed by another transaction",
						NameStr(registration->name)),
				 errhint("Run the transaction again.")));
}

void
moving_replace(const Registration *registration, const GroupHolding *holding,
			   int partitions)
{
	Registration now = *registration;
	HandlerDefinition definition;

	remove_registration(registration);
	group_positions_drop(registration->id, registration->partitions);
	starts_drop(registration->id);
	moving_describe(&now, holding, partitions);
	registry_add(&now);
	moving_begin(&now, holding);
	parked_give(registration->id, now.id);
	if (!definitions_find(NameStr(now.name), &definition) ||
		definition.id != registration->id)
		return;
	definition.id = now.id;
	definitions_put(&definition);
	wakeup_defined_at_commit();
}

void
moving_end(const Registration *registration)
{
	remove_registration(registration);
	group_forget(registration);
}
