/*
 * fetch.h
 *	  Fetching for a group: taking partitions of it, and what is next in them, in the
 *	  present transaction.
 */
#ifndef CALVIN_CONSUMER_FETCH_H
#define CALVIN_CONSUMER_FETCH_H

#include "compat.h"

#include "consumer/group.h"
#include "log/delivery.h"
#include "log/group_positions.h"

typedef struct FetchRequest
{
	FetchGroup *group;
	int			max_txns;
	int64		deadline;	/* of waiting for the first one, as clock_ms() tells time */
	int			partition;	/* the only one to be taken, or -1 */
	const bool *avoid;		/* partitions not to be taken; NULL: none */
	bool		heed_retries; /* nor those that are to be tried again later */
	bool	  (*stop) (void *arg); /* looked at when woken: wait no more; or NULL */
	void	   *stop_arg;
} FetchRequest;

typedef struct Fetch Fetch;

/* An error on a standby, in a read-only transaction, without preload. */
extern void fetch_refuse(void);

/*
 * Take partitions that have something, waiting for that up to the deadline.  Lives in
 * the current memory context.  An error if the group has lost what it needs.
 */
extern Fetch *fetch_begin(const FetchRequest *request);

/*
 * The next transaction, valid until the next call, or false after the last; *partition
 * is where it belongs.  It is the group's if the function returns true.
 */
extern bool fetch_next(Fetch *fetch, Delivery *delivery, int *partition);

/* Has anything been handed out? */
extern bool fetch_given(const Fetch *fetch);

/* Attempts that have failed at what was next in a partition that the fetch has taken. */
extern uint32 fetch_attempts(const Fetch *fetch, int partition);

/* Move the positions behind what was handed out, in this transaction. */
extern void fetch_end(Fetch *fetch);

/* When the first of the partitions that were left out is to be tried again; 0: none. */
extern TimestampTz fetch_next_retry(const Fetch *fetch);

/*
 * Take a partition, and read what it stands at; the store is open for writing until
 * group_store_end().  Without "wait" false, and nothing is open, if another
 * transaction has it.
 */
extern bool fetch_take(FetchGroup *group, int partition, bool wait, GroupStore *store,
					   GroupPosition *position);

#endif							/* CALVIN_CONSUMER_FETCH_H */
