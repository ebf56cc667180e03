/*
 * handlers.c
 *	  The view seq_handlers.
 */
#include "compat.h"

#include "access/xlog.h"
#include "catalog/pg_type_d.h"
#include "log/definitions.h"
#include "miscadmin.h"
#include "process/permitted.h"
#include "shared/database.h"
#include "shared/handler_slot.h"
#include "sql/result.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

CALVIN_FUNCTION(seq_handlers_info);

/*
 * (name name, id bigint, handler text, role name, workers int, pids int[],
 *  max_attempts int, batch int, backoff interval, rate double precision, state text,
 *  last_error text, last_error_at timestamptz, defined_at timestamptz,
 *  attempted int[])
 */
#define HANDLER_COLUMNS 15

/* What the workers of one handler are, taken together. */
typedef struct Workers
{
	int			n; /* that have a slot, */
	int			running;
	bool		no_place; /* or one of them: */
	bool		held;
	bool		retrying;
	Datum	   *pids;
	int			attempting;
	Datum	   *attempted; /* partitions */
	double		rate;
	const HandlerView *failed; /* last */
} Workers;

static void
add_up(Workers *workers, const HandlerDefinition *definition, const HandlerView *views,
	   int n)
{
	memset(workers, 0, sizeof(*workers));
	workers->pids = palloc(sizeof(Datum) * Max(n, 1));
	workers->attempted = palloc(sizeof(Datum) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		const HandlerView *view = &views[i];

		if (view->task.id != definition->id)
			continue;
		/* also of those that are to leave, since they were defined otherwise */
		if (view->attempt >= 0)
			workers->attempted[workers->attempting++] = Int32GetDatum(view->attempt);
		if (view->task.definition != definition->definition || view->ending)
			continue;
		workers->n++;
		if (view->pid != 0)
			workers->pids[workers->running++] = Int32GetDatum((int32) view->pid);
		workers->no_place |= view->no_place;
		workers->held |= view->held;
		workers->retrying |= view->retrying;
		workers->rate += view->rate;
		if (view->last_error_at != 0 &&
			(workers->failed == NULL ||
			 workers->failed->last_error_at < view->last_error_at))
			workers->failed = view;
	}
}

/* Nobody who reads definitions has a place himself. */
static bool
sequencer_has_no_place(void)
{
	DatabaseSlot *slot = database_mine();
	DatabaseView view;

	if (slot == NULL)
		return false;
	database_view(slot, &view);
	return view.workers[WORKER_SEQUENCER].no_place;
}

static const char *
state_name(const HandlerDefinition *definition, const Workers *workers, bool refused)
{
	if (RecoveryInProgress())
		return "standby";
	if (refused)
		return "stopped";
	if (workers->held)
		return "held";
	if (workers->no_place || (workers->n == 0 && sequencer_has_no_place()))
		return "no place";
	if (workers->retrying)
		return "retrying";
	if (workers->running >= definition->workers)
		return "running";
	return handler_slots_full() && workers->n < definition->workers ? "no slot" : "starting";
}

static Datum
interval_of_ms(int ms)
{
	Interval   *interval = palloc0(sizeof(Interval));

	interval->time = (TimeOffset) ms * 1000;
	return IntervalPGetDatum(interval);
}

Datum
seq_handlers_info(PG_FUNCTION_ARGS)
{
	static const Oid types[HANDLER_COLUMNS] = {
		NAMEOID, INT8OID, TEXTOID, NAMEOID, INT4OID, INT4ARRAYOID, INT4OID, INT4OID,
		INTERVALOID, FLOAT8OID, TEXTOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT4ARRAYOID
	};
	ReturnSetInfo *rsinfo = result_rows(fcinfo, HANDLER_COLUMNS, types);
	HandlerDefinition *definitions;
	HandlerView *views;
	int			nviews;
	int			n;

	shmem_require();
	n = definitions_list(&definitions);
	views = palloc(sizeof(HandlerView) * Max(calvin_max_handlers, 1));
	nviews = handler_slots_view(MyDatabaseId, views);
	for (int i = 0; i < n; i++)
	{
		const HandlerDefinition *definition = &definitions[i];
		HandlerFunction function;
		HandlerRefusal refusal;
		bool		refused = !handler_permitted(definition, &function, &refusal) ||
			!handler_has_group(definition, &refusal);
		char	   *role = GetUserNameFromId(definition->role, true);
		NameData	role_name = definition->role_name;
		Workers		workers;
		Datum		values[HANDLER_COLUMNS];
		bool		nulls[HANDLER_COLUMNS] = {false};

		if (role != NULL)
			namestrcpy(&role_name, role);
		add_up(&workers, definition, views, nviews);
		values[0] = NameGetDatum(&definition->name);
		values[1] = Int64GetDatum((int64) definition->id);
		values[2] = CStringGetTextDatum(handler_signature(definition));
		values[3] = NameGetDatum(&role_name);
		values[4] = Int32GetDatum(definition->workers);
		values[5] = PointerGetDatum(construct_array(workers.pids, workers.running, INT4OID,
													sizeof(int32), true, TYPALIGN_INT));
		values[6] = Int32GetDatum(definition->max_attempts);
		values[7] = Int32GetDatum(definition->batch);
		values[8] = interval_of_ms(definition->backoff_ms);
		values[9] = Float8GetDatum(workers.rate);
		values[10] = CStringGetTextDatum(state_name(definition, &workers, refused));
		nulls[11] = !refused && workers.failed == NULL;
		values[11] = nulls[11] ? (Datum) 0 :
			CStringGetTextDatum(refused ? refusal.message : workers.failed->last_error);
		nulls[12] = refused || workers.failed == NULL;
		values[12] = nulls[12] ? (Datum) 0 :
			TimestampTzGetDatum(workers.failed->last_error_at);
		values[13] = TimestampTzGetDatum(definition->defined_at);
		values[14] = PointerGetDatum(construct_array(workers.attempted, workers.attempting,
													 INT4OID, sizeof(int32), true,
													 TYPALIGN_INT));
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}
