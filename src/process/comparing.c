/*
 * comparing.c
 *	  Whether the log here is a part of the source's, by what the source says of its log:
 *	  the version of digests, the identity, from where to where it is, and the digest
 *	  behind our last row.
 */
#include "compat.h"

#include "log/identity.h"
#include "process/comparing.h"
#include "utils/uuid.h"

static const char tampered[] =
	"one of the two logs has lost, or been given, something: follow the right source, or begin anew in an empty database";

static bool
differs(Difference *difference, FollowerState state, char *message, const char *hint)
{
	difference->state = state;
	difference->message = message;
	difference->hint = hint;
	return true;
}

static bool
is_same(const pg_uuid_t *one, const pg_uuid_t *other)
{
	return memcmp(one, other, sizeof(pg_uuid_t)) == 0;
}

bool
comparing_finds(const SourceState *there, const Following *following,
				const pg_uuid_t *identity, const MachineState *here,
				Difference *difference)
{
	uint64		end = here->last_applied_index;

	if (there->digest_version != MACHINE_DIGEST_VERSION)
		return differs(difference, FOLLOWER_REFUSED,
					   psprintf("the source computes digests of version %d, and we of version %d",
								there->digest_version, MACHINE_DIGEST_VERSION),
					   "have both servers run versions of calvin_seq that compute the same");
	if (there->follows && is_same(&there->follower, &following->id))
		return differs(difference, FOLLOWER_REFUSED,
					   pstrdup("the source is this database itself, or a copy of it"),
					   "see to it that the connection leads to the source; in a copy, call seq_follow() again");
	if (there->identified && identity != NULL && !is_same(&there->identity, identity))
		return differs(difference, FOLLOWER_OTHER_LOG,
					   psprintf("the source has another log: its identity is %s, and ours %s",
								identity_text(&there->identity), identity_text(identity)),
					   "see to it that the connection leads to the right source, or follow it in an empty database");
	if (end < there->base.last_applied_index)
		return differs(difference, FOLLOWER_TRUNCATED,
					   psprintf("the source has truncated what comes behind log_index " UINT64_FORMAT ", it begins behind log_index " UINT64_FORMAT,
								end, there->base.last_applied_index),
					   "follow a source that still has it, or begin anew in an empty database");
	if (end > there->applied)
		return differs(difference, FOLLOWER_SOURCE_BEHIND,
					   psprintf("the source has applied up to log_index " UINT64_FORMAT " only, and we have log_index " UINT64_FORMAT,
								there->applied, end),
					   end <= there->log_end ?
					   "it goes on when the source has caught up" :
					   "it goes on if the source catches up; if it has lost what we have, begin anew in an empty database");
	if (!there->found || there->found_index != end)
		return differs(difference, FOLLOWER_OTHER_HISTORY,
					   psprintf("the source has no entry at log_index " UINT64_FORMAT ", the last one here",
								end),
					   tampered);
	if (there->digest != here->digest)
		return differs(difference, FOLLOWER_OTHER_HISTORY,
					   psprintf("the source has another history: at log_index " UINT64_FORMAT " its digest is %016llx, and ours %016llx",
								end, (unsigned long long) there->digest,
								(unsigned long long) here->digest),
					   tampered);
	return false;
}
