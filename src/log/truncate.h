/*
 * truncate.h
 *	  Removing a prefix of the log.
 */
#ifndef CALVIN_LOG_TRUNCATE_H
#define CALVIN_LOG_TRUNCATE_H

#include "compat.h"

#include "access/xlogdefs.h"
#include "log/cursors.h"
#include "log/table.h"
#include "machine/machine.h"

typedef struct Truncation
{
	MachineState begin; /* the base there is, or that of a whole log */
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

/*
 * The last key for each vshard in what goes, from an epoch on; MACHINE_NO_EPOCH
 * where there is none.  "last" has room for WIRE_VSHARDS.
 */
extern void truncate_find_traffic(const Truncation *truncation,
								  uint64 from_epoch, StreamKey *last);

/* The durable cursors that stand within what goes. */
typedef struct CursorSurvey
{
	TransactionId changing; /* moves some of them just now, which are left out */
	int			nneedy; /* something of it is for them, or may have been */
	NamedCursor needy;	/* the one of these that is furthest behind */
	int			nquiet; /* nothing of it is */
	NamedCursor *quiet;
} CursorSurvey;

/*
 * Judged by the traffic from an epoch on: what is before that is not known.  One that
 * an earlier truncation has passed is lost, and needs something unless "pass_lost".
 */
extern void truncate_survey_cursors(const Truncation *truncation,
									const StreamKey *traffic, uint64 from_epoch,
									bool pass_lost, CursorSurvey *survey);

/*
 * Remove it, store the base, and move the quiet cursors behind it; returns how
 * many entries went.
 */
extern uint64 truncate_execute(const LogTable *table,
							   const Truncation *truncation,
							   const CursorSurvey *survey);

/*
 * For the triggers that keep the log as it is: is a truncation removing this entry just
 * now, or (0) any?
 */
extern bool truncate_is_removing(int64 log_index);

#endif							/* CALVIN_LOG_TRUNCATE_H */
