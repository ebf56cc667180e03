/*
 * positions.h
 *	  Positions and transactions: what a rollback brings back.
 */
#ifndef CALVIN_CONSUMER_POSITIONS_H
#define CALVIN_CONSUMER_POSITIONS_H

#include "compat.h"

#include "consumer/consumer.h"

/* Register for the ends of transactions; before the first subscription. */
extern void positions_init(void);

/*
 * Remember the positions, once in each (sub)transaction: its rollback brings
 * them back.  Subscriptions that come later in it are entered with their
 * start; "chosen" if the user named it.  So what they could ask for again is
 * known to who truncates the log.
 */
extern void positions_save(Consumer *consumer);
extern bool positions_saved(const Consumer *consumer);
extern void positions_enter(Consumer *consumer, int n, const uint16 *vshards,
							bool chosen);

/*
 * Go back to where the present transaction began, as its rollback would; the
 * durable cursors are then wanted.
 */
extern void positions_rewind(Consumer *consumer);

#endif							/* CALVIN_CONSUMER_POSITIONS_H */
