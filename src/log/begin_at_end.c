/*
 * begin_at_end.c
 *	  Consumers that begin at the log's end as of the commit that registers them.
 *
 * What is committed before is not for them, and nothing that is appended after is
 * missed: between the look at the log's end and the commit nobody appends, as the
 * append lock sees to.
 */
#include "compat.h"

#include "access/xact.h"
#include "log/access.h"
#include "log/append.h"
#include "log/begin_at_end.h"
#include "log/reader.h"
#include "log/snapshots.h"
#include "shared/pause.h"
#include "utils/memutils.h"

typedef struct Beginner
{
	struct Beginner *link;
	SubTransactionId subid;
	Registration registration;
	uint64		epoch;
	BeginMove	move;
} Beginner;

/* In the transaction's memory. */
static Beginner *beginners = NULL;

uint64
log_next_epoch(void)
{
	LogAccess	access;
	MachineState base;
	int64		last;
	uint64		next;

	log_access_begin(&access, ACCESS_SNAPSHOTS, ACCESS_LATEST);
	last = log_last_epoch(&access);
	next = (uint64) (last + 1);
	if (last < 0 && snapshots_base(&access, &base))
		next = machine_next_epoch(&base);
	log_access_end(&access);
	return next;
}

/* Has this transaction ended it again, or the whole extension? */
static bool
is_there(const Beginner *beginner)
{
	const Registration *registration = registry_find(NameStr(beginner->registration.name));

	return registration != NULL && registration->id == beginner->registration.id;
}

static void
move_all(void)
{
	if (log_table_find() == NULL)
		return;
	append_lock();
	for (const Beginner *b = beginners; b != NULL; b = b->link)
		if (b->epoch < append_next_epoch() && is_there(b))
			b->move(&b->registration, append_next_epoch());
	PAUSE_POINT("begin at end: moved");
}

static void
at_xact_event(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			if (beginners != NULL)
				move_all();
			break;
		case XACT_EVENT_PRE_PREPARE:
			if (beginners != NULL)
				ereport(ERROR,
						(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						 errmsg("cannot PREPARE a transaction that has registered \"%s\" at the end of the log",
								NameStr(beginners->registration.name)),
						 errdetail("Where that is, is known when it commits."),
						 errhint("Register it in a transaction of its own, or with from_epoch.")));
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			beginners = NULL;
			break;
		default:
			break;
	}
}

static void
at_subxact_event(SubXactEvent event, SubTransactionId subid,
				 SubTransactionId parent, void *arg)
{
	if (event == SUBXACT_EVENT_COMMIT_SUB)
		for (Beginner *b = beginners; b != NULL; b = b->link)
			if (b->subid == subid)
				b->subid = parent;
	if (event == SUBXACT_EVENT_ABORT_SUB)
		for (Beginner **link = &beginners; *link != NULL;)
		{
			if ((*link)->subid == subid)
				*link = (*link)->link;
			else
				link = &(*link)->link;
		}
}

void
begin_at_end(const Registration *registration, uint64 epoch, BeginMove move)
{
	static bool registered = false;
	MemoryContext old = MemoryContextSwitchTo(TopTransactionContext);
	Beginner   *beginner = palloc0(sizeof(Beginner));

	if (!registered)
	{
		RegisterXactCallback(at_xact_event, NULL);
		RegisterSubXactCallback(at_subxact_event, NULL);
		registered = true;
	}
	beginner->subid = GetCurrentSubTransactionId();
	beginner->registration = *registration;
	beginner->registration.collections = NULL;
	if (registration->vshards != NULL)
	{
		Size		size = sizeof(uint16) * registration->nvshards;

		beginner->registration.vshards = palloc(size);
		memcpy(beginner->registration.vshards, registration->vshards, size);
	}
	beginner->epoch = epoch;
	beginner->move = move;
	beginner->link = beginners;
	beginners = beginner;
	MemoryContextSwitchTo(old);
}
