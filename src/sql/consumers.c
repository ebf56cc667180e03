/*
 * consumers.c
 *	  The views seq_consumers and seq_behind, and seq_pending.
 */
#include "compat.h"

#include "catalog/pg_type_d.h"
#include "consumer/backlog.h"
#include "consumer/behind.h"
#include "log/attach.h"
#include "log/followers.h"
#include "log/hint.h"
#include "log/identity.h"
#include "log/reader.h"
#include "log/snapshots.h"
#include "miscadmin.h"
#include "shared/database.h"
#include "shared/handler_slot.h"
#include "shared/subscription.h"
#include "sql/args.h"
#include "sql/result.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"
#include "utils/uuid.h"

CALVIN_FUNCTION(seq_consumers_info);
CALVIN_FUNCTION(seq_behind_info);
CALVIN_FUNCTION(seq_pending);

/*
 * (name name, id bigint, kind text, owner oid, vshards int[], partitions int,
 *  epochs_behind bigint, pending bigint, oldest_unprocessed timestamptz,
 *  delivered bigint, retried bigint, last_progress timestamptz, lost boolean,
 *  pids int[])
 */
#define CONSUMER_COLUMNS 14

static Datum
vshards_array(const Backlog *backlog)
{
	Datum	   *elements = palloc(sizeof(Datum) * Max(backlog->nwanted, 1));
	int			n = 0;

	for (int v = 0; v < WIRE_VSHARDS; v++)
		if (backlog->wanted[v])
			elements[n++] = Int32GetDatum(v);
	return PointerGetDatum(construct_array(elements, n, INT4OID, sizeof(int32), true,
										   TYPALIGN_INT));
}

static void
put_time(Datum *value, bool *isnull, TimestampTz at)
{
	*value = TimestampTzGetDatum(at);
	*isnull = at == 0;
}

/* Subscribers of a stream by one look at all, each pid once. */
static int
subscribers(const char *name, int n, const SubscriptionView *views, int **pids)
{
	int			count = 0;

	*pids = palloc(sizeof(int) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		bool		known = false;

		if (strcmp(NameStr(views[i].name), name) != 0)
			continue;
		for (int k = 0; k < count && !known; k++)
			known = (*pids)[k] == (int) views[i].pid;
		if (!known)
			(*pids)[count++] = (int) views[i].pid;
	}
	return count;
}

/* Who fetches for a group, and those who handle for it, also while they wait. */
static int
workers(uint64 id, int **pids)
{
	HandlerView *handlers;
	int			n = registry_users(id, pids);
	int			nhandlers;

	if (Calvin == NULL)
		return n;
	handlers = palloc(sizeof(HandlerView) * Max(calvin_max_handlers, 1));
	nhandlers = handler_slots_view(MyDatabaseId, handlers);
	*pids = repalloc(*pids, sizeof(int) * (n + nhandlers + 1));
	for (int i = 0; i < nhandlers; i++)
	{
		bool		known = handlers[i].task.id != id || handlers[i].pid == 0;

		for (int k = 0; k < n && !known; k++)
			known = (*pids)[k] == (int) handlers[i].pid;
		if (!known)
			(*pids)[n++] = (int) handlers[i].pid;
	}
	pfree(handlers);
	return n;
}

/* Sessions that use a name: null if there are none. */
static Datum
pids_array(const Backlog *backlog, int nviews, const SubscriptionView *views,
		   bool *isnull)
{
	int		   *pids;
	int			n = backlog->group != NULL ? workers(backlog->group->id, &pids) :
		subscribers(NameStr(backlog->name), nviews, views, &pids);
	Datum	   *elements = palloc(sizeof(Datum) * Max(n, 1));

	for (int i = 0; i < n; i++)
		elements[i] = Int32GetDatum(pids[i]);
	*isnull = n == 0;
	return n == 0 ? (Datum) 0 :
		PointerGetDatum(construct_array(elements, n, INT4OID, sizeof(int32), true,
										TYPALIGN_INT));
}

static int
all_subscriptions(SubscriptionView **views)
{
	*views = NULL;
	if (Calvin == NULL)
		return 0;
	*views = palloc(sizeof(SubscriptionView) * Calvin->max_subscriptions);
	return subscription_views(MyDatabaseId, *views);
}

Datum
seq_consumers_info(PG_FUNCTION_ARGS)
{
	static const Oid types[CONSUMER_COLUMNS] = {
		NAMEOID, INT8OID, TEXTOID, OIDOID, INT4ARRAYOID, INT4OID, INT8OID, INT8OID,
		TIMESTAMPTZOID, INT8OID, INT8OID, TIMESTAMPTZOID, BOOLOID, INT4ARRAYOID
	};
	ReturnSetInfo *rsinfo = result_rows(fcinfo, CONSUMER_COLUMNS, types);
	SubscriptionView *views;
	int			nviews;
	Backlog    *backlogs;
	int			n;

	nviews = all_subscriptions(&views);
	n = backlog_count_all(&backlogs);
	for (int i = 0; i < n; i++)
	{
		const Backlog *backlog = &backlogs[i];
		const Registration *registration = backlog->registration;
		bool		group = backlog->group != NULL;
		Datum		values[CONSUMER_COLUMNS];
		bool		nulls[CONSUMER_COLUMNS] = {false};

		values[0] = NameGetDatum(&backlog->name);
		values[1] = Int64GetDatum(registration != NULL ? (int64) registration->id : 0);
		nulls[1] = nulls[3] = registration == NULL;
		values[2] = CStringGetTextDatum(group ? "group" : "stream");
		values[3] = ObjectIdGetDatum(registration != NULL ? registration->owner :
									 InvalidOid);
		nulls[4] = registration != NULL && registration->vshards == NULL;
		values[4] = nulls[4] ? (Datum) 0 : vshards_array(backlog);
		values[5] = Int32GetDatum(group ? backlog->group->partitions : 0);
		nulls[5] = nulls[9] = nulls[10] = !group;
		values[6] = Int64GetDatum((int64) backlog->epochs);
		values[7] = Int64GetDatum((int64) backlog->txns);
		put_time(&values[8], &nulls[8], backlog->oldest);
		values[9] = Int64GetDatum((int64) backlog->delivered);
		values[10] = Int64GetDatum((int64) backlog->retried);
		put_time(&values[11], &nulls[11], backlog->last_progress);
		values[12] = BoolGetDatum(backlog->lost);
		values[13] = pids_array(backlog, nviews, views, &nulls[13]);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/*
 * (kind text, name text, id text, oldest_unprocessed timestamptz,
 *  last_progress timestamptz, lost boolean, pids int[])
 */
#define BEHIND_COLUMNS 7

static void
put_behind(ReturnSetInfo *rsinfo, Datum values[BEHIND_COLUMNS],
		   bool nulls[BEHIND_COLUMNS], TimestampTz oldest, TimestampTz progress)
{
	put_time(&values[3], &nulls[3], oldest);
	put_time(&values[4], &nulls[4], progress);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/* The applier, by what it has published; none where it has nothing to apply to. */
static void
put_applier(ReturnSetInfo *rsinfo)
{
	DatabaseSlot *slot = attach_database();
	PublishedState state;
	DatabaseView view;
	LogAccess	access;
	TimestampTz oldest;
	Datum		values[BEHIND_COLUMNS] = {0};
	bool		nulls[BEHIND_COLUMNS] = {false};

	database_read(slot, &state);
	database_view(slot, &view);
	log_access_begin(&access, 0, ACCESS_LATEST);
	oldest = log_appended_at(&access, (int64) state.machine.last_applied_index + 1);
	log_access_end(&access);
	values[0] = CStringGetTextDatum("applier");
	nulls[1] = nulls[2] = true;
	values[5] = BoolGetDatum(false);
	nulls[6] = view.workers[WORKER_APPLIER].pid == 0;
	if (!nulls[6])
	{
		Datum		pid = Int32GetDatum((int32) view.workers[WORKER_APPLIER].pid);

		values[6] = PointerGetDatum(construct_array(&pid, 1, INT4OID, sizeof(int32),
													true, TYPALIGN_INT));
	}
	put_behind(rsinfo, values, nulls, oldest, 0);
}

static void
put_consumers(ReturnSetInfo *rsinfo)
{
	SubscriptionView *views;
	int			nviews = all_subscriptions(&views);
	Backlog    *backlogs;
	int			n = behind_list(&backlogs);

	for (int i = 0; i < n; i++)
	{
		const Backlog *backlog = &backlogs[i];
		Datum		values[BEHIND_COLUMNS] = {0};
		bool		nulls[BEHIND_COLUMNS] = {false};

		values[0] = CStringGetTextDatum(backlog->group != NULL ? "group" : "stream");
		values[1] = CStringGetTextDatum(NameStr(backlog->name));
		nulls[2] = backlog->registration == NULL;
		if (!nulls[2])
			values[2] = CStringGetTextDatum(psprintf(UINT64_FORMAT, backlog->registration->id));
		values[5] = BoolGetDatum(backlog->lost);
		values[6] = pids_array(backlog, nviews, views, &nulls[6]);
		put_behind(rsinfo, values, nulls, backlog->oldest, backlog->last_progress);
	}
}

/* Those who follow this log, by what they have told to have. */
static void
put_followers(ReturnSetInfo *rsinfo)
{
	FollowerPosition *positions;
	int			n = followers_list(&positions);
	MachineState base;
	LogAccess	access;

	log_access_begin(&access, ACCESS_SNAPSHOTS, ACCESS_LATEST);
	snapshots_begin(&access, &base);
	for (int i = 0; i < n; i++)
	{
		const FollowerPosition *position = &positions[i];
		TimestampTz oldest;
		Datum		values[BEHIND_COLUMNS] = {0};
		bool		nulls[BEHIND_COLUMNS] = {false};

		/* behind what was truncated there may be much that is not vacuumed yet */
		oldest = log_appended_at(&access, (int64) Max(position->log_index,
													  base.last_applied_index) + 1);
		values[0] = CStringGetTextDatum("follower");
		values[1] = CStringGetTextDatum(position->name);
		values[2] = CStringGetTextDatum(identity_text(&position->id));
		values[5] = BoolGetDatum(position->log_index < base.last_applied_index);
		nulls[6] = true;
		put_behind(rsinfo, values, nulls, oldest, position->seen_at);
	}
	log_access_end(&access);
}

Datum
seq_behind_info(PG_FUNCTION_ARGS)
{
	static const Oid types[BEHIND_COLUMNS] = {
		TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, BOOLOID, INT4ARRAYOID
	};
	ReturnSetInfo *rsinfo = result_rows(fcinfo, BEHIND_COLUMNS, types);

	put_applier(rsinfo);
	put_consumers(rsinfo);
	put_followers(rsinfo);
	return (Datum) 0;
}

/* seq_pending(name) -> transactions that are to come, parked ones not */
Datum
seq_pending(PG_FUNCTION_ARGS)
{
	char	   *name = arg_name(PG_GETARG_TEXT_PP(0), "consumer");
	Backlog    *backlog = palloc(sizeof(Backlog));

	if (!backlog_count_one(name, backlog))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("there is no consumer \"%s\"", name),
				 errdetail("It is not registered, and has no durable cursor."),
				 errhint_for_role("seq_consumers shows those there are.")));
	if (backlog->lost)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("consumer \"%s\" is lost: the log was truncated beyond where it stands",
						name),
				 errdetail("What it has not processed cannot be counted any more.")));
	PG_RETURN_INT64((int64) backlog->txns);
}
