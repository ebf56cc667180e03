/*
 * admission.h
 *	  What is let into the inbox: limits of one submission, and of all that wait.
 */
#ifndef CALVIN_SHARED_ADMISSION_H
#define CALVIN_SHARED_ADMISSION_H

#include "compat.h"

#include "shared/shmem.h"
#include "wire/wire.h"

/*
 * Is a submission of these figures, as large as that when encoded, within the
 * limits of its own?  Raises an error if not, and counts it.
 */
extern void admission_check(const WireTxClassFigures *figures, uint64 bytes);

/*
 * Count a submission as waiting, or raise an error and count that.  Returns
 * whether it counts for its tenant, which is to be kept with it and handed back:
 * so each is taken off what it was put on, whatever the settings are by then.
 */
extern bool admission_reserve(DatabaseSlot *slot, uint64 tenant_id, uint64 bytes);

/*
 * It does not wait any more: it was rolled back, or is in the log.  "counted" is
 * what admission_reserve() said, but false for one that was reserved before the
 * server started: tenants are counted anew then, from zero.
 */
extern void admission_release(DatabaseSlot *slot, uint64 tenant_id, uint64 bytes,
							  bool counted);

/* The same for many that do not count for their tenants. */
extern void admission_release_rows(DatabaseSlot *slot, uint64 rows, uint64 bytes);

/* So many wait that nobody here has reserved: a restart or a restore left them. */
extern void admission_count_found(DatabaseSlot *slot, uint64 rows, uint64 bytes);

/* Of a moment: what waits, and what was refused since the slot began. */
typedef struct AdmissionView
{
	uint64		rows;
	uint64		bytes;
	uint64		rejected[ADMISSION_REASONS];
} AdmissionView;

extern void admission_view(DatabaseSlot *slot, AdmissionView *view);

/* The name of a reason as users see it. */
extern const char *admission_reason_name(AdmissionReason reason);

/* Of shmem.c, at the start. */
extern Size admission_shmem_size(void);
extern void admission_shmem_request(void);
extern void admission_shmem_init(void);
extern void admission_slot_init(DatabaseSlot *slot);

/*
 * A slot becomes that of another database, where nothing waits; of database.c, with
 * the lock held.  Whoever had reserved in it before and releases late, takes off
 * what is not his: too few may be counted for a while, never fewer than none.
 */
extern void admission_begin_locked(DatabaseSlot *slot);

#endif							/* CALVIN_SHARED_ADMISSION_H */
