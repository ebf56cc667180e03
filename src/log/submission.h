/*
 * submission.h
 *	  Submissions of this transaction, on their way to the inbox.
 */
#ifndef CALVIN_LOG_SUBMISSION_H
#define CALVIN_LOG_SUBMISSION_H

#include "compat.h"

#include "shared/shmem.h"

/* May this transaction submit?  An error that names the function if not. */
extern void submission_begin(const char *function);

/*
 * Keep a canonical TxClass that admission_reserve() has let in, until this
 * transaction commits; returns its number.
 */
extern int64 submission_add(const uint8 *tx_class, Size size, uint64 tenant_id,
							bool counted);

#endif							/* CALVIN_LOG_SUBMISSION_H */
