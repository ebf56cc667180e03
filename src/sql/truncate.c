/*
 * truncate.c
 *	  seq_truncate: removing the beginning of the log, unless somebody still
 *	  needs it.
 */
#include "compat.h"

#include "access/xlog.h"
#include "log/attach.h"
#include "log/cursors.h"
#include "log/standbys.h"
#include "log/truncate.h"
#include "shared/database.h"
#include "shared/subscription.h"
#include "sql/args.h"

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

/*
 * Forced or not, those that miss nothing have to know that.  Only if somebody
 * is behind, what goes has to be read to see whether it is for him.
 */
static void
refuse_before_subscriptions(const Truncation *truncation,
							const PublishedState *state, bool force)
{
	uint64		end = truncation->base.last_applied_epoch;
	StreamKey	traffic[WIRE_VSHARDS];
	SubscriptionNeed furthest;
	int			n;

	if (end == MACHINE_NO_EPOCH)
		return;
	n = subscription_needs_log(MyDatabaseId, end, state, NULL, &furthest);
	if (n > 0)
	{
		truncate_find_traffic(truncation, furthest.epoch, traffic);
		n = subscription_needs_log(MyDatabaseId, end, state, traffic, &furthest);
	}
	if (n == 0 || force)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_IN_USE),
			 errmsg("cannot truncate past the subscription \"%s\" to vshard %u of the session with PID %d",
					NameStr(furthest.name), furthest.vshard, (int) furthest.pid),
			 errdetail_plural("It needs the log from epoch " UINT64_FORMAT " on; %d subscription needs something of what would go.",
							  "It needs the log from epoch " UINT64_FORMAT " on; %d subscriptions need something of what would go.",
							  n, furthest.epoch, n),
			 hint_epoch(furthest.epoch)));
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

/* seq_truncate(before_epoch, force) -> how many entries were removed */
Datum
seq_truncate(PG_FUNCTION_ARGS)
{
	uint64		before_epoch = arg_epoch(PG_GETARG_INT64(0));
	bool		force = PG_GETARG_BOOL(1);
	DatabaseSlot *slot;
	PublishedState state;
	const LogTable *table;
	LogIdentity self;
	Truncation	truncation;
	CursorSurvey cursors;
	uint64		removed = 0;

	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("cannot execute seq_truncate() during recovery"),
				 errhint("Truncate on the primary: standbys follow.")));
	PreventCommandIfReadOnly("seq_truncate()");
	slot = attach_database();
	table = log_table_require();
	self = log_become_owner(table, true);
	if (truncate_plan(table, before_epoch, &truncation))
	{
		/* before the subscriptions, whose progress is then not behind it */
		database_read(slot, &state);
		truncate_survey_cursors(&truncation, &cursors);
		if (!force)
		{
			refuse_before_applier(&truncation, &state);
			refuse_before_cursors(&cursors);
			refuse_before_standbys(truncation.lsn);
		}
		refuse_before_subscriptions(&truncation, &state, force);
		removed = truncate_execute(table, &truncation, &cursors);
	}
	log_become_self(&self);
	PG_RETURN_INT64((int64) removed);
}
