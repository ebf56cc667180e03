/*
 * database.h
 *	  Database slots: finding them, publishing and reading their state.
 */
#ifndef CALVIN_SHARED_DATABASE_H
#define CALVIN_SHARED_DATABASE_H

#include "compat.h"

#include "shared/shmem.h"

/* The slot of a database, or NULL.  The caller holds Calvin->lock. */
extern DatabaseSlot *database_find_locked(Oid database);

/*
 * The slot of this session's database, or NULL.  Takes the lock, unless the
 * slot found by the last call still serves.
 */
extern DatabaseSlot *database_mine(void);

/*
 * Make sure that a database with the extension has a slot, and wake the
 * launcher.  False if all slots are taken.
 */
extern bool database_adopt(Oid database);

/* Free a slot, and have the launcher look who else may need it. */
extern void database_forget(DatabaseSlot *slot);

/* Only the applier publishes; it also wakes who waits for progress. */
extern void database_publish(DatabaseSlot *slot, const PublishedState *state);
extern void database_read(DatabaseSlot *slot, PublishedState *state);

/* Tell the applier of this session's database that the log got longer. */
extern void database_wake_applier(void);

/* That one shall look at the extension's tables anew, when it is woken. */
extern void database_recheck(void);

/*
 * The identity of the log that a slot's state speaks of, zeros if it has none:
 * both words, as the log layer has them.
 */
extern void database_get_identity(DatabaseSlot *slot, uint64 identity[2]);
extern void database_set_identity(DatabaseSlot *slot,
								  const uint64 identity[2]);

/* The slot's state is of no log: back to that of a fresh slot. */
extern void database_begin_anew(DatabaseSlot *slot);

/* Remember and count an error of the applier, for seq_state. */
extern void database_report_error(DatabaseSlot *slot, const char *message);

/* The launcher shall look at this database (InvalidOid: at all of them). */
extern void database_request(Oid database);

/* The launcher shall look at this session's database, if it can help. */
extern void database_request_mine(void);

/* Set the latch of a process published in one of our proc words. */
extern void database_wake_proc(pg_atomic_uint64 *proc);

#endif							/* CALVIN_SHARED_DATABASE_H */
