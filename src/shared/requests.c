/*
 * requests.c
 *	  What the launcher is asked to look at, and what its probes find.
 */
#include "compat.h"

#include "miscadmin.h"
#include "shared/database.h"
#include "shared/requests.h"

void
requests_post(Oid database)
{
	LWLockAcquire(Calvin->lock, LW_EXCLUSIVE);
	if (OidIsValid(database) && Calvin->nrequests < CALVIN_MAX_REQUESTS)
		Calvin->requests[Calvin->nrequests++] = database;
	else
		Calvin->rescan = true;
	LWLockRelease(Calvin->lock);
	requests_wake_launcher();
}

void
requests_wake_launcher(void)
{
	database_wake_proc(&Calvin->launcher_proc);
}

void
requests_post_mine(void)
{
	bool		room;

	if (Calvin == NULL)
		return;
	LWLockAcquire(Calvin->lock, LW_SHARED);
	room = database_find_locked(InvalidOid) != NULL;
	LWLockRelease(Calvin->lock);
	if (room)
		requests_post(MyDatabaseId);
}

int
requests_take(Oid *databases, bool *all)
{
	int			n;

	LWLockAcquire(Calvin->lock, LW_EXCLUSIVE);
	n = Calvin->nrequests;
	memcpy(databases, Calvin->requests, n * sizeof(Oid));
	*all = Calvin->rescan;
	Calvin->nrequests = 0;
	Calvin->rescan = false;
	LWLockRelease(Calvin->lock);
	return n;
}

void
requests_begin_serving(void)
{
	pg_atomic_write_u64(&Calvin->launcher_proc, (uint64) (uintptr_t) MyProc);
}

void
requests_end_serving(void)
{
	pg_atomic_write_u64(&Calvin->launcher_proc, 0);
}

uint32
requests_begin_probe(void)
{
	uint32		token;

	LWLockAcquire(Calvin->lock, LW_EXCLUSIVE);
	Calvin->probe_found = false;
	token = ++Calvin->probe_token;
	LWLockRelease(Calvin->lock);
	return token;
}

void
requests_answer_probe(uint32 token, bool found)
{
	LWLockAcquire(Calvin->lock, LW_EXCLUSIVE);
	/* one that comes late has been given up */
	if (Calvin->probe_token == token)
		Calvin->probe_found = found;
	LWLockRelease(Calvin->lock);
}

bool
requests_probe_found(uint32 token)
{
	bool		found;

	LWLockAcquire(Calvin->lock, LW_SHARED);
	found = Calvin->probe_token == token && Calvin->probe_found;
	LWLockRelease(Calvin->lock);
	return found;
}
