/*
 * starts.h
 *	  Where a group begins with vshards that it has not had all along: the table
 *	  seq_group_starts.
 *
 * As with the rest of a registration, what is stored for an id never changes.
 */
#ifndef CALVIN_LOG_STARTS_H
#define CALVIN_LOG_STARTS_H

#include "compat.h"

#include "log/group_positions.h"

/* Those of a group, palloc'd, in the order of the vshards; how many. */
extern int	starts_list(uint64 id, GroupKey **keys);

/* Store some; there are none yet. */
extern void starts_add(uint64 id, int n, const GroupKey *keys);

/* Forget all of them. */
extern void starts_drop(uint64 id);

#endif							/* CALVIN_LOG_STARTS_H */
