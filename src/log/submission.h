/*
 * submission.h
 *	  What this transaction has submitted, until it commits.
 */
#ifndef CALVIN_LOG_SUBMISSION_H
#define CALVIN_LOG_SUBMISSION_H

#include "compat.h"

#include "wire/wire.h"

/* Called once, by _PG_init(). */
extern void submission_init(void);

/*
 * First of all, for an SQL function of that name: an error unless something can be
 * submitted here and now.
 */
extern void submission_begin(const char *function);

/*
 * Then the transaction submits a canonical TxClass, whose plans have so many bytes.
 * Returns its number, or raises an error if too much is waiting.
 */
extern int64 submission_add(const uint8 *tx_class, Size size, uint64 plans_bytes,
							uint64 tenant_id);

#endif							/* CALVIN_LOG_SUBMISSION_H */
