/*
 * shape.h
 *	  What the extension's script made: names, columns, indexes and triggers of
 *	  its tables.
 */
#ifndef CALVIN_LOG_SHAPE_H
#define CALVIN_LOG_SHAPE_H

#include "compat.h"

#include "access/attnum.h"
#include "access/htup.h"
#include "access/tupdesc.h"
#include "utils/reltrigger.h"

#define EXTENSION_NAME "calvin_seq"

#define LOG_NAME "seq_log"
#define EPOCH_INDEX_NAME "seq_log_epoch_idx"
#define ACK_INDEX_NAME "seq_log_ack_idx"
#define CURSORS_NAME "seq_cursor_positions"
#define SNAPSHOTS_NAME "seq_snapshots"
#define IDENTITY_NAME "seq_identity"
#define LANDING_NAME "seq_inbox"
#define NUMBERS_NAME "seq_submission_numbers"
#define REGISTRATIONS_NAME "seq_registrations"
#define GROUP_POSITIONS_NAME "seq_group_positions"
#define PARKED_NAME "seq_parked_txns"
#define HANDLERS_NAME "seq_handler_definitions"
#define FOLLOWING_NAME "seq_following"
#define FOLLOWERS_NAME "seq_follower_positions"
#define ACKS_NAME "seq_outgoing_acks"
#define STARTS_NAME "seq_group_starts"
#define MOVES_NAME "seq_vshard_moves"
#define TXN_TYPE_NAME "seq_txn"

/* Columns of seq_log. */
#define LOG_ATTR_INDEX 1
#define LOG_ATTR_ENTRY 2
#define LOG_ATTR_KIND 3
#define LOG_ATTR_EPOCH 4
#define LOG_ATTR_APPENDED_AT 5

/* Contents of seq_log.kind. */
#define LOG_KIND_EPOCH_BATCH "epoch_batch"
#define LOG_KIND_STALE_BATCH "stale_batch"
#define LOG_KIND_COMPLETION_ACK "completion_ack"
#define LOG_KIND_NOOP "noop"
#define LOG_KIND_UNDECODABLE "undecodable"

/* Columns of seq_cursor_positions. */
#define CURSOR_ATTR_NAME 1
#define CURSOR_ATTR_VSHARD 2
#define CURSOR_ATTR_EPOCH 3
#define CURSOR_ATTR_POSITION 4
#define CURSOR_ATTR_VERSION 5
#define CURSOR_ATTR_COMMITTED_AT 6
#define CURSOR_ATTR_INCARNATION 7
#define CURSOR_ATTR_STORED_BY 8

/* Columns of seq_snapshots. */
#define SNAPSHOT_ATTR_INDEX 1
#define SNAPSHOT_ATTR_EPOCH 2
#define SNAPSHOT_ATTR_DIGEST 3
#define SNAPSHOT_ATTR_VERSION 4
#define SNAPSHOT_ATTR_TAKEN_AT 5
#define SNAPSHOT_ATTR_BASE 6
#define SNAPSHOT_ATTR_LENGTH 7
#define SNAPSHOT_ATTR_CRC 8
#define SNAPSHOT_ATTR_IDENTITY 9

/* Columns of seq_identity. */
#define IDENTITY_ATTR_ONE 1
#define IDENTITY_ATTR_IDENTITY 2

/* Columns of the inbox's partitions. */
#define INBOX_ATTR_STAMP 1
#define INBOX_ATTR_AT 2
#define INBOX_ATTR_LINK 3
#define INBOX_ATTR_KIND 4
#define INBOX_ATTR_DATA 5
#define INBOX_ATTRS 5

/* Columns of seq_inbox. */
#define LANDING_ATTR_PLACE 1
#define LANDING_ATTR_SUBMISSION 2
#define LANDING_ATTR_LOG_END 3
#define LANDING_ATTR_TX_CLASS 4

/* Columns of seq_registrations. */
#define REGISTRATION_ATTR_NAME 1
#define REGISTRATION_ATTR_ID 2
#define REGISTRATION_ATTR_KIND 3
#define REGISTRATION_ATTR_OWNER 4
#define REGISTRATION_ATTR_OWNER_NAME 5
#define REGISTRATION_ATTR_VSHARDS 6
#define REGISTRATION_ATTR_PARTITIONS 7
#define REGISTRATION_ATTR_COLLECTIONS 8
#define REGISTRATION_ATTR_REGISTERED_AT 9
#define REGISTRATION_ATTR_LOST_BEFORE 10
#define REGISTRATION_ATTRS 10

/* Contents of seq_registrations.kind. */
#define REGISTRATION_KIND_STREAM "stream"
#define REGISTRATION_KIND_GROUP "group"

/* Columns of seq_group_positions. */
#define GROUP_ATTR_ID 1
#define GROUP_ATTR_PARTITION 2
#define GROUP_ATTR_VERSION 3
#define GROUP_ATTR_EPOCH 4
#define GROUP_ATTR_POSITION 5
#define GROUP_ATTR_VSHARD 6
#define GROUP_ATTR_MOVED_AT 7
#define GROUP_ATTR_DELIVERED 8
#define GROUP_ATTR_ATTEMPTS 9
#define GROUP_ATTR_RETRIED 10
#define GROUP_ATTR_RETRY_AT 11
#define GROUP_ATTR_ERROR 12
#define GROUP_ATTRS 12

/* Columns of seq_parked_txns. */
#define PARKED_ATTR_ID 1
#define PARKED_ATTR_EPOCH 2
#define PARKED_ATTR_POSITION 3
#define PARKED_ATTR_VSHARD 4
#define PARKED_ATTR_SYSTEM_MS 5
#define PARKED_ATTR_TX_CLASS 6
#define PARKED_ATTR_REASON 7
#define PARKED_ATTR_ATTEMPTS 8
#define PARKED_ATTR_PARKED_AT 9
#define PARKED_ATTR_SETTLED 10
#define PARKED_ATTRS 10

/* Columns of seq_handler_definitions. */
#define HANDLER_ATTR_NAME 1
#define HANDLER_ATTR_ID 2
#define HANDLER_ATTR_DEFINITION 3
#define HANDLER_ATTR_SCHEMA 4
#define HANDLER_ATTR_FUNCTION 5
#define HANDLER_ATTR_TAKES_ARRAY 6
#define HANDLER_ATTR_ROLE 7
#define HANDLER_ATTR_ROLE_NAME 8
#define HANDLER_ATTR_WORKERS 9
#define HANDLER_ATTR_MAX_ATTEMPTS 10
#define HANDLER_ATTR_BATCH 11
#define HANDLER_ATTR_BACKOFF_MS 12
#define HANDLER_ATTR_DEFINED_AT 13
#define HANDLER_ATTR_OWNER 14
#define HANDLER_ATTRS 14

/* Columns of seq_following. */
#define FOLLOWING_ATTR_ONE 1
#define FOLLOWING_ATTR_ID 2
#define FOLLOWING_ATTR_MODE 3
#define FOLLOWING_ATTR_SOURCE 4
#define FOLLOWING_ATTR_CONNINFO 5
#define FOLLOWING_ATTR_SINCE 6
#define FOLLOWING_ATTR_FIRST_BASE 7
#define FOLLOWING_ATTRS 7

/* Contents of seq_following.mode. */
#define FOLLOWING_MODE_PULL "pull"
#define FOLLOWING_MODE_FED "fed"
#define FOLLOWING_MODE_RESTORED "restored"

/* Columns of seq_follower_positions. */
#define FOLLOWER_ATTR_ID 1
#define FOLLOWER_ATTR_NAME 2
#define FOLLOWER_ATTR_INDEX 3
#define FOLLOWER_ATTR_SEEN_AT 4
#define FOLLOWER_ATTR_SINCE 5
#define FOLLOWER_ATTRS 5

/* Columns of seq_outgoing_acks. */
#define ACK_ATTR_EPOCH 1
#define ACK_ATTR_POSITION 2
#define ACK_ATTR_VSHARD 3
#define ACK_ATTR_STORED_BY 4
#define ACK_ATTR_STORED_AT 5
#define ACK_ATTRS 5

/* Columns of seq_group_starts. */
#define START_ATTR_ID 1
#define START_ATTR_VSHARD 2
#define START_ATTR_EPOCH 3
#define START_ATTR_POSITION 4
#define START_ATTRS 4

/* Columns of seq_vshard_moves, and contents of its state. */
#define MOVE_ATTR_MOVE 1
#define MOVE_ATTR_STATE 2
#define MOVE_ATTR_NAME 3
#define MOVE_ATTR_ROLE_NAME 4
#define MOVE_ATTR_VSHARDS 5
#define MOVE_ATTR_HANDOVER 6
#define MOVE_ATTR_CHANGED_AT 7
#define MOVE_ATTRS 7
#define MOVE_STATE_REQUESTED "requested"
#define MOVE_STATE_RELEASED "released"
#define MOVE_STATE_TAKEN "taken"

/* The other tables than seq_log. */
typedef enum SideTable
{
	SIDE_CURSORS,	/* seq_cursor_positions, key (name, vshard, incarnation, version) */
	SIDE_SNAPSHOTS, /* seq_snapshots, key (log_index) */
	SIDE_IDENTITY,	/* seq_identity, key (one) */
	SIDE_LANDING,	/* seq_inbox, key (place) */
	SIDE_REGISTRATIONS, /* seq_registrations, key (name) */
	SIDE_GROUP_POSITIONS, /* seq_group_positions, key (id, partition, version) */
	SIDE_PARKED,	/* seq_parked_txns, key (id, epoch, position, vshard) */
	SIDE_HANDLERS,	/* seq_handler_definitions, key (name) */
	SIDE_FOLLOWING, /* seq_following, key (one) */
	SIDE_FOLLOWERS, /* seq_follower_positions, key (id) */
	SIDE_ACKS,		/* seq_outgoing_acks, key (epoch, position, vshard, stored_by) */
	SIDE_STARTS,	/* seq_group_starts, key (id, vshard) */
	SIDE_MOVES		/* seq_vshard_moves, key (move) */
} SideTable;

#define SIDE_TABLES 13

extern const char *shape_side_name(SideTable side);

/* Is a table's name that of one of them? */
extern bool shape_is_side_name(const char *name);

/* Raise the error for a table that is not as it was made. */
pg_noreturn extern void shape_report_altered(const char *table,
											 const char *detail);

/*
 * Is what was found as it was made?  An error if not; false if something of it
 * went away while it was looked at.
 */
extern bool shape_check_log(Relation rel, Oid *primary_key, Oid epoch_index,
							Oid ack_index);
extern bool shape_check_side(Relation rel, SideTable side, Oid *primary_key);
extern void shape_check_side_columns(Relation rel, SideTable side);

/* The name of a partition of the inbox, in a buffer of NAMEDATALEN bytes. */
extern void shape_inbox_name(uint32 partition, char *name);
extern bool shape_is_inbox_name(const char *name);

/* An error unless an open partition is as it was made. */
extern void shape_check_inbox(Relation rel);

/* How many triggers the script has made on a table, and is one of them as it made it? */
extern int	shape_own_triggers(Relation rel);
extern bool shape_is_own_trigger(Relation rel, const Trigger *trigger);

/*
 * For the guard, by the catalogs as they are now, without opening the table: how many
 * columns are the extension's own, may others be added behind them, and are its own
 * what they were?  Of relations that are not known here all are its own, and whoever
 * would change one is refused before.
 */
extern int	shape_own_columns(Oid relid);
extern bool shape_takes_columns(Oid relid);
extern bool shape_columns_intact(Oid relid);

/* The name of an index of ours that is no primary key? */
extern bool shape_is_index_name(const char *name);

#endif							/* CALVIN_LOG_SHAPE_H */
