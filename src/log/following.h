/*
 * following.h
 *	  Whether this log is another server's, and whose: the table seq_following.
 */
#ifndef CALVIN_LOG_FOLLOWING_H
#define CALVIN_LOG_FOLLOWING_H

#include "compat.h"

#include "datatype/timestamp.h"
#include "shared/shmem.h"
#include "utils/uuid.h"

typedef enum FollowingMode
{
	FOLLOWING_PULL,	   /* the worker gets the rows */
	FOLLOWING_FED,	   /* logical replication brings them */
	FOLLOWING_RESTORED /* from a follower's dump: nobody has said yet what is to become of it */
} FollowingMode;

typedef struct Following
{
	pg_uuid_t	id; /* tells this follower from others, and from itself before */
	FollowingMode mode;
	char	   *source;	  /* for people */
	char	   *conninfo; /* NULL unless pulled */
	TimestampTz since;
	int64		first_base; /* the base that it was given when it was empty; 0: none */
} Following;

/*
 * As it is committed now, or by this transaction; false: the log is our own.  NULL where
 * nobody wants to know whose else.
 */
extern bool following_find(Following *following);

/*
 * Make it so, or end it, at the commit of this transaction, which holds the append
 * lock.  The worker is told.  Removing: false if there is none.
 */
extern void following_put(const Following *following);
extern bool following_remove(void);

/* The same, as shared memory may know it. */
extern bool following_follows(Following *following);

/*
 * The error of what appends, unless the log is our own.  With "explicit", that of a
 * row that has its log_index, as a restore and logical replication have them.  The
 * append lock is held.
 */
extern void following_refuse_row(bool is_explicit);

/* The same before anything was done, and without the lock: it may change. */
extern void following_refuse(const char *function);

/* The same for a submission: once before, and once when it counts as waiting. */
extern void following_refuse_submission(DatabaseSlot *slot);

#endif							/* CALVIN_LOG_FOLLOWING_H */
