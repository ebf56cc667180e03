/*
 * snapshots.h
 *	  Snapshots of the state machine: the table seq_snapshots.
 */
#ifndef CALVIN_LOG_SNAPSHOTS_H
#define CALVIN_LOG_SNAPSHOTS_H

#include "compat.h"

#include "log/access.h"
#include "machine/machine.h"

/* Older ones than so many are removed when one is stored; the base stays. */
#define SNAPSHOTS_KEPT 16

/*
 * The state as of the last usable snapshot up to a log_index: of this digest
 * version, and of an entry that is in this very log, or of the base.  False if
 * there is none.  Needs ACCESS_SNAPSHOTS and ACCESS_IDENTITY.
 */
extern bool snapshots_latest(const LogAccess *access, uint64 through,
							 MachineState *state);

/*
 * The base: the state at the end of what was truncated.  False for a log that
 * has its beginning, or whose base was not restored yet.
 */
extern bool snapshots_base(const LogAccess *access, MachineState *state);

/* The state in front of the log as it is here: its base, or that of no log at all. */
extern void snapshots_begin(const LogAccess *access, MachineState *state);

/*
 * Store a snapshot, unless there is one of that log_index already.  With
 * "nowait" also not if somebody else has the table locked.
 */
extern void snapshots_store(const LogTable *table, const MachineState *state,
							bool nowait);

/*
 * A snapshot is about to be restored: false if it is to be passed over.  While a
 * dump is restored the applier may have stored one of the same entry already:
 * the log determines the state, so one is as good as the other.  An error for a
 * base that does not fit the log.
 */
extern bool snapshots_accept_restored(int64 log_index, bool is_base,
									  int32 version);

/* Keep others from storing snapshots, to the end of the transaction. */
extern void snapshots_lock(const LogTable *table);

/* The base is this state now; snapshots up to it go.  The lock is held. */
extern void snapshots_rebase(const LogTable *table, const MachineState *state);

#endif							/* CALVIN_LOG_SNAPSHOTS_H */
