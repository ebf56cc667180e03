/*
 * dump.h
 *	  What waits in the inbox, for a dump.
 */
#ifndef CALVIN_LOG_DUMP_H
#define CALVIN_LOG_DUMP_H

#include "compat.h"

/* A submission as a row of seq_inbox. */
typedef struct DumpedSubmission
{
	int64		place;
	int64		number;
	int64		log_end;
	const char *tx_class;
	uint32		size;
} DumpedSubmission;

typedef void (*DumpEmit) (void *context, const DumpedSubmission *submission);

/*
 * All that waits by the running statement's snapshot, in order.  An error if some of
 * it may have gone since that was taken.
 */
extern void dump_waiting(DumpEmit emit, void *context);

#endif							/* CALVIN_LOG_DUMP_H */
