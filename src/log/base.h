/*
 * base.h
 *	  Where the log begins: what to tell those who need what was truncated.
 */
#ifndef CALVIN_LOG_BASE_H
#define CALVIN_LOG_BASE_H

#include "compat.h"

#include "log/access.h"

/*
 * Raise an error if batches of this epoch were truncated, or may have been, as
 * an access with ACCESS_SNAPSHOTS sees it.
 * "consumer" is the name of the subscription that needs them, or NULL.
 */
extern void base_require_epoch(const LogAccess *access, uint64 epoch,
							   const char *consumer);

#endif							/* CALVIN_LOG_BASE_H */
