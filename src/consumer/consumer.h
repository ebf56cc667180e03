/*
 * consumer.h
 *	  This session as a consumer: the names under which it holds subscriptions.
 *
 * A Consumer is such a name.  It is the session's, not the transaction's:
 * rolling back does not end it.  Its lossless subscriptions have a position each,
 * the key that they wait for.
 */
#ifndef CALVIN_CONSUMER_CONSUMER_H
#define CALVIN_CONSUMER_CONSUMER_H

#include "compat.h"

#include "shared/key.h"
#include "shared/queue.h"
#include "shared/subscription.h"

typedef struct Consumer Consumer;

/*
 * An error unless a consumer can have that name: 1 to NAMEDATALEN - 1 bytes.  "what": it
 * is the name of, for that.
 */
extern void consumer_check_name(const char *name, const char *what);

/* This session's consumer of that name, or NULL. */
extern Consumer *consumer_find(const char *name);

/* The same, or an error. */
extern Consumer *consumer_require(const char *name);

/*
 * All of this session, also those that have no subscription any more but are
 * still needed by the transaction; NULL after the last.
 */
extern Consumer *consumer_first(void);

extern const char *consumer_name(const Consumer *consumer);

/*
 * Become the consumer of n different vshards under a name: all of them, or
 * an error.  Not transactional.  Transactions of entries above *start, which
 * is at least log_end, will arrive on the queues.
 */
extern Consumer *consumer_subscribe(DatabaseSlot *database, Oid log,
									const char *name, int n, const uint16 *vshards,
									Size ring_size, bool lossless,
									uint64 log_end, uint64 *start);

/* End some subscriptions, or with vshards NULL all; returns how many. */
extern int	consumer_unsubscribe(Consumer *consumer, int n,
								 const uint16 *vshards);

/* End all subscriptions of the session. */
extern void consumer_unsubscribe_everything(void);

/*
 * Begin a call: raises an error if another session has taken some of the
 * subscriptions over.  Those are gone then; the others stay.
 */
extern void consumer_check(Consumer *consumer);

/* Forget one that has no streams. */
extern void consumer_free(Consumer *consumer);

/*
 * Publish how far the consumer has got: at the end of every call, and of every
 * (sub)transaction that moved it.  Raises no error.
 */
extern void consumer_report(Consumer *consumer);

#endif							/* CALVIN_CONSUMER_CONSUMER_H */
