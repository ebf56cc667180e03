/*
 * snapshots.h
 *	  Snapshots of the state machine: the table seq_snapshots.
 */
#ifndef CALVIN_LOG_SNAPSHOTS_H
#define CALVIN_LOG_SNAPSHOTS_H

#include "compat.h"

#include "log/table.h"
#include "machine/machine.h"
#include "utils/snapshot.h"

/* Columns of seq_snapshots, as the extension script creates them. */
#define SNAPSHOT_ATTR_INDEX 1
#define SNAPSHOT_ATTR_EPOCH 2
#define SNAPSHOT_ATTR_DIGEST 3
#define SNAPSHOT_ATTR_VERSION 4
#define SNAPSHOT_ATTR_TAKEN_AT 5

/* Older ones than so many are removed when one is stored. */
#define SNAPSHOTS_KEPT 16

/*
 * The state as of the last usable snapshot: of this digest version, and of an
 * entry that is in the log.  False if there is none.
 */
extern bool snapshots_latest(const LogTable *table, Snapshot snapshot,
							 MachineState *state);

/*
 * Store a snapshot, unless there is one of that log_index already.  With
 * "nowait" also not if somebody else has the table locked.  No triggers fire.
 */
extern void snapshots_store(const LogTable *table, const MachineState *state,
							bool nowait);

#endif							/* CALVIN_LOG_SNAPSHOTS_H */
