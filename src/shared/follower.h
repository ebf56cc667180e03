/*
 * follower.h
 *	  Of a database that follows another server's log: that it does, and how.
 */
#ifndef CALVIN_SHARED_FOLLOWER_H
#define CALVIN_SHARED_FOLLOWER_H

#include "compat.h"

#include "shared/shmem.h"

/* A fresh slot, or one that is given to a database: nothing is known. */
extern void follower_init(DatabaseSlot *slot);
extern void follower_reset(DatabaseSlot *slot);

/*
 * The gate for what appends.  Whoever finds it UNKNOWN looks at the table
 * seq_following, and says with the word that he has read before that it has no
 * row; that counts for nothing if the row has come or gone since.
 */
typedef enum FollowerGate
{
	GATE_UNKNOWN = 0,
	GATE_OPEN,	 /* the log is this server's own */
	GATE_CLOSING /* somebody has called seq_follow(), and has not committed */
} FollowerGate;

extern FollowerGate follower_gate(DatabaseSlot *slot, uint64 *word);
extern void follower_found_open(DatabaseSlot *slot, uint64 word);

/* seq_follow() under way; what submits from now on sees it.  A full barrier. */
extern void follower_close_gate(DatabaseSlot *slot);

/* The row has come, or gone, or may have: whoever appends shall look. */
extern void follower_forget_gate(DatabaseSlot *slot);

/* The worker tells what it does. */
extern void follower_set_state(DatabaseSlot *slot, FollowerState state);
extern void follower_set_host(DatabaseSlot *slot, const char *host);
extern void follower_set_source_index(DatabaseSlot *slot, uint64 log_index);
extern void follower_set_error(DatabaseSlot *slot, const char *message);

/* The digest at a log_index was that of the source. */
extern void follower_set_proved(DatabaseSlot *slot, uint64 log_index);

/* Rows were stored, of so many bytes, the last of which was appended then. */
extern void follower_note_stored(DatabaseSlot *slot, uint64 rows, uint64 bytes,
								 TimestampTz appended_at);

/* Acknowledgements were stored: the worker is told.  And how often that was. */
extern void follower_tell_acks(DatabaseSlot *slot);
extern uint64 follower_acks(DatabaseSlot *slot);

/* What is shown of it, of one moment. */
typedef struct FollowerView
{
	FollowerState state;
	uint64		source_index; /* 0: not known yet */
	uint64		proved_index;
	TimestampTz proved_at;	  /* 0: never */
	uint64		rows;
	uint64		bytes;
	TimestampTz appended_at;  /* of the last row that was stored; 0: none */
	TimestampTz error_at;	  /* 0: none */
	char		host[FOLLOWER_HOST_LEN];
	char		error[CALVIN_ERROR_LEN];
} FollowerView;

extern void follower_view(DatabaseSlot *slot, FollowerView *view);

#endif							/* CALVIN_SHARED_FOLLOWER_H */
