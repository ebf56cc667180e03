/*
 * test_machine.c
 *	  What each entry does to the state, and what the digest depends on.
 */
#include <inttypes.h>
#include <string.h>

#include "machine/machine.h"
#include "tap.h"

#define NONE MACHINE_NO_EPOCH
#define LAST_EPOCH ((UINT64_C(1) << 63) - 2)

static MachineInput
input_of(uint64_t log_index, MachineInputKind kind, uint64_t epoch)
{
	MachineInput input = {0};

	input.log_index = log_index;
	input.kind = kind;
	input.epoch = epoch;
	input.length = 100;
	input.crc32c = (uint32_t) epoch * 7 + 5;
	return input;
}

/* Batches in log order, and what each must come to. */
typedef struct Step
{
	uint64_t	epoch;
	MachineOutcome outcome;
	uint64_t	last;			/* last_applied_epoch afterwards */
} Step;

static void
check_steps(const char *name, const Step *steps, int count)
{
	MachineState state;
	MachineCounters counters = {0};
	uint64_t	seen[MACHINE_ACK + 1] = {0};
	bool		good = true;

	machine_init(&state);
	for (int i = 0; i < count; i++)
	{
		MachineInput input = input_of(10 + 2 * i, MACHINE_IN_BATCH,
									  steps[i].epoch);
		MachineOutcome outcome = machine_step(&state, &counters, &input);

		seen[steps[i].outcome]++;
		if (outcome != steps[i].outcome ||
			state.last_applied_epoch != steps[i].last ||
			state.last_applied_index != input.log_index)
		{
			diag("step %d: outcome %d, last %" PRIu64, i, outcome,
				 state.last_applied_epoch);
			good = false;
		}
	}
	ok(good && counters.epochs_applied == seen[MACHINE_APPLY] &&
	   counters.epochs_skipped_gap == seen[MACHINE_GAP] &&
	   counters.epochs_skipped_stale == seen[MACHINE_STALE] &&
	   counters.entries_applied == (uint64_t) count &&
	   counters.bytes_applied == 100 * (uint64_t) count, "%s", name);
}

#define CHECK_STEPS(name, ...) \
	do { \
		static const Step steps[] = {__VA_ARGS__}; \
		check_steps(name, steps, (int) (sizeof(steps) / sizeof(steps[0]))); \
	} while (0)

static void
test_batches(void)
{
	CHECK_STEPS("contiguous epochs",
				{0, MACHINE_APPLY, 0}, {1, MACHINE_APPLY, 1},
				{2, MACHINE_APPLY, 2});
	CHECK_STEPS("the first batch is epoch 5: a gap, then on from there",
				{5, MACHINE_GAP, 5}, {6, MACHINE_APPLY, 6});
	CHECK_STEPS("0, 2, 3: a gap does not stall",
				{0, MACHINE_APPLY, 0}, {2, MACHINE_GAP, 2},
				{3, MACHINE_APPLY, 3});
	CHECK_STEPS("0, 1, 1 again, 2: the second is stale",
				{0, MACHINE_APPLY, 0}, {1, MACHINE_APPLY, 1},
				{1, MACHINE_STALE, 1}, {2, MACHINE_APPLY, 2});
	CHECK_STEPS("0, 1, 2, 0, 1, 2: never back",
				{0, MACHINE_APPLY, 0}, {1, MACHINE_APPLY, 1},
				{2, MACHINE_APPLY, 2}, {0, MACHINE_STALE, 2},
				{1, MACHINE_STALE, 2}, {2, MACHINE_STALE, 2},
				{3, MACHINE_APPLY, 3});
	CHECK_STEPS("0, 5, 3, 6: stale after a gap",
				{0, MACHINE_APPLY, 0}, {5, MACHINE_GAP, 5},
				{3, MACHINE_STALE, 5}, {6, MACHINE_APPLY, 6});
	CHECK_STEPS("a gap again and again",
				{1, MACHINE_GAP, 1}, {3, MACHINE_GAP, 3},
				{1, MACHINE_STALE, 3}, {3, MACHINE_STALE, 3});
	CHECK_STEPS("up to the largest epoch",
				{LAST_EPOCH - 1, MACHINE_GAP, LAST_EPOCH - 1},
				{LAST_EPOCH, MACHINE_APPLY, LAST_EPOCH},
				{LAST_EPOCH, MACHINE_STALE, LAST_EPOCH},
				{0, MACHINE_STALE, LAST_EPOCH});
}

static void
test_other_entries(void)
{
	static const struct
	{
		MachineInputKind kind;
		MachineOutcome outcome;
		const char *name;
	}			cases[] = {
		{MACHINE_IN_NOOP, MACHINE_NOOP, "a no-op"},
		{MACHINE_IN_UNDECODABLE, MACHINE_UNDECODABLE, "an undecodable entry"},
		{MACHINE_IN_ACK, MACHINE_ACK, "an ack"},
	};

	for (int i = 0; i < 3; i++)
	{
		MachineState state;
		MachineCounters counters = {0};
		MachineCounters wanted = {0};
		MachineInput input = input_of(1, MACHINE_IN_BATCH, 0);
		MachineOutcome outcome;

		machine_init(&state);
		input.kind = cases[i].kind;
		input.epoch = 0;
		outcome = machine_step(&state, &counters, &input);
		ok(outcome == cases[i].outcome && state.last_applied_epoch == NONE &&
		   machine_next_epoch(&state) == 0 && state.last_applied_index == 1,
		   "%s leaves the epoch alone on a fresh machine", cases[i].name);

		input = input_of(2, MACHINE_IN_BATCH, 0);
		machine_step(&state, &counters, &input);
		input = input_of(3, cases[i].kind, 99);
		machine_step(&state, &counters, &input);
		ok(state.last_applied_epoch == 0 && machine_next_epoch(&state) == 1 &&
		   state.last_applied_index == 3,
		   "%s leaves the epoch alone later", cases[i].name);

		wanted.entries_applied = 3;
		wanted.bytes_applied = 300;
		wanted.epochs_applied = 1;
		if (cases[i].kind == MACHINE_IN_NOOP)
			wanted.entries_noop = 2;
		else if (cases[i].kind == MACHINE_IN_ACK)
			wanted.completion_acks = 2;
		else
			wanted.entries_undecodable = 2;
		ok(memcmp(&counters, &wanted, sizeof(wanted)) == 0,
		   "%s is counted as what it is", cases[i].name);
	}
}

/* The counters of the fan-out belong to whoever does it. */
static void
test_counters_kept(void)
{
	MachineState state;
	MachineCounters counters = {0};
	MachineInput input = input_of(7, MACHINE_IN_BATCH, 0);

	machine_init(&state);
	counters.txns_fanned_out = 11;
	counters.txns_dropped_backpressure = 12;
	counters.epochs_applied = 13;
	machine_step(&state, &counters, &input);
	ok(counters.txns_fanned_out == 11 &&
	   counters.txns_dropped_backpressure == 12 &&
	   counters.epochs_applied == 14, "counters are added to");
}

static uint64_t
digest_after(const MachineInput *inputs, int count)
{
	MachineState state;
	MachineCounters counters = {0};

	machine_init(&state);
	for (int i = 0; i < count; i++)
		machine_step(&state, &counters, &inputs[i]);
	return state.digest;
}

/* The formula at the head of machine.c, worked out by another program. */
static void
test_digest_values(void)
{
	MachineInput input = {0};
	MachineState state;
	MachineCounters counters = {0};

	machine_init(&state);
	is_u64(state.digest, UINT64_C(0x910a2dec89025cc1),
		   "digest of an empty log");
	input.log_index = 1;
	input.kind = MACHINE_IN_BATCH;
	input.epoch = 0;
	input.length = 17;
	input.crc32c = 0xdeadbeef;
	machine_step(&state, &counters, &input);
	is_u64(state.digest, UINT64_C(0xb71bf88ad0b86af4),
		   "digest after one batch");
	input.log_index = 5;
	input.kind = MACHINE_IN_NOOP;
	input.length = 0;
	input.crc32c = 0;
	machine_step(&state, &counters, &input);
	is_u64(state.digest, UINT64_C(0x92579ab654e5c270),
		   "digest after a no-op more");
}

static void
test_digest(void)
{
	MachineInput base[3];
	MachineInput other[3];
	uint64_t	digest;

	base[0] = input_of(1, MACHINE_IN_BATCH, 0);
	base[1] = input_of(2, MACHINE_IN_BATCH, 1);
	base[2] = input_of(3, MACHINE_IN_ACK, 0);
	digest = digest_after(base, 3);
	ok(digest_after(base, 3) == digest, "equal logs, equal digests");
	ok(digest_after(base, 2) != digest, "every entry enters the digest");

#define WITH(change, name) \
	do { \
		memcpy(other, base, sizeof(base)); \
		change; \
		ok(digest_after(other, 3) != digest, "the digest tells " name); \
	} while (0)

	WITH(other[2].log_index = 4, "a log_index");
	WITH(other[1].crc32c ^= 1, "a bit of a CRC");
	WITH(other[0].crc32c ^= 1, "an early CRC");
	WITH(other[1].length++, "a length");
	WITH(other[2].kind = MACHINE_IN_NOOP, "an ack from a no-op");
	WITH(other[2].kind = MACHINE_IN_UNDECODABLE, "an undecodable entry");
	WITH(other[1].epoch = 2, "apply from gap");
	WITH(other[1].epoch = 0, "apply from stale");
	WITH((other[0] = base[1], other[1] = base[0],
		  other[0].log_index = 1, other[1].log_index = 2), "the order");

	/* What does not decide is not in it. */
	memcpy(other, base, sizeof(base));
	other[2].epoch = 77;
	ok(digest_after(other, 3) == digest, "an ack's epoch is only in its CRC");
}

int
main(void)
{
	test_batches();
	test_other_entries();
	test_counters_kept();
	test_digest_values();
	test_digest();
	return done();
}
