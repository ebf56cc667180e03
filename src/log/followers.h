/*
 * followers.h
 *	  Who follows this log, and how far he is: the table seq_follower_positions.
 */
#ifndef CALVIN_LOG_FOLLOWERS_H
#define CALVIN_LOG_FOLLOWERS_H

#include "compat.h"

#include "datatype/timestamp.h"
#include "utils/uuid.h"

typedef struct FollowerPosition
{
	pg_uuid_t	id; /* see following.h */
	char	   *name;
	uint64		log_index; /* durable there */
	TimestampTz seen_at;
	TimestampTz since;
} FollowerPosition;

/*
 * Where a follower is now, by his own word.  False, and nothing, if somebody is just
 * doing the same.
 */
extern bool followers_note(const pg_uuid_t *id, const char *name, uint64 log_index);

/*
 * To the end of the transaction nobody comes, or goes back; who does so now has
 * committed.  Without "wait" false if somebody has not.
 */
extern bool followers_fence(bool wait);

/* All of them, palloc'd. */
extern int	followers_list(FollowerPosition **positions);

/* Forget one; false if there is none. */
extern bool followers_remove(const pg_uuid_t *id);

#endif							/* CALVIN_LOG_FOLLOWERS_H */
