/*
 * machine.h
 *	  The sequencer's state machine: what one entry does to the state.
 *
 * Pure C: no clock, no I/O, no shared memory.  Two replicas that feed it the
 * same entries hold the same state, digest included.
 */
#ifndef CALVIN_MACHINE_H
#define CALVIN_MACHINE_H

#include <stdbool.h>
#include <stdint.h>

/* last_applied_epoch when no batch was applied yet */
#define MACHINE_NO_EPOCH UINT64_MAX

/* Changes whenever the digest of one and the same log would change. */
#define MACHINE_DIGEST_VERSION 1

/* What an entry is, as far as the state machine cares. */
typedef enum MachineInputKind
{
	MACHINE_IN_NOOP,
	MACHINE_IN_UNDECODABLE,
	MACHINE_IN_BATCH,
	MACHINE_IN_ACK
} MachineInputKind;

typedef struct MachineInput
{
	uint64_t	log_index;
	MachineInputKind kind;
	uint64_t	epoch;	/* of a batch; otherwise ignored */
	uint32_t	length; /* bytes of the entry */
	uint32_t	crc32c; /* CRC-32C (Castagnoli) of them */
} MachineInput;

/* What has to be done.  The values are part of the digest: never renumber. */
typedef enum MachineOutcome
{
	MACHINE_NOOP = 0,		 /* nothing */
	MACHINE_UNDECODABLE = 1, /* report it */
	MACHINE_APPLY = 2,		 /* fan the batch out */
	MACHINE_GAP = 3,		 /* report it; the batch raised the epoch but is
							  * not fanned out: consumers get it from the log */
	MACHINE_STALE = 4,		 /* report it; part of no stream */
	MACHINE_ACK = 5			 /* wake who waits for the completion */
} MachineOutcome;

/* Everything that must be equal on replicas with the same log. */
typedef struct MachineState
{
	uint64_t	last_applied_epoch; /* MACHINE_NO_EPOCH: none */
	uint64_t	last_applied_index; /* log_index; 0: none */
	uint64_t	digest;
	uint64_t	last_entry; /* length << 32 | CRC-32C of the last entry */
} MachineState;

/* Counted since the state was initialised; the first four and their names
 * are the Rust original's, txns_* are counted by who does the fan-out. */
typedef struct MachineCounters
{
	uint64_t	epochs_applied;
	uint64_t	txns_fanned_out;
	uint64_t	txns_dropped_backpressure;
	uint64_t	epochs_skipped_gap;
	uint64_t	epochs_skipped_stale;
	uint64_t	entries_applied; /* entries of every kind */
	uint64_t	entries_noop;
	uint64_t	entries_undecodable;
	uint64_t	completion_acks;
	uint64_t	bytes_applied; /* bytes of entries of every kind */
} MachineCounters;

extern void machine_init(MachineState *state);

/* The epoch that MACHINE_APPLY needs: 0 at first, else last + 1. */
extern uint64_t machine_next_epoch(const MachineState *state);

/*
 * Advance the state and the counters by one entry.  log_index must be above
 * last_applied_index (holes are fine).
 */
extern MachineOutcome machine_step(MachineState *state,
								   MachineCounters *counters,
								   const MachineInput *input);

#endif							/* CALVIN_MACHINE_H */
