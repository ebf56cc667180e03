/*
 * truncation.c
 *	  Removing the beginning of the log, unless somebody still needs it.
 *
 * What is older than calvin_seq.max_consumer_lag is not kept for consumers: it goes in
 * a range of its own, as by force, and who lacks something of it is lost.
 */
#include "compat.h"

#include <limits.h>

#include "access/xact.h"
#include "access/xlog.h"
#include "consumer/backlog.h"
#include "consumer/truncation.h"
#include "log/append.h"
#include "log/cursors.h"
#include "log/followers.h"
#include "log/hint.h"
#include "log/needs.h"
#include "log/owner.h"
#include "log/range.h"
#include "log/registry.h"
#include "log/replayed.h"
#include "log/standbys.h"
#include "log/truncate.h"
#include "miscadmin.h"
#include "shared/database.h"
#include "shared/pause.h"
#include "shared/settings.h"
#include "shared/subscription.h"
#include "storage/lmgr.h"
#include "utils/timestamp.h"

/*
 * What one step removes at most: as long as it lasts, who subscribes from what goes
 * waits, and others sequence nothing.
 */
#define STEP_ENTRIES 1000
#define STEP_BYTES (8 * 1024 * 1024)

/* Steps of one transaction are larger, so that fewer bases are stored. */
#define LARGE_STEP_ENTRIES 20000
#define LARGE_STEP_BYTES (256 * 1024 * 1024)

/* Who is asked. */
typedef enum Respect
{
	RESPECT_ALL,
	RESPECT_SERVERS, /* the applier and the standbys; consumers are passed */
	RESPECT_NOBODY
} Respect;

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

/* Groups that need something of what goes, their positions being committed. */
typedef struct GroupNeeds
{
	int			n; /* of those in the list */
	int			ngroups;
	Backlog    *groups;
	const Backlog *furthest;
} GroupNeeds;

/*
 * Positions only go forward, and who makes a group that begins within what goes waits
 * for this transaction: so one look will do.  What counts is what is committed: a
 * transaction that has fetched may be rolled back.
 */
static void
look_at_groups(const Truncation *truncation, GroupNeeds *needs)
{
	int			n = backlog_list(&needs->groups);

	for (int i = 0; i < n; i++)
		if (needs->groups[i].group != NULL &&
			needs->groups[i].registration->lost_before == 0)
			needs->groups[needs->ngroups++] = needs->groups[i];
	if (needs->ngroups > 0)
		backlog_count_through(needs->ngroups, needs->groups,
							  truncation->base.last_applied_epoch);
	for (int i = 0; i < needs->ngroups; i++)
	{
		const Backlog *group = &needs->groups[i];

		if (group->epochs == 0)
			continue;
		needs->n++;
		if (needs->furthest == NULL ||
			group->oldest_epoch < needs->furthest->oldest_epoch)
			needs->furthest = group;
	}
}

static void
refuse_before_groups(const GroupNeeds *needs)
{
	if (needs->n == 0)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_IN_USE),
			 errmsg("cannot truncate past the group \"%s\"",
					NameStr(needs->furthest->name)),
			 errdetail_plural("It needs the log from epoch " UINT64_FORMAT " on; %d group needs something of what would go.",
							  "It needs the log from epoch " UINT64_FORMAT " on; %d groups need something of what would go.",
							  needs->n, needs->furthest->oldest_epoch, needs->n),
			 hint_epoch(needs->furthest->oldest_epoch)));
}

/* Their next call is an error. */
static void
mark_lost(const Truncation *truncation, const GroupNeeds *needs)
{
	for (int i = 0; i < needs->ngroups; i++)
		if (needs->groups[i].epochs > 0)
			(void) registry_mark_lost(needs->groups[i].registration,
									  truncation->base.last_applied_epoch + 1);
}

/* Followers that have not got all of what goes, by their own word. */
typedef struct FollowerNeeds
{
	int			n; /* of those in the list, */
	FollowerPosition *positions;
	const FollowerPosition *furthest;
} FollowerNeeds;

/*
 * Behind the fence their positions only go forward, so one look will do.  Who lacks
 * something that went before cannot be helped any more.  False if somebody is just
 * coming, whom nobody is to wait for.
 */
static bool
look_at_followers(const Truncation *truncation, Respect respect, bool wait,
				  FollowerNeeds *needs)
{
	FollowerPosition *positions;
	int			n;

	if (respect == RESPECT_ALL && !followers_fence(wait))
		return false;
	n = followers_list(&positions);
	memset(needs, 0, sizeof(*needs));
	needs->positions = positions;
	for (int i = 0; i < n; i++)
	{
		if (positions[i].log_index < truncation->begin.last_applied_index ||
			positions[i].log_index >= truncation->base.last_applied_index)
			continue;
		positions[needs->n] = positions[i];
		if (needs->furthest == NULL ||
			positions[needs->n].log_index < needs->furthest->log_index)
			needs->furthest = &positions[needs->n];
		needs->n++;
	}
	return true;
}

static void
refuse_before_followers(const Truncation *truncation, const FollowerNeeds *needs)
{
	if (needs->n == 0)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_IN_USE),
			 errmsg("cannot truncate past the follower \"%s\"", needs->furthest->name),
			 errdetail_plural("It has the log up to log_index " UINT64_FORMAT ", and what would go ends at " UINT64_FORMAT "; %d follower needs something of it.",
							  "It has the log up to log_index " UINT64_FORMAT ", and what would go ends at " UINT64_FORMAT "; %d followers need something of it.",
							  needs->n, needs->furthest->log_index,
							  truncation->base.last_applied_index, needs->n),
			 errhint_for_role("Wait for it (see seq_followers), use seq_drop_follower() if it does not come back, or pass force => true.")));
}

/* It is passed, by its age or by force: it cannot go on here. */
static void
tell_left_behind(const FollowerNeeds *needs)
{
	for (int i = 0; i < needs->n; i++)
		ereport(LOG,
				(errmsg("calvin_seq: the follower \"%s\" is left behind",
						needs->positions[i].name),
				 errdetail("It has the log up to log_index " UINT64_FORMAT ", and what comes next is truncated.",
						   needs->positions[i].log_index)));
}

/* Who needs something of what goes, by one look. */
typedef struct Look
{
	PublishedState state;
	int			nsubscriptions;
	SubscriptionNeed subscription; /* the one that is furthest behind */
	CursorSurvey cursors;
	GroupNeeds	groups;
	FollowerNeeds followers;
} Look;

/*
 * First at the subscriptions, then at the cursors: who has a subscription may
 * store a cursor and leave.  Subscriptions that miss nothing are told, whoever is
 * respected.
 */
static void
look_once(DatabaseSlot *database, const Truncation *truncation,
		  const StreamKey *traffic, uint64 from_epoch, bool passing, bool pass_lost,
		  Look *look)
{
	/* before the subscriptions, whose progress is then not behind it */
	database_read(database, &look->state);
	look->nsubscriptions =
		subscription_needs_log(MyDatabaseId, truncation->base.last_applied_epoch,
							   &look->state, traffic, from_epoch,
							   machine_next_epoch(&truncation->begin), passing,
							   &look->subscription);
	PAUSE_POINT("truncate: between subscriptions and cursors");
	truncate_survey_cursors(truncation, traffic, from_epoch, pass_lost, &look->cursors);
}

static uint64
first_needed(const Look *look)
{
	uint64		first = PG_UINT64_MAX;

	if (look->nsubscriptions > 0)
		first = Min(first, look->subscription.epoch);
	if (look->cursors.nneedy > 0)
		first = Min(first, look->cursors.needy.cursor.next.epoch);
	if (look->groups.n > 0)
		first = Min(first, look->groups.furthest->oldest_epoch);
	return first;
}

static bool
is_needed(Respect respect, const Look *look)
{
	return respect == RESPECT_ALL && first_needed(look) != PG_UINT64_MAX;
}

/*
 * Only if somebody is behind, what goes has to be read to see whether it is for
 * him; so is it again if somebody comes who stands even further back.  The look
 * that decides is the last one, under a fence that stays.
 *
 * With "asks" he would rather not be in anybody's way: there is a look without a fence
 * first.  False, and no fence, if somebody needs what goes by then; without "wait" also
 * if a cursor is being changed.
 */
static bool
find_needs(DatabaseSlot *database, const Truncation *truncation, Respect respect,
		   bool asks, bool pass_lost, bool wait, Look *look)
{
	StreamKey	traffic[WIRE_VSHARDS];
	uint64		from_epoch = PG_UINT64_MAX; /* nothing is read yet */
	bool		fenced = !asks;

	for (;;)
	{
		uint64		first;

		if (fenced)
		{
			PAUSE_POINT("truncate: before the fence");
			needs_fence(database, truncation->base.last_applied_epoch);
			PAUSE_POINT("truncate: before the look");
		}
		memset(look, 0, sizeof(*look));
		look_once(database, truncation, traffic, from_epoch, respect != RESPECT_ALL,
				  pass_lost, look);
		first = first_needed(look);
		if (first < from_epoch)
		{
			if (fenced)
				needs_unfence();
			PAUSE_POINT("truncate: before what goes is read");
			truncate_find_traffic(truncation, first, traffic);
			from_epoch = first;
			continue;
		}
		/* who will be refused, or passes it, need not wait */
		if (respect == RESPECT_ALL && first == PG_UINT64_MAX &&
			TransactionIdIsValid(look->cursors.changing))
		{
			if (fenced)
				needs_unfence();
			if (!wait)
				return false;
			XactLockTableWait(look->cursors.changing, NULL, NULL, XLTW_None);
			continue;
		}
		/* of groups one look will do, whenever it is under the fence */
		if (fenced || !is_needed(respect, look))
			look_at_groups(truncation, &look->groups);
		if (fenced)
			return true;
		if (is_needed(respect, look))
			return false;
		fenced = true;
	}
}

static void
refuse(const Truncation *truncation, Respect respect, const Look *look)
{
	if (respect == RESPECT_NOBODY)
		return;
	refuse_before_applier(truncation, &look->state);
	if (respect == RESPECT_ALL)
	{
		refuse_before_cursors(&look->cursors);
		refuse_before_groups(&look->groups);
		refuse_before_followers(truncation, &look->followers);
	}
	refuse_before_standbys(replayed_lsn(truncation->base.last_applied_index,
										truncation->lsn));
	if (respect == RESPECT_ALL)
		refuse_before_subscriptions(look->nsubscriptions, &look->subscription);
}

static bool
is_held(const Truncation *truncation, Respect respect, const Look *look)
{
	uint64		last = truncation->base.last_applied_index;
	StandbyBehind standby;

	return is_needed(respect, look) ||
		(respect == RESPECT_ALL && look->followers.n > 0) ||
		look->state.machine.last_applied_index < last ||
		standbys_behind(replayed_lsn(last, truncation->lsn), &standby) > 0;
}

/*
 * Remove what is in front of an epoch.  With "held" NULL it is an error if somebody is in
 * the way; else it is told, and nothing is removed.  Returns how many entries went.
 */
static uint64
remove_before(DatabaseSlot *database, uint64 epoch, Respect respect, bool wait,
			  bool *held)
{
	const LogTable *table = log_table_require();
	Truncation	truncation;
	Look		look = {0};
	bool		has_batch;
	bool		seen = true;
	bool		alone;
	uint64		removed;

	if (!truncate_plan(table, epoch, &truncation))
		return 0;
	/* without a batch in what goes nobody can lack anything of it */
	has_batch = truncation.base.last_applied_epoch != MACHINE_NO_EPOCH;
	if (has_batch)
		/* who names an epoch hears of cursors that are lost, unless that is routine */
		seen = find_needs(database, &truncation, respect, held != NULL,
						  held != NULL || calvin_max_consumer_lag > 0, wait, &look);
	else
		database_read(database, &look.state);
	/* they need every entry, whatever it is */
	alone = seen && look_at_followers(&truncation, respect, wait, &look.followers);
	if (held == NULL)
		refuse(&truncation, respect, &look);
	else
	{
		*held = !seen || !alone || is_held(&truncation, respect, &look);
		if (*held)
		{
			if (seen && has_batch)
				needs_unfence();
			return 0;
		}
	}
	mark_lost(&truncation, &look.groups);
	tell_left_behind(&look.followers);
	PAUSE_POINT("truncate: before removing");
	removed = truncate_execute(table, &truncation, &look.cursors);
	CommandCounterIncrement();
	return removed;
}

/* All that the applier and the standbys have, of any age. */
static void
set_limits(DatabaseSlot *database, int entries, Size bytes, RangeLimits *limits)
{
	PublishedState state;

	database_read(database, &state);
	limits->through_index = state.machine.last_applied_index;
	limits->before_epoch = PG_UINT64_MAX;
	limits->appended_before = DT_NOEND;
	limits->lag_before = calvin_max_consumer_lag == 0 ? DT_NOBEGIN :
		GetCurrentTimestamp() - calvin_max_consumer_lag * USECS_PER_SEC;
	replayed_look(&limits->replayed);
	limits->entries = entries;
	limits->bytes = bytes;
}

/* The whole of a range, or nothing of it if it is held. */
static uint64
remove_range(DatabaseSlot *database, const LogRange *range, bool wait, bool *held)
{
	*held = false;
	if (range->before_epoch == 0)
		return 0;
	return remove_before(database, range->before_epoch,
						 range->lagging ? RESPECT_SERVERS : RESPECT_ALL, wait, held);
}

/*
 * A step within limits, which become smaller until nobody holds it: so a search for
 * where somebody does reads not more than twice what a step may have.
 */
static uint64
remove_some(DatabaseSlot *database, RangeLimits *limits, bool wait, LogRange *range,
			bool *held)
{
	for (;;)
	{
		uint64		removed;

		CHECK_FOR_INTERRUPTS();
		range_find(limits, range);
		removed = remove_range(database, range, wait, held);
		if (removed == 0 && range->lagging)
		{
			/* what is behind its last batch is younger: as ever, then */
			limits->lag_before = DT_NOBEGIN;
			range_find(limits, range);
			removed = remove_range(database, range, wait, held);
		}
		if (!*held || limits->entries <= 1)
			return removed;
		limits->entries /= 2;
		limits->bytes /= 2;
	}
}

/*
 * What the standbys have replayed is known by the pages as they are before anything is
 * removed.
 */
static void
note_replayed(DatabaseSlot *database)
{
	RangeLimits limits;
	LogRange	range;

	set_limits(database, INT_MAX, (Size) PG_INT64_MAX, &limits);
	if (XLogRecPtrIsInvalid(limits.replayed.lsn))
		return;
	limits.lag_before = DT_NOBEGIN;
	range_find(&limits, &range);
	replayed_note(range.through_index, limits.replayed.lsn);
}

uint64
truncation_before(DatabaseSlot *database, uint64 epoch, bool force)
{
	LogIdentity self = log_become_owner(log_table_require());
	uint64		removed = 0;
	uint64		some = calvin_max_consumer_lag > 0 && !force;

	needs_lock_truncation();
	if (some > 0)
		note_replayed(database);
	while (some > 0)
	{
		RangeLimits limits;
		LogRange	range;
		bool		held;

		set_limits(database, LARGE_STEP_ENTRIES, LARGE_STEP_BYTES, &limits);
		limits.before_epoch = epoch;
		range_find(&limits, &range);
		some = range.lagging ? remove_range(database, &range, true, &held) : 0;
		removed += some;
	}
	removed += remove_before(database, epoch, force ? RESPECT_NOBODY : RESPECT_ALL, true,
							 NULL);
	log_become_self(&self);
	return removed;
}

uint64
truncation_unneeded(DatabaseSlot *database)
{
	LogIdentity self = log_become_owner(log_table_require());
	int			entries = LARGE_STEP_ENTRIES;
	Size		bytes = LARGE_STEP_BYTES;
	uint64		removed = 0;
	uint64		some;

	needs_lock_truncation();
	note_replayed(database);
	do
	{
		RangeLimits limits;
		LogRange	range;
		bool		held;

		set_limits(database, entries, bytes, &limits);
		some = remove_some(database, &limits, true, &range, &held);
		removed += some;
		/* what was held is not looked at in such large steps again */
		entries = limits.entries;
		bytes = limits.bytes;
	} while (some > 0);
	log_become_self(&self);
	return removed;
}

TruncationStep
truncation_step(DatabaseSlot *database, TimestampTz before, TimestampTz *too_young)
{
	LogIdentity self;
	RangeLimits limits;
	LogRange	range;
	bool		held;
	uint64		removed;

	*too_young = 0;
	if (!needs_try_lock_truncation())
		return TRUNCATION_HELD;
	self = log_become_owner(log_table_require());
	set_limits(database, STEP_ENTRIES, STEP_BYTES, &limits);
	limits.appended_before = before;
	removed = remove_some(database, &limits, false, &range, &held);
	log_become_self(&self);
	*too_young = range.too_young;
	if (removed > 0)
		return TRUNCATION_MORE;
	return held || range.unreplayed ||
		(uint64) append_committed_end() > limits.through_index ?
		TRUNCATION_HELD : TRUNCATION_DONE;
}
