/*
 * taken.c
 *	  The partitions that this transaction has taken, and from where on.
 *
 * What is remembered here never stands for the lock: whoever is about to use a
 * partition locks it again, which costs nothing if it has it.
 */
#include "compat.h"

#include "access/xact.h"
#include "consumer/group.h"
#include "consumer/holding.h"
#include "consumer/taken.h"
#include "shared/fetchers.h"
#include "utils/resowner.h"

typedef struct Taken
{
	DatabaseSlot *slot;
	uint64		id;
	GroupKey	from;
	GroupKey	moved; /* to there, */
	SubTransactionId moved_by; /* by this; invalid: not known how far */
	SubTransactionId subid;
	int			partition;
	bool		unseen;
} Taken;

static Taken taken[TAKEN_MAX];
static int	ntaken = 0;
static bool fetched = false; /* in this transaction, perhaps in vain */

/* Groups of which partitions are let go with the locks of what ends just now. */
static Taken let_go[TAKEN_MAX];
static int	nlet_go = 0;

int
taken_count(void)
{
	return ntaken;
}

bool
taken_any_of(uint64 id)
{
	for (int i = 0; i < ntaken; i++)
		if (taken[i].id == id)
			return true;
	return false;
}

static Taken *
find(uint64 id, int partition)
{
	for (int i = 0; i < ntaken; i++)
		if (taken[i].id == id && taken[i].partition == partition)
			return &taken[i];
	return NULL;
}

bool
taken_from(uint64 id, int partition, GroupKey *key)
{
	const Taken *found = find(id, partition);

	if (found == NULL)
		return false;
	*key = found->from;
	return true;
}

void
taken_note_unseen(uint64 id, int partition)
{
	Taken	   *found = find(id, partition);

	if (found != NULL)
		found->unseen = true;
}

bool
taken_is_unseen(uint64 id, int partition)
{
	const Taken *found = find(id, partition);

	return found != NULL && found->unseen;
}

static void
remove_at(int i)
{
	taken[i] = taken[--ntaken];
}

void
taken_remove(uint64 id, int partition)
{
	Taken	   *found = find(id, partition);

	if (found != NULL)
		remove_at((int) (found - taken));
}

/* Those of a subtransaction that is rolled back, or all. */
static void
let_go_of(SubTransactionId subid, bool all)
{
	for (int i = ntaken - 1; i >= 0; i--)
	{
		if (!all && taken[i].subid != subid)
			continue;
		if (nlet_go < TAKEN_MAX)
			let_go[nlet_go++] = taken[i];
		remove_at(i);
	}
}

static void
at_xact_event(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_PREPARE:
			if (fetched)
				ereport(ERROR,
						(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						 errmsg("cannot PREPARE a transaction that has fetched for a group"),
						 errdetail("Nobody would be told when it ends, and its partitions are free."),
						 errhint("Commit it, or park what needs another system.")));
			break;
		case XACT_EVENT_PRE_COMMIT:
			holding_refuse_groups();
			break;
		case XACT_EVENT_COMMIT:
			holding_end_groups(true);
			for (int i = 0; i < ntaken; i++)
				group_note_moved(taken[i].id, taken[i].partition,
								 taken[i].moved_by == InvalidSubTransactionId ? NULL :
								 &taken[i].moved);
			let_go_of(InvalidSubTransactionId, true);
			fetched = false;
			break;
		case XACT_EVENT_ABORT:
			holding_end_groups(false);
			let_go_of(InvalidSubTransactionId, true);
			fetched = false;
			break;
		default:
			break;
	}
}

static void
at_subxact_event(SubXactEvent event, SubTransactionId subid,
				 SubTransactionId parent, void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB)
		let_go_of(subid, false);
	for (int i = 0; i < ntaken; i++)
	{
		if (event == SUBXACT_EVENT_ABORT_SUB && taken[i].moved_by == subid)
			taken[i].moved_by = InvalidSubTransactionId;
		if (event != SUBXACT_EVENT_COMMIT_SUB)
			continue;
		if (taken[i].subid == subid)
			taken[i].subid = parent;
		if (taken[i].moved_by == subid)
			taken[i].moved_by = parent;
	}
}

/* The locks are gone: wake who waits for these groups, each once. */
static void
at_release(ResourceReleasePhase phase, bool is_commit, bool is_top_level, void *arg)
{
	if (phase != RESOURCE_RELEASE_AFTER_LOCKS)
		return;
	for (int i = 0; i < nlet_go; i++)
	{
		bool		told = false;

		for (int j = 0; j < i && !told; j++)
			told = let_go[j].id == let_go[i].id;
		if (!told)
			fetchers_wake_group(let_go[i].slot, let_go[i].id);
	}
	nlet_go = 0;
}

void
taken_begin(void)
{
	static bool registered = false;

	if (!registered)
	{
		RegisterXactCallback(at_xact_event, NULL);
		RegisterSubXactCallback(at_subxact_event, NULL);
		RegisterResourceReleaseCallback(at_release, NULL);
		registered = true;
	}
	fetched = true;
}

void
taken_add(DatabaseSlot *slot, uint64 id, int partition)
{
	Taken	   *entry;

	if (find(id, partition) != NULL)
		return;
	Assert(ntaken < TAKEN_MAX);
	entry = &taken[ntaken++];
	entry->slot = slot;
	entry->id = id;
	entry->partition = partition;
	entry->from = (GroupKey){0, 0, 0};
	entry->unseen = false;
	entry->subid = GetCurrentSubTransactionId();
	entry->moved_by = InvalidSubTransactionId;
}

void
taken_moved(uint64 id, int partition, GroupKey key)
{
	Taken	   *found = find(id, partition);

	if (found == NULL)
		return;
	found->moved = key;
	found->moved_by = GetCurrentSubTransactionId();
}

void
taken_begins(uint64 id, int partition, GroupKey from)
{
	find(id, partition)->from = from;
}
