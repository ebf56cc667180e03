/*
 * truncate.h
 *	  Removing a prefix of the log.
 */
#ifndef CALVIN_LOG_TRUNCATE_H
#define CALVIN_LOG_TRUNCATE_H

#include "compat.h"

#include "access/xlogdefs.h"
#include "log/table.h"
#include "machine/machine.h"

typedef struct Truncation
{
	uint64		behind; /* log_index of the base there is, 0 for none */
	MachineState base; /* at the end of what goes */
	XLogRecPtr	lsn;   /* the last row that goes was in WAL before it */
} Truncation;

/*
 * What there is to remove before an epoch: the entries in front of the first
 * batch that raised the epoch to it or above, but never the log's last batch
 * that did, which tells the log's epoch.  False if there is nothing.  Holds off
 * other truncations, and snapshots, to the end of the transaction.
 */
extern bool truncate_plan(const LogTable *table, uint64 before_epoch,
						  Truncation *truncation);

/* Remove it, and store the base; returns how many entries went. */
extern uint64 truncate_execute(const LogTable *table,
							   const Truncation *truncation);

#endif							/* CALVIN_LOG_TRUNCATE_H */
