/*
 * replicated.c
 *	  What logical replication brings from another server's tables of the extension.
 *
 * Of these the log alone is worth copying.  All others are about the server they are on:
 * how far its consumers have got, who they belong to, what it has set aside, which log
 * it is.  A publication FOR ALL TABLES has them nevertheless, so where they arrive they
 * are passed over, whatever is done to them; the subscription goes on.  That is decided
 * by who writes: a restore, with session_replication_role too, does write them.
 */
#include "compat.h"

#include "commands/trigger.h"
#include "log/table.h"
#include "replication/logicalworker.h"
#include "sql/triggers.h"
#include "utils/lsyscache.h"

CALVIN_FUNCTION(seq_pass_over_replicated);
CALVIN_FUNCTION(seq_refuse_truncate);

/* An error unless called as a trigger, for rows or not, of one of those tables. */
static void
require_side_table(FunctionCallInfo fcinfo, const char *function, bool for_row)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_BEFORE(trigger->tg_event) ||
		(TRIGGER_FIRED_FOR_ROW(trigger->tg_event) != 0) != for_row ||
		TRIGGER_FIRED_BY_TRUNCATE(trigger->tg_event) == for_row ||
		RelationGetNamespace(trigger->tg_relation) != log_table_require()->schema ||
		!shape_is_side_name(RelationGetRelationName(trigger->tg_relation)))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("%s() was not called by its trigger", function)));
}

/* BEFORE INSERT, UPDATE, DELETE FOR EACH ROW, and before all other triggers of ours. */
Datum
seq_pass_over_replicated(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	require_side_table(fcinfo, "seq_pass_over_replicated", true);
	if (IsLogicalWorker())
		return PointerGetDatum(NULL);
	return PointerGetDatum(TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ?
						   trigger->tg_newtuple : trigger->tg_trigtuple);
}

/*
 * BEFORE TRUNCATE FOR EACH STATEMENT: nothing can pass over one where it arrives, so there
 * are none.
 */
Datum
seq_refuse_truncate(PG_FUNCTION_ARGS)
{
	require_side_table(fcinfo, "seq_refuse_truncate", false);
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("cannot TRUNCATE %s",
					RelationGetRelationName(((TriggerData *) fcinfo->context)->tg_relation)),
			 errdetail("It would empty, or stop, the databases that it is replicated to."),
			 errhint("Use the functions of the extension, or DELETE.")));
	pg_unreachable();
}
