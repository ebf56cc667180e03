/*
 * check_machine.c
 *	  The state machine, fed through the decoder, against a plain model of it.
 *
 * The input is a program: each step appends one entry to a log, or stops and
 * goes on from the state there is, as after a restart from a snapshot.  The
 * model knows what each entry was made to be, so it needs no decoder; it keeps
 * the list of what happened and works out everything else from that.
 */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "machine/machine.h"
#include "support.h"

#define MOST_STEPS 500

/* the largest that an entry may hold */
#define LAST_EPOCH UINT64_C(9223372036854775806)

#define REQUIRE(condition, what) \
	do { \
		if (!(condition)) \
			return what; \
	} while (0)

/* The numbers that outcomes have in a digest. */
typedef enum Fate
{
	FATE_NOTHING = 0,
	FATE_UNDECODABLE = 1,
	FATE_APPLIED = 2,
	FATE_GAP = 3,
	FATE_STALE = 4,
	FATE_ACK = 5
} Fate;

/* One entry of the log, as the model knows it. */
typedef struct Record
{
	uint64_t	log_index;
	uint64_t	epoch;			/* of a batch */
	uint32_t	length;
	uint32_t	crc32c;
	Fate		fate;
} Record;

typedef struct Log
{
	Record		records[MOST_STEPS];
	int			count;
	bool		any;			/* there is a batch */
	uint64_t	highest;		/* epoch of all batches */
} Log;

typedef struct Program
{
	const uint8_t *data;
	size_t		left;
} Program;

static uint64_t
argument(Program *program, size_t width)
{
	uint64_t	n = 0;

	for (; width > 0 && program->left > 0; width--)
	{
		n = n << 8 | *program->data++;
		program->left--;
	}
	return n;
}

static void
append(Log *log, const Record *record)
{
	log->records[log->count++] = *record;
	if (record->fate != FATE_APPLIED && record->fate != FATE_GAP &&
		record->fate != FATE_STALE)
		return;
	if (!log->any || record->epoch > log->highest)
		log->highest = record->epoch;
	log->any = true;
}

/* What follows the highest epoch of all batches. */
static uint64_t
next_epoch(const Log *log)
{
	return log->any ? log->highest + 1 : 0;
}

static Fate
fate_of_batch(const Log *log, uint64_t epoch)
{
	if (log->any && epoch <= log->highest)
		return FATE_STALE;
	return epoch == next_epoch(log) ? FATE_APPLIED : FATE_GAP;
}

/* splitmix64 as published, its state being "seed" */
static uint64_t
splitmix(uint64_t seed)
{
	uint64_t	z = seed + 0x9e3779b97f4a7c15u;

	z ^= z >> 30;
	z *= 0xbf58476d1ce4e5b9u;
	z ^= z >> 27;
	z *= 0x94d049bb133111ebu;
	z ^= z >> 31;
	return z;
}

static uint64_t
digest_of(const Log *log)
{
	uint64_t	digest = splitmix(1);

	for (int i = 0; i < log->count; i++)
	{
		const Record *record = &log->records[i];
		uint64_t	parts[3];

		parts[0] = record->log_index;
		parts[1] = record->length * (UINT64_C(1) << 32) + record->crc32c;
		parts[2] = record->fate;
		for (int part = 0; part < 3; part++)
			digest = splitmix(digest ^ parts[part]);
	}
	return digest;
}

static void
put_batch(WireBuffer *entry, uint64_t epoch)
{
	wire_put_array_header(entry, 2);
	wire_put_str(entry, "EpochBatch", 10);
	wire_put_array_header(entry, 1);
	wire_put_array_header(entry, 3);
	wire_put_uint(entry, epoch);
	wire_put_array_header(entry, 0);
	wire_put_int(entry, -1);
}

/*
 * The entry of one step, and what must become of it; false: a restart.
 */
static bool
next_entry(Program *program, const Log *log, WireBuffer *entry,
		   Record *record)
{
	unsigned	op = (unsigned) argument(program, 1);
	uint64_t	last = log->count > 0 ?
		log->records[log->count - 1].log_index : 0;
	uint64_t	next = next_epoch(log);
	uint64_t	ack;
	bool		batch = true;

	memset(record, 0, sizeof(*record));
	switch (op % 8)
	{
		case 0:
			record->epoch = next;
			break;
		case 1:
			record->epoch = next + 1 + argument(program, 1);
			break;
		case 2:
			record->epoch = log->highest -
				argument(program, 1) % (log->highest + 1);
			break;
		case 3:
			record->epoch = argument(program, 8);
			break;
		case 4:
			batch = false;
			ack = argument(program, 8);
			wire_put_ack(entry, ack, op, op * 7919);
			record->fate = ack > LAST_EPOCH ? FATE_UNDECODABLE : FATE_ACK;
			break;
		case 5:
			batch = false;
			record->fate = FATE_NOTHING;
			break;
		case 6:
			/* a batch that lacks its end, or lies about it */
			batch = false;
			put_batch(entry, next);
			entry->len -= 1 + argument(program, 1) % entry->len;
			record->fate = entry->len > 0 ? FATE_UNDECODABLE : FATE_NOTHING;
			break;
		default:
			return false;
	}

	if (batch)
	{
		put_batch(entry, record->epoch);
		/* what follows an entry is ignored, but is in its length and CRC */
		for (unsigned i = op / 64; i > 0; i--)
			wire_put_nil(entry);
		record->fate = record->epoch > LAST_EPOCH ?
			FATE_UNDECODABLE : fate_of_batch(log, record->epoch);
	}
	record->log_index = last + 1 + (op / 8 == 7 ? argument(program, 4) : 0);
	record->length = (uint32_t) entry->len;
	record->crc32c = crc32c_of(entry->data, entry->len);
	return true;
}

/* The applier's part: from an entry's bytes to the machine's input. */
static MachineInput
input_of(WireDecoder *decoder, const WireBuffer *entry, uint64_t log_index)
{
	MachineInput input = {0};

	input.log_index = log_index;
	input.length = (uint32_t) entry->len;
	input.crc32c = crc32c_of(entry->data, entry->len);
	if (!wire_decode(decoder, entry->data, entry->len))
		input.kind = MACHINE_IN_UNDECODABLE;
	else if (decoder->entry.kind == WIRE_EPOCH_BATCH)
	{
		input.kind = MACHINE_IN_BATCH;
		input.epoch = decoder->entry.epoch;
	}
	else
		input.kind = decoder->entry.kind == WIRE_NOOP ? MACHINE_IN_NOOP :
			MACHINE_IN_ACK;
	return input;
}

static const char *
compare_state(const MachineState *state, const Log *log)
{
	REQUIRE(state->last_applied_epoch == (log->any ? log->highest : MACHINE_NO_EPOCH),
			"another last epoch");
	REQUIRE(machine_next_epoch(state) == next_epoch(log),
			"another next epoch");
	REQUIRE(state->last_applied_index ==
			(log->count > 0 ? log->records[log->count - 1].log_index : 0),
			"another last index");
	REQUIRE(state->digest == digest_of(log), "another digest");
	return NULL;
}

/* The counters after the records from "first" on. */
static const char *
compare_counters(const MachineCounters *counters, const Log *log, int first)
{
	uint64_t	fates[6] = {0};
	uint64_t	bytes = 0;

	for (int i = first; i < log->count; i++)
	{
		fates[log->records[i].fate]++;
		bytes += log->records[i].length;
	}
	REQUIRE(counters->entries_noop == fates[FATE_NOTHING] &&
			counters->entries_undecodable == fates[FATE_UNDECODABLE] &&
			counters->epochs_applied == fates[FATE_APPLIED] &&
			counters->epochs_skipped_gap == fates[FATE_GAP] &&
			counters->epochs_skipped_stale == fates[FATE_STALE] &&
			counters->completion_acks == fates[FATE_ACK],
			"other counters");
	REQUIRE(counters->entries_applied == (uint64_t) (log->count - first) &&
			counters->bytes_applied == bytes, "other totals");
	REQUIRE(counters->txns_fanned_out == 0 &&
			counters->txns_dropped_backpressure == 0,
			"the fan-out's counters are not the machine's");
	return NULL;
}

static const char *
run(Program *program, Log *log, WireDecoder *decoder, WireBuffer *entry)
{
	MachineState state;
	MachineCounters counters = {0};
	int			restarted = 0;
	const char *wrong = NULL;

	machine_init(&state);
	while (wrong == NULL && program->left > 0 && log->count < MOST_STEPS)
	{
		Record		record;
		MachineInput input;
		MachineOutcome outcome;
		uint64_t	before = state.last_applied_epoch;

		wire_buffer_reset(entry);
		if (!next_entry(program, log, entry, &record))
		{
			MachineState kept = state;

			wrong = compare_state(&state, log);
			if (wrong == NULL)
				wrong = compare_counters(&counters, log, restarted);
			memset(&state, 0xff, sizeof(state));
			memset(&counters, 0, sizeof(counters));
			state = kept;
			restarted = log->count;
			continue;
		}
		input = input_of(decoder, entry, record.log_index);
		outcome = machine_step(&state, &counters, &input);
		append(log, &record);
		if ((int) outcome != (int) record.fate)
			wrong = "another outcome";
		else if (before != MACHINE_NO_EPOCH &&
				 state.last_applied_epoch < before)
			wrong = "the epoch went back";
		else if ((outcome == MACHINE_APPLY || outcome == MACHINE_GAP) ?
				 state.last_applied_epoch != record.epoch :
				 state.last_applied_epoch != before)
			wrong = "the epoch is not the one of the last batch that raised it";
	}
	if (wrong == NULL)
		wrong = compare_state(&state, log);
	if (wrong == NULL)
		wrong = compare_counters(&counters, log, restarted);
	return wrong;
}

const char *
machine_check(const uint8_t *data, size_t len)
{
	static WireDecoder *decoder = NULL;
	static Log	log;
	Program		program = {data, len};
	WireBuffer	entry;
	const char *wrong;

	if (decoder == NULL)
		decoder = new_decoder(16, 2 * WIRE_VSHARDS);
	log.count = 0;
	log.any = false;
	log.highest = 0;
	new_buffer(&entry);
	wrong = run(&program, &log, decoder, &entry);
	wire_buffer_free(&entry);
	return wrong;
}
