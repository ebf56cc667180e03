/*
 * settings.h
 *	  Settings of submitting, what the leader takes and how it forms epochs; how
 *	  long the log is kept; and whether a session may subscribe.
 */
#ifndef CALVIN_SHARED_SETTINGS_H
#define CALVIN_SHARED_SETTINGS_H

#include "compat.h"

/* The values of calvin_subscriptions. */
typedef enum SubscriptionsAllowed
{
	SUBSCRIPTIONS_OFF,
	SUBSCRIPTIONS_REGISTERED, /* under registered names only */
	SUBSCRIPTIONS_ON
} SubscriptionsAllowed;

/* An epoch closes at any of these. */
extern int	calvin_epoch_interval;		/* ms after its first submission; 0: at once */
extern int	calvin_max_txns_per_epoch;
extern int	calvin_max_bytes_per_epoch; /* of plans */

/* What one submission may be. */
extern int	calvin_max_plans_bytes_per_txn;
extern int	calvin_max_participating_vshards_per_txn;
extern int	calvin_max_dependent_read_bytes_per_txn;
extern int	calvin_max_dependent_read_passives_per_txn;

/* What may wait at once; 0: no limit. */
extern int	calvin_inbox_capacity;
extern int	calvin_tenant_inbox_quota;

/* Of the log, in seconds; 0: off. */
extern int	calvin_retention;		/* age at which what nobody needs is removed */
extern int	calvin_max_consumer_lag; /* and at which consumers do not hold it back */

/* Of the session. */
extern int	calvin_subscriptions; /* may it subscribe? */

/* Fixed at the start of the server. */
extern int	calvin_submissions_remembered;
extern int	calvin_follower_timeout; /* ms */

/* Called once, by _PG_init(). */
extern void settings_init(void);

#endif							/* CALVIN_SHARED_SETTINGS_H */
