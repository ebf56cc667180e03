/*
 * behind.h
 *	  How old the first thing is that each consumer by name has not processed.
 */
#ifndef CALVIN_CONSUMER_BEHIND_H
#define CALVIN_CONSUMER_BEHIND_H

#include "compat.h"

#include "consumer/backlog.h"

/*
 * All consumers by name, with "lost" and, of those that have something to come,
 * "oldest"; what else could be counted is not.
 */
extern int	behind_list(Backlog **backlogs);

#endif							/* CALVIN_CONSUMER_BEHIND_H */
