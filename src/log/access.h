/*
 * access.h
 *	  The one way to the extension's tables: locked first, then looked up, then
 *	  a snapshot.
 *
 * Whoever waits for a table's lock may find it rewritten, its indexes replaced
 * or the extension created anew: what was looked up before is then of another
 * table, and a snapshot taken before sees none of the rows that were moved.  So
 * nobody gets a relation, an index or a snapshot of them but as a whole.
 */
#ifndef CALVIN_LOG_ACCESS_H
#define CALVIN_LOG_ACCESS_H

#include "compat.h"

#include "executor/tuptable.h"
#include "log/table.h"
#include "utils/snapshot.h"

typedef enum AccessSnapshot
{
	ACCESS_LATEST, /* what is committed once the locks are held */
	ACCESS_SELF,   /* that, and all of this transaction, whenever it is read */
	ACCESS_STATEMENT /* what the running statement sees */
} AccessSnapshot;

/*
 * What is wanted beside reading seq_log.  The other tables only when they are
 * needed: nobody shall wait for who has locked one of them, if the log will do.
 */
#define ACCESS_SNAPSHOTS 0x01 /* read seq_snapshots, with the same snapshot */
#define ACCESS_IDENTITY 0x02  /* read seq_identity, likewise */
#define ACCESS_WRITE 0x04	  /* change seq_log: stays locked */

typedef struct LogAccess
{
	LogTable	table; /* as it is under the lock */
	int			flags;
	Relation	log;
	Relation	by_index; /* the indexes on log_index, */
	Relation	by_epoch; /* on the epoch of batches, */
	Relation	by_ack;	  /* and on what acks are for */
	Relation	snapshots; /* NULL unless wanted */
	Relation	snapshots_by_index;
	Relation	identity;
	Relation	identity_by_key;
	Snapshot	snapshot;
} LogAccess;

/*
 * Open the log.  An error if the extension is not installed, or if what the
 * statement sees is gone with a rewrite of the table.  The memory is the
 * caller's; the locks that reading needs last to log_access_end().
 */
extern void log_access_begin(LogAccess *access, int flags, AccessSnapshot kind);

/* The same; false if the extension is not installed. */
extern bool log_access_try_begin(LogAccess *access, int flags,
								 AccessSnapshot kind);

extern void log_access_end(LogAccess *access);

/* One of the other tables by itself, with what is committed in it. */
typedef struct SideAccess
{
	Relation	rel;
	Relation	by_key; /* its primary key */
	LOCKMODE	mode;
	Snapshot	snapshot;
} SideAccess;

extern void side_access_begin(SideAccess *access, SideTable side, LOCKMODE mode,
							  AccessSnapshot kind);

/* Make one the active snapshot, which what others have attached to a table may need. */
extern void access_push_snapshot(void);

/*
 * May the transaction change a row that was found with a later snapshot?  Not in
 * the higher isolation levels, unless its own snapshot has it.
 */
extern bool side_access_serializable(const SideAccess *access, TupleTableSlot *row);

/* With what is committed by now. */
extern void side_access_refresh(SideAccess *access);
extern void side_access_end(SideAccess *access);

#endif							/* CALVIN_LOG_ACCESS_H */
