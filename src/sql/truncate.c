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
refuse_before_cursors(uint64 epoch)
{
	CursorNeed	furthest;
	int			n = cursors_need_log(epoch, &furthest);

	if (n == 0)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_IN_USE),
			 errmsg("cannot truncate past the durable cursor \"%s\" of vshard %d",
					NameStr(furthest.name), furthest.vshard),
			 errdetail_plural("It needs the log from epoch " UINT64_FORMAT " on; %d cursor needs something of epoch " UINT64_FORMAT " or below.",
							  "It needs the log from epoch " UINT64_FORMAT " on; %d cursors need something of epoch " UINT64_FORMAT " or below.",
							  n, furthest.epoch, n, epoch),
			 hint_epoch(furthest.epoch)));
}

/* Forced or not, those that miss nothing have to know that. */
static void
refuse_before_subscriptions(uint64 epoch, const PublishedState *state,
							bool force)
{
	SubscriptionNeed furthest;
	int			n = subscription_needs_log(MyDatabaseId, epoch, state, &furthest);

	if (n == 0 || force)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_IN_USE),
			 errmsg("cannot truncate past the subscription \"%s\" to vshard %u of the session with PID %d",
					NameStr(furthest.name), furthest.vshard, (int) furthest.pid),
			 errdetail_plural("It needs the log from epoch " UINT64_FORMAT " on; %d subscription needs something of epoch " UINT64_FORMAT " or below.",
							  "It needs the log from epoch " UINT64_FORMAT " on; %d subscriptions need something of epoch " UINT64_FORMAT " or below.",
							  n, furthest.epoch, n, epoch),
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
		if (!force)
		{
			refuse_before_applier(&truncation, &state);
			if (truncation.base.last_applied_epoch != MACHINE_NO_EPOCH)
				refuse_before_cursors(truncation.base.last_applied_epoch);
			refuse_before_standbys(truncation.lsn);
		}
		if (truncation.base.last_applied_epoch != MACHINE_NO_EPOCH)
			refuse_before_subscriptions(truncation.base.last_applied_epoch,
										&state, force);
		removed = truncate_execute(table, &truncation);
	}
	log_become_self(&self);
	PG_RETURN_INT64((int64) removed);
}
