/*
 * completion.h
 *	  Which participants of a transaction have acknowledged it.
 *
 * Answered from the log, by index: nothing is kept in memory, and a restart
 * changes nothing.
 */
#ifndef CALVIN_LOG_COMPLETION_H
#define CALVIN_LOG_COMPLETION_H

#include "compat.h"

#include "wire/wire.h"

typedef struct Completion
{
	bool		known; /* the batch is in the log */
	bool		complete; /* every participant has acknowledged */
	uint32		txn_count; /* of the batch, if known */
	int			nexpected;
	int			nacked;
	uint16		expected[WIRE_VSHARDS]; /* participants, ascending */
	uint16		acked[WIRE_VSHARDS];	/* of these, ascending */
} Completion;

/*
 * Look a transaction up in the rows up to log_index "through".  An ack counts
 * if it stands behind the batch; others than participants' do not count.
 * position must be below txn_count, if known: the caller checks.  An error if
 * the batch was truncated.
 */
extern void completion_look_up(uint64 epoch, uint32 position, uint64 through,
							   Completion *completion);

/* Is an acknowledgement in the log, behind its batch if that is there? */
extern bool completion_has_ack(uint64 epoch, uint32 position, uint16 vshard);

#endif							/* CALVIN_LOG_COMPLETION_H */
