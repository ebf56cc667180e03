/*
 * applier_slot.h
 *	  The life of a database's applier: every transition of its slot.
 */
#ifndef CALVIN_SHARED_APPLIER_SLOT_H
#define CALVIN_SHARED_APPLIER_SLOT_H

#include "compat.h"

#include "shared/shmem.h"

/*
 * Make sure that a database with the extension has a slot, and wake the
 * launcher.  False if all slots are taken.
 */
extern bool applier_slot_adopt(Oid database);

/*
 * The launcher: the database of a slot whose applier is to be started now, or
 * InvalidOid and the time in ms until it is, -1 if that is not known.
 */
extern Oid	applier_slot_wanted(DatabaseSlot *slot, long *wait);

/* The launcher asks for the worker that may claim with *token; false: not wanted any more. */
extern bool applier_slot_start(DatabaseSlot *slot, Oid database, uint32 *token);

/* That worker will not claim; the next one is wanted after a while. */
extern void applier_slot_not_started(DatabaseSlot *slot, Oid database,
									 uint32 token, int delay_ms);

/*
 * A launcher begins.  One before it may have asked for workers that never came,
 * or come only now: they find another token and leave.
 */
extern void applier_slot_reset_starting(void);

/* The launcher: the database of a slot that nothing runs in is gone. */
extern void applier_slot_forget(DatabaseSlot *slot, Oid database);

/*
 * The applier takes the place that the launcher made for it; NULL if somebody
 * has changed his mind since.
 */
extern DatabaseSlot *applier_slot_claim(Oid database, uint32 token);

/* The applier is connected and has looked at its log: what failed is over. */
extern void applier_slot_succeeded(DatabaseSlot *slot);

/*
 * The applier ends, and another one is to follow; later each time it "failed"
 * without having succeeded.  Called in before_shmem_exit.
 */
extern void applier_slot_leave(DatabaseSlot *slot, bool failed);

/*
 * The applier ends since the extension is gone from its database: subscriptions
 * end, and the slot is free.  Called in before_shmem_exit.
 */
extern void applier_slot_retire(DatabaseSlot *slot);

/*
 * A command needs the database without connections: the applier is asked to
 * leave, and none is started until as many releases.  NULL, and nothing to be
 * released, without a slot.
 */
extern DatabaseSlot *applier_slot_hold(Oid database);
extern void applier_slot_release(Oid database);

/* Pid of the database's applier, 0 if there is none now. */
extern pid_t applier_slot_pid(Oid database);

/* Tell this database's applier that the log got longer. */
extern void applier_slot_tell_appended(void);

/* This database's applier shall look whether the extension is still its own. */
extern void applier_slot_ask_to_recheck(void);

/* The applier: was it asked to?  That deals with it. */
extern bool applier_slot_take_recheck(DatabaseSlot *slot);

static inline bool
applier_slot_recheck_asked(DatabaseSlot *slot)
{
	return pg_atomic_read_u32(&slot->recheck) != 0;
}

/* The applier: does a command need it to leave? */
static inline bool
applier_slot_stop_asked(DatabaseSlot *slot)
{
	return pg_atomic_read_u32(&slot->stop) != 0;
}

/* The applier, for seq_state and seq_progress. */
static inline void
applier_slot_set_activity(DatabaseSlot *slot, ApplierActivity activity)
{
	pg_atomic_write_u32(&slot->activity, activity);
}

static inline void
applier_slot_set_catch_up(DatabaseSlot *slot, uint64 from, uint64 to)
{
	pg_atomic_write_u64(&slot->catch_up_from, from);
	pg_atomic_write_u64(&slot->catch_up_to, to);
}

#endif							/* CALVIN_SHARED_APPLIER_SLOT_H */
