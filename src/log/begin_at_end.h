/*
 * begin_at_end.h
 *	  Consumers that begin at the log's end as of the commit that registers them.
 */
#ifndef CALVIN_LOG_BEGIN_AT_END_H
#define CALVIN_LOG_BEGIN_AT_END_H

#include "compat.h"

#include "log/registry.h"

/* The epoch that comes next in the log, as committed now. */
extern uint64 log_next_epoch(void);

/* Move a consumer that this transaction has registered to the beginning of an epoch. */
typedef void (*BeginMove) (const Registration *registration, uint64 epoch);

/*
 * A consumer was registered here, and stands at "epoch", the log's end.  Before the
 * transaction commits nothing is appended any more, and if the log has got longer,
 * "move" is called with its end.  Such a transaction cannot be prepared.
 */
extern void begin_at_end(const Registration *registration, uint64 epoch,
						 BeginMove move);

#endif							/* CALVIN_LOG_BEGIN_AT_END_H */
