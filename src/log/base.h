/*
 * base.h
 *	  Where the log begins: what to tell those who need what was truncated.
 */
#ifndef CALVIN_LOG_BASE_H
#define CALVIN_LOG_BASE_H

#include "compat.h"

#include "log/table.h"
#include "utils/snapshot.h"

/*
 * Raise an error if batches of this epoch were truncated, or may have been.
 * "consumer" is the name of the subscription that needs them, or NULL.
 */
extern void base_require_epoch(const LogTable *table, Snapshot snapshot,
							   uint64 epoch, const char *consumer);

#endif							/* CALVIN_LOG_BASE_H */
