/*
 * backlog.h
 *	  What consumers by name have not processed, counted from the log.
 */
#ifndef CALVIN_CONSUMER_BACKLOG_H
#define CALVIN_CONSUMER_BACKLOG_H

#include "compat.h"

#include "consumer/group.h"
#include "datatype/timestamp.h"
#include "log/batches.h"
#include "log/parked.h"

/* One consumer: where it stands, and what was counted. */
typedef struct Backlog
{
	NameData	name;
	const Registration *registration; /* NULL: of that name there are cursors only */
	const FetchGroup *group; /* NULL: a stream */
	int			nwanted;	/* vshards */
	bool		wanted[WIRE_VSHARDS];
	GroupKey	next[WIRE_VSHARDS]; /* first key not processed, of each */
	TimestampTz last_progress; /* 0: none yet */
	uint64		delivered;	/* of a group: what it has processed, */
	uint64		retried;	/* and attempts that failed */

	bool		lost;		/* something it needs was truncated, which is not counted */
	uint64		epochs;		/* with something for it */
	uint64		txns;		/* that are to be handed out, parked ones not */
	uint64		oldest_epoch; /* the first of these epochs, if there are any */
	TimestampTz oldest;		/* when that was appended */

	int			nparked;	/* of a group, ahead of it */
	ParkedKey  *parked;
} Backlog;

/*
 * All consumers by name, those that are only known by durable cursors too, in the
 * order of their names, as committed now; palloc'd.  Returns how many.
 */
extern int	backlog_list(Backlog **backlogs);

/* And what is in the log for them, counted in one pass from the first that lacks some. */
extern int	backlog_count_all(Backlog **backlogs);

/* The same of one name; false if there is none. */
extern bool backlog_count_one(const char *name, Backlog *backlog);

/* The first epoch that is in the log for sure. */
extern uint64 backlog_kept(void);

/*
 * Of one of a list only the first epoch with something for it, which it counts alone.
 * "kept": the first one in the log when the list was made.  Nothing before *looked is for
 * it, as somebody has found, and there is more to be told of that afterwards, and on the
 * way.  Small where there is nothing to come, or something that is near.
 */
extern void backlog_find_first(Backlog *backlog, uint64 kept, BatchWalk *walk,
							   uint64 *looked);

/* Of one of a list only whether it is lost. */
extern void backlog_find_lost(Backlog *backlog, uint64 kept);

/* Count for n of a list, epochs through one; nobody truncates meanwhile. */
extern void backlog_count_through(int n, Backlog *backlogs, uint64 epoch);

#endif							/* CALVIN_CONSUMER_BACKLOG_H */
