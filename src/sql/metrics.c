/*
 * metrics.c
 *	  The view seq_metrics, and seq_metrics_reset.
 */
#include "compat.h"

#include "access/htup_details.h"
#include "catalog/pg_type_d.h"
#include "log/attach.h"
#include "shared/database.h"
#include "sql/result.h"
#include "utils/timestamp.h"

CALVIN_FUNCTION(seq_metrics_info);
CALVIN_FUNCTION(seq_metrics_reset);

/* MachineCounters as an array: its columns come in the order of its fields. */
#define COUNTER_COLUMNS (sizeof(MachineCounters) / sizeof(uint64))
#define LATENCY_COLUMNS 3
#define METRICS_COLUMNS (COUNTER_COLUMNS + LATENCY_COLUMNS)

StaticAssertDecl(COUNTER_COLUMNS == 10, "columns of seq_metrics");

/*
 * (the counters bigint..., latency_p50_us, latency_p99_us, latency_max_us
 *  double precision)
 */
Datum
seq_metrics_info(PG_FUNCTION_ARGS)
{
	static const double fractions[] = {0.5, 0.99, 1.0};
	static const Oid types[METRICS_COLUMNS] = {
		INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID,
		INT8OID, INT8OID, FLOAT8OID, FLOAT8OID, FLOAT8OID
	};
	DatabaseSlot *slot = attach_database();
	MachineCounters counters;
	const uint64 *words = (const uint64 *) &counters;
	double		quantiles[LATENCY_COLUMNS];
	TupleDesc	desc;
	Datum		values[METRICS_COLUMNS];
	bool		nulls[METRICS_COLUMNS] = {false};

	desc = result_row(fcinfo, METRICS_COLUMNS, types);
	database_metrics(slot, &counters, LATENCY_COLUMNS, fractions, quantiles);
	for (size_t i = 0; i < COUNTER_COLUMNS; i++)
		values[i] = Int64GetDatum((int64) words[i]);
	for (int i = 0; i < LATENCY_COLUMNS; i++)
	{
		values[COUNTER_COLUMNS + i] = Float8GetDatum(quantiles[i]);
		nulls[COUNTER_COLUMNS + i] = quantiles[i] < 0;
	}
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, nulls)));
}

/* Count from here: the state machine itself is not touched. */
Datum
seq_metrics_reset(PG_FUNCTION_ARGS)
{
	database_reset_metrics(attach_database());
	PG_RETURN_VOID();
}
