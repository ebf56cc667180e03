/*
 * owned.c
 *	  Names of streams that belong to somebody.
 *
 * Under a name that is registered only members of its role subscribe, which takes the
 * stream over, and store cursors.  Whatever the name, a cursor is never stored beyond
 * the log's end: nothing was processed up to there, and it would pass over what comes.
 */
#include "compat.h"

#include "consumer/owned.h"
#include "log/begin_at_end.h"
#include "log/hint.h"
#include "shared/database.h"

static bool
has_vshard(const Registration *registration, uint16 vshard)
{
	for (int i = 0; i < registration->nvshards; i++)
		if (registration->vshards[i] == vshard)
			return true;
	return false;
}

Registration *
owned_check(const char *name, int n, const uint16 *vshards)
{
	Registration *registration = registry_find(name);

	if (registration == NULL)
		return NULL;
	registry_require_kind(registration, REGISTRATION_STREAM);
	registry_require_owner(registration);
	for (int i = 0; i < n; i++)
		if (!has_vshard(registration, vshards[i]))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("consumer \"%s\" is not registered for vshard %u", name,
							vshards[i]),
					 errdetail_plural("It is registered for %d vshard, of which this is none.",
									  "It is registered for %d vshards, of which this is none.",
									  registration->nvshards, registration->nvshards),
					 errhint_for_role("Register another name for it, or this one anew with all of its vshards, after seq_unregister().")));
	return registration;
}

/* Has the log not got there yet?  Looks at the log only if what is applied will not do. */
static bool
is_beyond_end(StreamKey key, uint64 *next)
{
	DatabaseSlot *slot = database_mine();
	PublishedState state;
	StreamKey	end = {0, 0};

	if (slot != NULL)
	{
		database_read(slot, &state);
		end.epoch = machine_next_epoch(&state.machine);
		if (!key_less(end, key))
			return false;
	}
	end.epoch = *next = log_next_epoch();
	return key_less(end, key);
}

void
owned_check_start(const char *name, int n, const uint16 *vshards, const StreamKey *from)
{
	uint64		next;

	if (owned_check(name, n, vshards) == NULL || from == NULL ||
		!is_beyond_end(*from, &next))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("from_epoch " UINT64_FORMAT " is beyond the end of the log",
					from->epoch),
			 errdetail("The next epoch of the log is " UINT64_FORMAT ", from position 0 on.",
					   next),
			 errhint("Leave from_epoch out: consumer \"%s\" goes on where it stands.",
					 name)));
}

void
owned_check_cursors(const char *name, int n, const StreamCursor *cursors)
{
	uint16	   *vshards = palloc(sizeof(uint16) * n);

	for (int i = 0; i < n; i++)
		vshards[i] = cursors[i].vshard;
	registry_lock_name(name, RowExclusiveLock);
	(void) owned_check(name, n, vshards);
	pfree(vshards);
}

void
owned_check_positions(const char *name, int n, const StreamCursor *cursors)
{
	StreamKey	furthest = {0, 0};
	uint64		next;

	for (int i = 0; i < n; i++)
		if (key_less(furthest, cursors[i].next))
			furthest = cursors[i].next;
	if (!is_beyond_end(furthest, &next))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("the position of \"%s\" is beyond the end of the log", name),
			 errdetail("It waits for epoch " UINT64_FORMAT ", and the next epoch of the log is " UINT64_FORMAT ".",
					   furthest.epoch, next),
			 errhint("Commit when something was received, or subscribe without from_epoch.")));
}
