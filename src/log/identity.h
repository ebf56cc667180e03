/*
 * identity.h
 *	  Which log this is: the table seq_identity.
 *
 * A log gets its identity with the first entry that is appended to it, and a
 * restore brings it along.  What speaks of a log (the state in shared memory,
 * snapshots, cursors) is bound to it, and not to OIDs: another database can
 * have the same ones.
 */
#ifndef CALVIN_LOG_IDENTITY_H
#define CALVIN_LOG_IDENTITY_H

#include "compat.h"

#include "log/access.h"
#include "utils/uuid.h"

/* The identity as an access with ACCESS_IDENTITY sees it; false: none yet. */
extern bool identity_of_log(const LogAccess *access, pg_uuid_t *identity);

/* As it is committed now, or by this transaction; false: none yet. */
extern bool identity_now(pg_uuid_t *identity);

/* One as text, or whatever else is a UUID; palloc'd. */
extern char *identity_text(const pg_uuid_t *identity);

/*
 * Before an entry is appended: see to it that this log has an identity, one of
 * its own if it is empty.  The append lock is held.
 */
extern void identity_ensure(Oid log, bool empty);

/* This log has none yet, and is a copy of one with that.  The append lock is held. */
extern void identity_adopt(const pg_uuid_t *identity);

/* A row of seq_identity is about to be restored: an error if there is one. */
extern void identity_accept_restored(void);

/* For the trigger: is a row removed just now by this module itself? */
extern bool identity_is_replacing(void);

#endif							/* CALVIN_LOG_IDENTITY_H */
