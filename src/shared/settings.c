/*
 * settings.c
 *	  Settings of submitting, what the leader takes and how it forms epochs; how
 *	  long the log is kept; and whether a session may subscribe.
 *
 * All but the last may change while submissions wait: each is what holds at the
 * call, or when a batch is formed.
 */
#include "compat.h"

#include <limits.h>

#include "miscadmin.h"
#include "shared/settings.h"
#include "utils/guc.h"
#include "wire/wire.h"

/* Plans that fit into an entry, with room for all the rest of a TxClass. */
#define MOST_PLANS (255 * 1024 * 1024)

StaticAssertDecl(MOST_PLANS < WIRE_MAX_TX_CLASS, "the largest plans fit into an entry");

int			calvin_epoch_interval = 0;
int			calvin_max_txns_per_epoch = 1024;
int			calvin_max_bytes_per_epoch = 16 * 1024 * 1024;
int			calvin_max_plans_bytes_per_txn = 1024 * 1024;
int			calvin_max_participating_vshards_per_txn = 64;
int			calvin_max_dependent_read_bytes_per_txn = 4 * 1024 * 1024;
int			calvin_max_dependent_read_passives_per_txn = 16;
int			calvin_inbox_capacity = 0;
int			calvin_tenant_inbox_quota = 0;
int			calvin_retention = 0;
int			calvin_max_consumer_lag = 0;
int			calvin_subscriptions = SUBSCRIPTIONS_ON;
int			calvin_submissions_remembered = 65536;
int			calvin_follower_timeout = 30000;

static const struct config_enum_entry subscriptions_allowed[] = {
	{"on", SUBSCRIPTIONS_ON, false},
	{"registered", SUBSCRIPTIONS_REGISTERED, false},
	{"off", SUBSCRIPTIONS_OFF, false},
	{"true", SUBSCRIPTIONS_ON, true},
	{"yes", SUBSCRIPTIONS_ON, true},
	{"1", SUBSCRIPTIONS_ON, true},
	{"false", SUBSCRIPTIONS_OFF, true},
	{"no", SUBSCRIPTIONS_OFF, true},
	{"0", SUBSCRIPTIONS_OFF, true},
	{NULL, 0, false}
};

static void
define(const char *name, const char *what, const char *more, int *variable,
	   int least, int most, GucContext context, int flags)
{
	DefineCustomIntVariable(name, what, more, variable, *variable, least, most,
							context, flags, NULL, NULL, NULL);
}

void
settings_init(void)
{
	define("calvin_seq.epoch_interval",
		   "How long an epoch waits for more submissions after its first.",
		   "0 closes it as soon as the epoch before is in the log, so that epochs grow with load.",
		   &calvin_epoch_interval, 0, 60000, PGC_SIGHUP, GUC_UNIT_MS);
	define("calvin_seq.max_txns_per_epoch",
		   "Submissions at which an epoch closes.",
		   NULL,
		   &calvin_max_txns_per_epoch, 1, 1 << 20, PGC_SIGHUP, 0);
	define("calvin_seq.max_bytes_per_epoch",
		   "Bytes of plans at which an epoch closes.",
		   "A submission with more has an epoch for itself.",
		   &calvin_max_bytes_per_epoch, 1, MOST_PLANS, PGC_SIGHUP, GUC_UNIT_BYTE);
	define("calvin_seq.max_plans_bytes_per_txn",
		   "The most bytes of plans, which is the payload, of one submission.",
		   "The limit is what an entry of the log can hold.",
		   &calvin_max_plans_bytes_per_txn, 0, MOST_PLANS, PGC_SIGHUP, GUC_UNIT_BYTE);
	define("calvin_seq.max_participating_vshards_per_txn",
		   "The most vshards that take part in one submission.",
		   "Those of its write set's collections and of its dependent reads.",
		   &calvin_max_participating_vshards_per_txn, 1, WIRE_VSHARDS, PGC_SIGHUP, 0);
	define("calvin_seq.max_dependent_read_bytes_per_txn",
		   "The most bytes of the key sets in the dependent reads of one submission.",
		   "As they are encoded.",
		   &calvin_max_dependent_read_bytes_per_txn, 0, MOST_PLANS, PGC_SIGHUP, GUC_UNIT_BYTE);
	define("calvin_seq.max_dependent_read_passives_per_txn",
		   "The most vshards that the dependent reads of one submission name.",
		   "Each reads for the others, whether or not it is written as well.",
		   &calvin_max_dependent_read_passives_per_txn, 0, WIRE_VSHARDS, PGC_SIGHUP, 0);
	define("calvin_seq.inbox_capacity",
		   "The most submissions of a database that wait to be sequenced; 0 means no limit.",
		   "Those of transactions that have not committed count.",
		   &calvin_inbox_capacity, 0, INT_MAX, PGC_SIGHUP, 0);
	define("calvin_seq.tenant_inbox_quota",
		   "The most submissions of one tenant that wait to be sequenced; 0 means no limit.",
		   "Those made while it is 0 never count.",
		   &calvin_tenant_inbox_quota, 0, INT_MAX, PGC_SIGHUP, 0);

	define("calvin_seq.retention",
		   "The age at which the primary removes entries of the log that nobody needs; 0 means never.",
		   "By the time they were appended.",
		   &calvin_retention, 0, INT_MAX, PGC_SIGHUP, GUC_UNIT_S);
	define("calvin_seq.max_consumer_lag",
		   "The age from which on entries are not kept for consumers any more; 0 means that they are.",
		   "Whoever still needs what is removed is lost: his next call fails.",
		   &calvin_max_consumer_lag, 0, INT_MAX, PGC_SIGHUP, GUC_UNIT_S);

	DefineCustomEnumVariable("calvin_seq.subscriptions",
							 "Whether a session may subscribe: on, under registered names only, off.",
							 "Turn it off for roles that come through a connection pooler in transaction or statement mode.",
							 &calvin_subscriptions, calvin_subscriptions,
							 subscriptions_allowed, PGC_USERSET, 0, NULL, NULL, NULL);

	define("calvin_seq.follower_timeout",
		   "The time of silence after which a follower takes the connection to its source for lost.",
		   "Where there is nothing to send, the source answers after a third of it.",
		   &calvin_follower_timeout, 300, 24 * 60 * 60 * 1000, PGC_SIGHUP, GUC_UNIT_MS);

	/* it sizes shared memory */
	if (process_shared_preload_libraries_in_progress)
		define("calvin_seq.submissions_remembered",
			   "The last submissions of which seq_submission() knows where they went.",
			   "In each database.",
			   &calvin_submissions_remembered, 1, 1 << 26, PGC_POSTMASTER, 0);
}
