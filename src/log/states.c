/*
 * states.c
 *	  The state of the log behind any of its entries.
 */
#include "compat.h"

#include "log/reader.h"
#include "log/snapshots.h"
#include "log/states.h"
#include "log/step.h"
#include "miscadmin.h"

static void
find_start(const LogAccess *access, uint64 through, const MachineState *known,
		   MachineState *state)
{
	bool		is_known = known != NULL && known->last_applied_index > 0 &&
		known->last_applied_index <= through;
	bool		is_stored = !(is_known && known->last_applied_index == through) &&
		snapshots_latest(access, through, state);

	if (is_known && (!is_stored || known->last_applied_index > state->last_applied_index))
		*state = *known;
	else if (!is_stored)
	{
		machine_init(state);
		if (log_first_index(access) > 1)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("the log begins above log_index 1, and its base snapshot is not there"),
					 errdetail("Without it the state behind its entries is not known."),
					 errhint("Restore seq_snapshots from the same dump as seq_log.")));
	}
}

void
states_find(const LogAccess *access, uint64 through, const MachineState *known,
			MachineState *state)
{
	MachineCounters counters = {0};
	WireDecoder decoder;
	MachineInput input;
	LogReader	reader;
	LogRow		row;

	find_start(access, through, known, state);
	if (state->last_applied_index == through)
		return;
	wire_decoder_init(&decoder, NULL, 0, NULL, 0);
	log_reader_begin_by_index(&reader, access,
							  (int64) state->last_applied_index + 1,
							  (int64) through);
	while (log_reader_next(&reader, &row))
	{
		CHECK_FOR_INTERRUPTS();
		step_input(&row, &decoder, &input);
		(void) machine_step(state, &counters, &input);
	}
	log_reader_end(&reader);
}
