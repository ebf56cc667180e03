/*
 * inbox.c
 *	  The table seq_inbox, through which a dump carries what waits.
 */
#include "compat.h"

#include "access/htup_details.h"
#include "catalog/pg_type_d.h"
#include "log/dump.h"
#include "log/hint.h"
#include "log/report.h"
#include "log/table.h"
#include "shared/wakeup.h"
#include "sql/result.h"
#include "sql/triggers.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"

CALVIN_FUNCTION(seq_inbox_waiting);
CALVIN_FUNCTION(seq_inbox_before_insert);

static void
put_row(void *context, const DumpedSubmission *submission)
{
	ReturnSetInfo *rsinfo = context;
	Datum		values[4];
	bool		nulls[4] = {false};
	bytea	   *tx_class = palloc_extended(VARHDRSZ + submission->size,
										   MCXT_ALLOC_HUGE);

	SET_VARSIZE(tx_class, VARHDRSZ + submission->size);
	memcpy(VARDATA(tx_class), submission->tx_class, submission->size);
	values[LANDING_ATTR_PLACE - 1] = Int64GetDatum(submission->place);
	values[LANDING_ATTR_SUBMISSION - 1] = Int64GetDatum(submission->number);
	values[LANDING_ATTR_LOG_END - 1] = Int64GetDatum(submission->log_end);
	values[LANDING_ATTR_TX_CLASS - 1] = PointerGetDatum(tx_class);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	pfree(tx_class);
}

/* seq_inbox_waiting() -> setof seq_inbox */
Datum
seq_inbox_waiting(PG_FUNCTION_ARGS)
{
	static const Oid types[] = {INT8OID, INT8OID, INT8OID, BYTEAOID};

	dump_waiting(put_row, result_rows(fcinfo, lengthof(types), types));
	return (Datum) 0;
}

/* BEFORE INSERT FOR EACH ROW on seq_inbox: what a restore brings is to go into the log. */
Datum
seq_inbox_before_insert(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	bool		isnull;
	Datum		value;
	bytea	   *tx_class;
	WireTxClassFigures figures;
	bool		canonical;
	WireError	error;

	trigger_require_insert_into(fcinfo, "seq_inbox_before_insert", SIDE_LANDING);
	value = heap_getattr(trigger->tg_trigtuple, LANDING_ATTR_TX_CLASS,
						 RelationGetDescr(trigger->tg_relation), &isnull);
	if (!isnull)
	{
		tx_class = DatumGetByteaPP(value);
		if (!wire_examine_tx_class((const uint8 *) VARDATA_ANY(tx_class),
								   VARSIZE_ANY_EXHDR(tx_class), &figures,
								   &canonical, &error))
			wire_report(&error);
		if (!canonical)
			ereport(ERROR,
					(errcode(ERRCODE_DATA_EXCEPTION),
					 errmsg("tx_class is not in canonical form"),
					 errhint_for_role("Use seq_submit_encoded() to submit something.")));
		if ((Pointer) tx_class != DatumGetPointer(value))
			pfree(tx_class);
	}
	wakeup_sequencer_at_commit();
	return PointerGetDatum(trigger->tg_trigtuple);
}
