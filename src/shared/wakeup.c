/*
 * wakeup.c
 *	  What this transaction has to tell the workers when it commits.
 */
#include "compat.h"

#include "access/xact.h"
#include "shared/database.h"
#include "shared/submitters.h"
#include "shared/wakeup.h"
#include "shared/worker_slot.h"

static bool wake = false;
static bool recheck = false;
static bool landed = false;

static void
at_xact_event(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_COMMIT:
			if (recheck)
				database_recheck();
			if (wake || recheck)
				worker_slot_tell_appended();
			if (landed && database_mine() != NULL)
			{
				submitters_note_landed(database_mine());
				submitters_wake(database_mine());
			}
			wake = recheck = landed = false;
			break;
		case XACT_EVENT_PRE_PREPARE:
			if (landed)
				ereport(ERROR,
						(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						 errmsg("cannot PREPARE a transaction that has restored submissions into seq_inbox"),
						 errhint("Restore in a transaction of its own.")));
			break;
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			wake = recheck = landed = false;
			break;
		default:
			break;
	}
}

void
wakeup_init(void)
{
	RegisterXactCallback(at_xact_event, NULL);
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
wakeup_recheck_at_commit(void)
{
	recheck = true;
}

bool
wakeup_recheck_wanted(void)
{
	return recheck;
}
