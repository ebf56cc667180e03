/*
 * state.h
 *	  Waiting for the applier, for other SQL functions too.
 */
#ifndef CALVIN_SQL_STATE_H
#define CALVIN_SQL_STATE_H

#include "compat.h"

/* Wait until an epoch is applied, and so durable; false if time runs out. */
extern bool state_wait_for_epoch(uint64 epoch, int64 deadline);

/* The same of the log up to a log_index. */
extern bool state_wait_for_index(uint64 log_index, int64 deadline);

#endif							/* CALVIN_SQL_STATE_H */
