/*
 * machine.c
 *	  The sequencer's state machine.
 *
 * The digest, version 1, all in wrapping 64-bit arithmetic:
 *
 *	mix(x) = the output function of splitmix64:
 *		x += 0x9e3779b97f4a7c15
 *		x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9
 *		x = (x ^ (x >> 27)) * 0x94d049bb133111eb
 *		x = x ^ (x >> 31)
 *
 *	before the first entry
 *		digest = mix(1)							(the version)
 *	and with every entry
 *		digest = mix(digest ^ log_index)
 *		digest = mix(digest ^ (length << 32 | crc32c))
 *		digest = mix(digest ^ outcome)
 *
 * crc32c is the CRC-32C (Castagnoli) of the entry's bytes, length their
 * number, outcome the number of its MachineOutcome.  The epoch need not enter:
 * the bytes hold it.  So whoever has the log can compute the digest again.
 */
#include "machine/machine.h"

static uint64_t
mix(uint64_t x)
{
	x += UINT64_C(0x9e3779b97f4a7c15);
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

void
machine_init(MachineState *state)
{
	state->last_applied_epoch = MACHINE_NO_EPOCH;
	state->last_applied_index = 0;
	state->digest = mix(MACHINE_DIGEST_VERSION);
	state->last_entry = 0;
}

uint64_t
machine_next_epoch(const MachineState *state)
{
	/* MACHINE_NO_EPOCH + 1 would be 0 too, but only by wrapping around. */
	if (state->last_applied_epoch == MACHINE_NO_EPOCH)
		return 0;
	return state->last_applied_epoch + 1;
}

static MachineOutcome
judge(const MachineState *state, const MachineInput *input)
{
	uint64_t	next;

	switch (input->kind)
	{
		case MACHINE_IN_NOOP:
			return MACHINE_NOOP;
		case MACHINE_IN_UNDECODABLE:
			return MACHINE_UNDECODABLE;
		case MACHINE_IN_ACK:
			return MACHINE_ACK;
		case MACHINE_IN_BATCH:
			break;
	}

	next = machine_next_epoch(state);
	if (input->epoch == next)
		return MACHINE_APPLY;
	return input->epoch > next ? MACHINE_GAP : MACHINE_STALE;
}

MachineOutcome
machine_step(MachineState *state, MachineCounters *counters,
			 const MachineInput *input)
{
	MachineOutcome outcome = judge(state, input);

	switch (outcome)
	{
		case MACHINE_NOOP:
			counters->entries_noop++;
			break;
		case MACHINE_UNDECODABLE:
			counters->entries_undecodable++;
			break;
		case MACHINE_APPLY:
			counters->epochs_applied++;
			state->last_applied_epoch = input->epoch;
			break;
		case MACHINE_GAP:
			counters->epochs_skipped_gap++;
			state->last_applied_epoch = input->epoch;
			break;
		case MACHINE_STALE:
			counters->epochs_skipped_stale++;
			break;
		case MACHINE_ACK:
			counters->completion_acks++;
			break;
	}
	counters->entries_applied++;
	counters->bytes_applied += input->length;

	state->last_applied_index = input->log_index;
	state->digest = mix(state->digest ^ input->log_index);
	state->last_entry = (uint64_t) input->length << 32 | input->crc32c;
	state->digest = mix(state->digest ^ state->last_entry);
	state->digest = mix(state->digest ^ (uint64_t) outcome);
	return outcome;
}
