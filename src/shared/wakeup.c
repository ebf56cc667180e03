/*
 * wakeup.c
 *	  What this transaction has to tell the workers when it commits.
 */
#include "compat.h"

#include "access/xact.h"
#include "shared/database.h"
#include "shared/follower.h"
#include "shared/handler_slot.h"
#include "shared/pause.h"
#include "shared/submitters.h"
#include "shared/wakeup.h"
#include "shared/worker_slot.h"

static bool wake = false;
static bool recheck = false;
static bool landed = false;
static bool handlers = false; /* of this database, */
static bool defined = false; /* since one was, or was taken away */
static bool all_handlers = false; /* or of all */
static bool follows = false;
static SubTransactionId follows_subid; /* the outermost one that says so */
static bool acks = false;

static void
forget(void)
{
	wake = recheck = landed = handlers = defined = all_handlers = follows = acks = false;
}

/* Whoever appends next looks at the table, and so does the worker. */
static void
tell_follower(void)
{
	if (database_mine() == NULL)
		return;
	PAUSE_POINT("wakeup: committed");
	follower_forget_gate(database_mine());
	worker_slot_ask_to_recheck();
}

static void
at_xact_event(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_COMMIT:
			if (follows)
				tell_follower();
			if (acks && database_mine() != NULL)
				follower_tell_acks(database_mine());
			if (recheck)
				database_recheck();
			if (wake || recheck)
				worker_slot_tell_appended();
			if (landed && database_mine() != NULL)
			{
				submitters_note_landed(database_mine());
				submitters_wake(database_mine());
			}
			if (handlers && database_mine() != NULL)
				handler_slots_tell(database_mine());
			if (all_handlers && Calvin != NULL)
				handler_slots_tell_all();
			forget();
			break;
		case XACT_EVENT_PRE_PREPARE:
			if (landed)
				ereport(ERROR,
						(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						 errmsg("cannot PREPARE a transaction that has restored submissions into seq_inbox"),
						 errhint("Restore in a transaction of its own.")));
			if (defined)
				ereport(ERROR,
						(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						 errmsg("cannot PREPARE a transaction that has defined or ended a handler"),
						 errdetail("Nobody would be told when it is committed.")));
			if (follows)
				ereport(ERROR,
						(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						 errmsg("cannot PREPARE a transaction that has changed whether this database follows another one"),
						 errdetail("Nobody would be told when it is committed.")));
			break;
		case XACT_EVENT_ABORT:
			if (follows && database_mine() != NULL)
				follower_forget_gate(database_mine());
			forget();
			break;
		case XACT_EVENT_PREPARE:
			forget();
			break;
		default:
			break;
	}
}

/*
 * The gate is another one's from when the append lock is released, as it is with the
 * subtransaction that took it: so it is left now, and not touched again at the end.
 */
static void
at_subxact_event(SubXactEvent event, SubTransactionId subid,
				 SubTransactionId parent, void *arg)
{
	if (!follows || follows_subid != subid)
		return;
	if (event == SUBXACT_EVENT_COMMIT_SUB)
		follows_subid = parent;
	else if (event == SUBXACT_EVENT_ABORT_SUB)
	{
		follows = false;
		if (database_mine() != NULL)
			follower_forget_gate(database_mine());
	}
}

void
wakeup_init(void)
{
	RegisterXactCallback(at_xact_event, NULL);
	RegisterSubXactCallback(at_subxact_event, NULL);
}

void
wakeup_applier_at_commit(void)
{
	wake = true;
}

void
wakeup_sequencer_at_commit(void)
{
	landed = true;
}

void
wakeup_handlers_at_commit(bool everywhere)
{
	if (everywhere)
		all_handlers = true;
	else
		handlers = true;
}

void
wakeup_defined_at_commit(void)
{
	handlers = defined = true;
}

void
wakeup_follower_at_commit(void)
{
	if (follows)
		return;
	follows = true;
	follows_subid = GetCurrentSubTransactionId();
}

void
wakeup_acks_at_commit(void)
{
	acks = true;
}

void
wakeup_recheck_at_commit(void)
{
	recheck = true;
}

bool
wakeup_recheck_wanted(void)
{
	return recheck;
}
