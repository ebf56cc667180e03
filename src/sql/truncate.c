/*
 * truncate.c
 *	  seq_truncate: removing the beginning of the log, unless somebody still
 *	  needs it.
 */
#include "compat.h"

#include "access/xlog.h"
#include "log/attach.h"
#include "log/cursors.h"
#include "log/needs.h"
#include "log/owner.h"
#include "log/standbys.h"
#include "log/truncate.h"
#include "miscadmin.h"
#include "shared/database.h"
#include "shared/pause.h"
#include "shared/subscription.h"
#include "sql/args.h"
#include "storage/lmgr.h"

CALVIN_FUNCTION(seq_truncate);

/* The way out, for what is held up by somebody who needs an epoch. */
static int
hint_epoch(uint64 epoch)
{
	return errhint("Truncate before epoch " UINT64_FORMAT " at most, or pass force => true to remove what is still needed.",
				   epoch);
}

static void
refuse_before_applier(const Truncation *truncation, const PublishedState *state)
{
	if (state->machine.last_applied_index >= truncation->base.last_applied_index)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_IN_USE),
			 errmsg("cannot truncate what the applier has not applied yet"),
			 errdetail("It has applied log_index " UINT64_FORMAT " of " UINT64_FORMAT ".",
					   state->machine.last_applied_index,
					   truncation->base.last_applied_index),
			 errhint("Wait for it, or pass force => true.")));
}

static void
refuse_before_cursors(const CursorSurvey *survey)
{
	const NamedCursor *needy = &survey->needy;

	if (survey->nneedy == 0)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_IN_USE),
			 errmsg("cannot truncate past the durable cursor \"%s\" of vshard %u",
					NameStr(needy->name), needy->cursor.vshard),
			 errdetail_plural("It needs the log from epoch " UINT64_FORMAT " on; %d cursor needs something of what would go.",
							  "It needs the log from epoch " UINT64_FORMAT " on; %d cursors need something of what would go.",
							  survey->nneedy, needy->cursor.next.epoch,
							  survey->nneedy),
			 hint_epoch(needy->cursor.next.epoch)));
}

static void
refuse_before_subscriptions(int n, const SubscriptionNeed *furthest)
{
	if (n == 0)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_IN_USE),
			 errmsg("cannot truncate past the subscription \"%s\" to vshard %u of the session with PID %d",
					NameStr(furthest->name), furthest->vshard, (int) furthest->pid),
			 errdetail_plural("It needs the log from epoch " UINT64_FORMAT " on; %d subscription needs something of what would go.",
							  "It needs the log from epoch " UINT64_FORMAT " on; %d subscriptions need something of what would go.",
							  n, furthest->epoch, n),
			 hint_epoch(furthest->epoch)));
}

static void
refuse_before_standbys(XLogRecPtr lsn)
{
	StandbyBehind furthest;
	int			n = standbys_behind(lsn, &furthest);

	if (n == 0)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_IN_USE),
			 errmsg("cannot truncate past the standby of the walsender with PID %d",
					(int) furthest.pid),
			 errdetail_plural("It has replayed up to %X/%X of %X/%X; %d standby is behind.",
							  "It has replayed up to %X/%X of %X/%X; %d standbys are behind.",
							  n, LSN_FORMAT_ARGS(furthest.replayed),
							  LSN_FORMAT_ARGS(lsn), n),
			 errhint("Wait for it (see pg_stat_replication), or pass force => true.")));
}

/* Who needs something of what goes, by one look. */
typedef struct Look
{
	PublishedState state;
	int			nsubscriptions;
	SubscriptionNeed subscription; /* the one that is furthest behind */
	CursorSurvey cursors;
} Look;

/*
 * First at the subscriptions, then at the cursors: who has a subscription may
 * store a cursor and leave.  Subscriptions that miss nothing are told, forced
 * or not.
 */
static void
look_once(DatabaseSlot *database, const Truncation *truncation,
		  const StreamKey *traffic, uint64 from_epoch, Look *look)
{
	/* before the subscriptions, whose progress is then not behind it */
	database_read(database, &look->state);
	look->nsubscriptions =
		subscription_needs_log(MyDatabaseId, truncation->base.last_applied_epoch,
							   &look->state, traffic, from_epoch,
							   &look->subscription);
	PAUSE_POINT("truncate: between subscriptions and cursors");
	truncate_survey_cursors(truncation, traffic, from_epoch, &look->cursors);
}

static uint64
first_needed(const Look *look)
{
	uint64		first = PG_UINT64_MAX;

	if (look->nsubscriptions > 0)
		first = Min(first, look->subscription.epoch);
	if (look->cursors.nneedy > 0)
		first = Min(first, look->cursors.needy.cursor.next.epoch);
	return first;
}

/*
 * Only if somebody is behind, what goes has to be read to see whether it is for
 * him; so is it again if somebody comes who stands even further back.  The look
 * that decides is the last one, under a fence that stays.
 */
static void
find_needs(DatabaseSlot *database, const Truncation *truncation, bool force,
		   Look *look)
{
	StreamKey	traffic[WIRE_VSHARDS];
	uint64		from_epoch = PG_UINT64_MAX; /* nothing is read yet */

	for (;;)
	{
		uint64		first;

		PAUSE_POINT("truncate: before the fence");
		needs_fence(database, truncation->base.last_applied_epoch);
		PAUSE_POINT("truncate: before the look");
		look_once(database, truncation, traffic, from_epoch, look);
		first = first_needed(look);
		if (first < from_epoch)
		{
			needs_unfence();
			PAUSE_POINT("truncate: before what goes is read");
			truncate_find_traffic(truncation, first, traffic);
			from_epoch = first;
			continue;
		}
		/* who will be refused, or is forced, need not wait */
		if (force || first != PG_UINT64_MAX ||
			!TransactionIdIsValid(look->cursors.changing))
			return;
		needs_unfence();
		XactLockTableWait(look->cursors.changing, NULL, NULL, XLTW_None);
	}
}

/* seq_truncate(before_epoch, force) -> how many entries were removed */
Datum
seq_truncate(PG_FUNCTION_ARGS)
{
	uint64		before_epoch = arg_epoch(PG_GETARG_INT64(0));
	bool		force = PG_GETARG_BOOL(1);
	DatabaseSlot *database;
	const LogTable *table;
	LogIdentity self;
	Truncation	truncation;
	Look		look = {0};
	uint64		removed = 0;

	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("cannot execute seq_truncate() during recovery"),
				 errhint("Truncate on the primary: standbys follow.")));
	PreventCommandIfReadOnly("seq_truncate()");
	database = attach_database();
	table = log_table_require();
	self = log_become_owner(table);
	needs_lock_truncation();
	if (truncate_plan(table, before_epoch, &truncation))
	{
		/* without a batch in what goes nobody can lack anything of it */
		if (truncation.base.last_applied_epoch != MACHINE_NO_EPOCH)
			find_needs(database, &truncation, force, &look);
		else
			database_read(database, &look.state);
		if (!force)
		{
			refuse_before_applier(&truncation, &look.state);
			refuse_before_cursors(&look.cursors);
			refuse_before_standbys(truncation.lsn);
			refuse_before_subscriptions(look.nsubscriptions, &look.subscription);
		}
		PAUSE_POINT("truncate: before removing");
		removed = truncate_execute(table, &truncation, &look.cursors);
	}
	log_become_self(&self);
	PG_RETURN_INT64((int64) removed);
}
