/*
 * source_state.h
 *	  What a source says of its log: the answer of seq_feed_state().
 */
#ifndef CALVIN_PROCESS_SOURCE_STATE_H
#define CALVIN_PROCESS_SOURCE_STATE_H

#include "compat.h"

#include "machine/machine.h"
#include "process/source.h"
#include "utils/uuid.h"

typedef struct SourceState
{
	int			digest_version;
	bool		identified;
	pg_uuid_t	identity;
	bool		follows;
	pg_uuid_t	follower;
	uint64		applied;
	uint64		log_end;
	MachineState base;
	bool		found;
	uint64		found_index;
	uint64		digest;
} SourceState;

/* False if it is not one; nothing of it is believed without being looked at. */
extern bool source_state_read(const PGresult *result, SourceState *state);

/*
 * The end of a query of what has "schema" as its extension's: one row if the log there has
 * our digest where ours ends, or else none; palloc'd.
 */
extern char *source_with_our_log(const char *schema, const MachineState *here);

#endif							/* CALVIN_PROCESS_SOURCE_STATE_H */
