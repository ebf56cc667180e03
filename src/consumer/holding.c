/*
 * holding.c
 *	  Portals that hold the rows of a receive, or of a fetch: cursors, and the loops
 *	  of procedures.
 *
 * A receive belongs to the subtransaction in which it happened, its rows to the
 * portal that asked for them, and the two can end differently:
 *
 *	- A portal opened before a savepoint and read behind it lives on when that is
 *	  rolled back, and still gives the rows that come again.  Such a receive is
 *	  refused.
 *	- A procedure that rolls back in a loop over rows goes on with the loop: the
 *	  server keeps the rows for it.  They come again, so nothing can be committed
 *	  for the name as long as the portal is there, nor in the transaction it was
 *	  closed in.
 *	- A cursor that failed in a subtransaction cannot be read any more, though the
 *	  receive was in another one.  The rows that it had left have to come again.
 *	- A procedure that commits in such a loop, and a client's cursor WITH HOLD,
 *	  have rows left that nobody has processed.  A cursor that covers them must not
 *	  be committed: if the session ended then, they would be lost.
 *
 * A fetch has stored its position already, so there it is the transaction's commit
 * that is refused.
 *
 * Portals are followed by a callback on their memory.
 */
#include "compat.h"

#include "access/xact.h"
#include "consumer/holding.h"
#include "nodes/memnodes.h"
#include "tcop/pquery.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/tuplestore.h"

typedef enum TakenBack
{
	NOT_TAKEN_BACK,
	REWOUND,	/* on demand: its rows are to come again */
	ROLLED_BACK /* and so is what was done with them */
} TakenBack;

/* A portal with rows that came under a name. */
typedef struct Holder
{
	struct Holder *next;
	MemoryContextCallback callback;
	Portal		portal; /* NULL: it was closed in the present transaction */
	char		name[NAMEDATALEN];
	bool		group;		/* fetched for the group of that name */
	bool		covered; /* by a committed cursor, all of it */
	TakenBack	taken_back;
} Holder;

static Holder *holders = NULL;

static bool
is_of(const Holder *holder, const char *name, bool group)
{
	return holder->group == group && strcmp(holder->name, name) == 0;
}

static void
forget(Holder *holder)
{
	Holder	  **link = &holders;

	while (*link != holder)
		link = &(*link)->next;
	*link = holder->next;
	pfree(holder);
}

/* Nobody can get at what is left in it. */
static bool
has_failed(const Holder *holder)
{
	return holder->portal != NULL && !holder->covered &&
		holder->portal->status == PORTAL_FAILED;
}

/*
 * The portal is being dropped.  At the end of a transaction that failed nothing
 * more is done with its rows; otherwise something may have been.
 */
static void
at_portal_drop(void *arg)
{
	Holder	   *holder = arg;

	if (has_failed(holder))
		holder->taken_back = ROLLED_BACK;
	holder->portal = NULL;
	if (holder->taken_back != ROLLED_BACK || !IsTransactionState())
		forget(holder);
}

typedef void (*PortalVisitor) (Portal portal, const char *name, bool group);

/*
 * All portals that are being run.  There is no list of them, but their memory
 * has one parent, and bears their names.
 */
static void
visit_active_portals(PortalVisitor visit, const char *name, bool group)
{
	if (ActivePortal == NULL)
		return;
	for (MemoryContext context = MemoryContextGetParent(ActivePortal->portalContext)->firstchild;
		 context != NULL; context = context->nextchild)
	{
		Portal		portal;

		if (context->ident == NULL)
			continue;
		portal = GetPortalByName(context->ident);
		/* the nameless one is called so in its memory */
		if (!PortalIsValid(portal) || portal->portalContext != context)
			portal = GetPortalByName("");
		if (PortalIsValid(portal) && portal->portalContext == context &&
			portal->status == PORTAL_ACTIVE)
			visit(portal, name, group);
	}
}

static void
check_portal(Portal portal, const char *unused, bool group)
{
	if (portal->createSubid == portal->activeSubid)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 group ? errmsg("cannot fetch through a cursor that was opened outside of the present subtransaction") :
			 errmsg("cannot receive through a cursor that was opened outside of the present subtransaction"),
			 group ? errdetail("Its rows would outlive a rollback to the savepoint, or the exception block, that takes the fetch back.") :
			 errdetail("Its rows would outlive a rollback to the savepoint, or the exception block, that takes the receive back."),
			 errhint("Open cursor \"%s\" where it is first fetched from.", portal->name)));
}

void
holding_check(bool group)
{
	if (GetCurrentTransactionNestLevel() > 1)
		visit_active_portals(check_portal, NULL, group);
}

/* Of the other strategies none can be read after the end of the transaction. */
static void
note_portal(Portal portal, const char *name, bool group)
{
	Holder	   *holder = holders;

	if (portal->strategy != PORTAL_ONE_SELECT)
		return;
	while (holder != NULL && (holder->portal != portal || !is_of(holder, name, group)))
		holder = holder->next;
	if (holder == NULL)
	{
		holder = MemoryContextAllocZero(TopMemoryContext, sizeof(Holder));
		strlcpy(holder->name, name, sizeof(holder->name));
		holder->group = group;
		holder->portal = portal;
		holder->callback.func = at_portal_drop;
		holder->callback.arg = holder;
		MemoryContextRegisterResetCallback(portal->portalContext, &holder->callback);
		holder->next = holders;
		holders = holder;
	}
	holder->covered = false;
}

void
holding_note(const char *name, bool group)
{
	visit_active_portals(note_portal, name, group);
}

static void
refuse_taken_back(const Holder *holder)
{
	/* one that is being run is the statement we are in */
	if ((holder->taken_back == NOT_TAKEN_BACK && !has_failed(holder)) ||
		(holder->portal != NULL && holder->portal->status == PORTAL_ACTIVE))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("cannot commit the position of \"%s\": rows that were rolled back are still being handed out",
					holder->name),
			 errdetail("A cursor or a loop handed them out, and went on after a rollback or failed with some of them left."),
			 holder->group ?
			 errhint("Leave the loop, or close the cursor, when rolling back; then roll back and fetch again.") :
			 errhint("Leave the loop, or close the cursor, when rolling back; then roll back and receive again.")));
}

void
holding_refuse_taken_back(const char *name)
{
	for (const Holder *holder = holders; holder != NULL; holder = holder->next)
		if (is_of(holder, name, false))
			refuse_taken_back(holder);
}

/* Of a loop's portal the loop itself has taken rows in advance. */
static bool
has_rows_left(Portal portal)
{
	Tuplestorestate *store = portal->holdStore;
	int			ahead;
	bool		more;

	if (portal->autoHeld)
		return true;
	if (portal->atEnd)
		return false;
	/* look ahead without moving it; what is made does not know where a file is read */
	ahead = tuplestore_alloc_read_pointer(store, 0);
	tuplestore_copy_read_pointer(store, 0, ahead);
	tuplestore_select_read_pointer(store, ahead);
	more = tuplestore_advance(store, true);
	tuplestore_select_read_pointer(store, 0);
	return more;
}

bool
holding_failed(const char *name)
{
	for (Holder *holder = holders; holder != NULL; holder = holder->next)
		if (is_of(holder, name, false) &&
			(has_failed(holder) ||
			 (holder->portal == NULL && holder->taken_back == ROLLED_BACK)))
			return true;
	return false;
}

static void
refuse_rows_left(const Holder *holder)
{
	Portal		portal = holder->portal;

	if (portal == NULL || holder->covered || portal->holdStore == NULL ||
		!has_rows_left(portal))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("cannot commit the position of \"%s\" while a cursor or loop still holds rows that it covers",
					holder->name),
			 errdetail("Rows that portal \"%s\" has not handed out yet would count as processed.",
					   portal->name),
			 holder->group ?
			 errhint("Commit behind the loop, or fetch one batch a transaction.") :
			 errhint("Commit behind the loop, or receive one batch a transaction.")));
}

void
holding_refuse_commit(const char *name)
{
	/* what came of the rows since seq_commit */
	holding_refuse_taken_back(name);

	for (const Holder *holder = holders; holder != NULL; holder = holder->next)
		if (is_of(holder, name, false))
			refuse_rows_left(holder);
}

void
holding_refuse_groups(void)
{
	for (const Holder *holder = holders; holder != NULL; holder = holder->next)
	{
		if (!holder->group)
			continue;
		refuse_taken_back(holder);
		refuse_rows_left(holder);
	}
}

void
holding_rewound(const char *name)
{
	for (Holder *holder = holders; holder != NULL; holder = holder->next)
		if (holder->taken_back == NOT_TAKEN_BACK && !holder->covered &&
			is_of(holder, name, false))
			holder->taken_back = REWOUND;
}

void
holding_committed(const char *name, bool stored)
{
	for (Holder *holder = holders; holder != NULL; holder = holder->next)
		if (stored && holder->taken_back == NOT_TAKEN_BACK &&
			is_of(holder, name, false))
			holder->covered = true;
}

/*
 * Even without a cursor to go back to, and with the receive committed: what was
 * done in this transaction with rows that were handed out in it is undone.
 */
void
holding_taken_back(const char *name)
{
	for (Holder *holder = holders; holder != NULL; holder = holder->next)
		if (!holder->covered && is_of(holder, name, false))
			holder->taken_back = ROLLED_BACK;
}

void
holding_end_groups(bool committed)
{
	Holder	   *next;

	for (Holder *holder = holders; holder != NULL; holder = next)
	{
		next = holder->next;
		if (!holder->group)
			continue;
		if (holder->portal == NULL)
			forget(holder);
		else if (committed)
			holder->covered = true;
		else if (!holder->covered && holder->portal->holdStore != NULL &&
				 !holder->portal->autoHeld)
		{
			/* a cursor WITH HOLD would outlive any number of refused commits */
			MarkPortalFailed(holder->portal);
			holder->covered = true;
		}
		else if (!holder->covered)
			holder->taken_back = ROLLED_BACK;
	}
}

void
holding_end_transaction(void)
{
	Holder	   *next;

	for (Holder *holder = holders; holder != NULL; holder = next)
	{
		next = holder->next;
		if (holder->portal == NULL)
			forget(holder);
	}
}
