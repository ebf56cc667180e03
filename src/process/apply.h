/*
 * apply.h
 *	  Applying one entry after the other.
 */
#ifndef CALVIN_PROCESS_APPLY_H
#define CALVIN_PROCESS_APPLY_H

#include "compat.h"

#include "log/holes.h"
#include "log/reader.h"
#include "shared/fetchers.h"
#include "shared/router.h"
#include "utils/timestamp.h"
#include "wire/encode.h"

/* What the applier of one database holds for it. */
typedef struct Applying
{
	DatabaseSlot *slot;
	Router	   *router;
	PublishedState state; /* after the last whole entry */
	bool		base_missing; /* the log's beginning is not known yet */
	bool		wants_proof; /* of the state: open seq_identity */
	bool		wants_base; /* there was a hole: open seq_snapshots too */
	Holes		holes; /* passed by this process */
	WireDecoder collecting; /* decodes what somebody listens to */
	WireDecoder checking;	/* and what nobody does: no transactions */
	WireBuffer	canonical; /* of transactions that were not */
	QueueOutgoing *out;
	int			nstamps;
	TimestampTz *stamps; /* appended_at of entries fanned out in this burst */
	bool		touched_all; /* this burst had something for anybody, */
	uint64		touched[FETCH_MASK_WORDS]; /* or for these vshards */
} Applying;

/* Lives in the current memory context, for the rest of the process. */
extern void apply_init(Applying *applying, DatabaseSlot *slot);

/*
 * Apply a row, read through an access.  False, and nothing done, if the log
 * begins with it and its base is missing; or if the base has to be looked at and
 * the access is without it: wants_base is set then.
 */
extern bool apply_row(Applying *applying, const LogAccess *access,
					  const LogRow *row);

/* Raise an alarm if rows have turned up where the log was applied already. */
extern void apply_look_for_late_rows(Applying *applying,
									 const LogAccess *access);

/* Give up buffers that one large entry needed. */
extern void apply_trim(Applying *applying);

/* Make what was applied since the last time visible, in one step. */
extern void apply_publish(Applying *applying);

#endif							/* CALVIN_PROCESS_APPLY_H */
