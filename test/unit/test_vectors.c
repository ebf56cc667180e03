/*
 * test_vectors.c
 *	  Two generated logs, against what the Rust original made of them: the
 *	  decoder, the canonical form, the state machine and the fan-out.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "machine/machine.h"
#include "support.h"
#include "tap.h"

/* A transaction as one vshard receives it: the columns of *.apply.json. */
typedef struct Delivery
{
	int64_t		columns[6];
} Delivery;

typedef struct Stream
{
	Delivery   *items;
	size_t		count;
	size_t		size;
} Stream;

static Stream streams[WIRE_VSHARDS];

static void
deliver(const WireEntry *entry, const WireTxn *txn)
{
	WireBuffer	sequenced;
	WireError	error;
	Delivery	delivery;

	new_buffer(&sequenced);
	wire_put_array_header(&sequenced, 4);
	wire_put_uint(&sequenced, entry->epoch);
	wire_put_uint(&sequenced, txn->position);
	wire_canonical_tx_class(txn->tx_class, &sequenced, &error);
	wire_put_int(&sequenced, entry->epoch_system_ms);

	delivery.columns[0] = (int64_t) entry->epoch;
	delivery.columns[1] = txn->position;
	delivery.columns[2] = entry->epoch_system_ms;
	delivery.columns[3] = crc32_of(txn->plans.data, txn->plans.len);
	delivery.columns[4] = txn->plans.len;
	delivery.columns[5] = crc32_of(sequenced.data, sequenced.len);
	wire_buffer_free(&sequenced);

	for (int i = 0; i < txn->vshard_count; i++)
	{
		Stream	   *stream = &streams[txn->vshards[i]];

		if (stream->count == stream->size)
		{
			stream->size = stream->size * 2 + 16;
			stream->items = realloc(stream->items,
									stream->size * sizeof(Delivery));
		}
		stream->items[stream->count++] = delivery;
	}
}

/*
 * The decoder on one entry.  True if everything agrees with its line of
 * *.decode.jsonl.
 */
static bool
check_decode(WireDecoder *decoder, bool decoded, size_t len, const char *line)
{
	const WireEntry *entry = &decoder->entry;
	WireBuffer	canonical;
	WireTxn		txn;
	bool		all_canonical = true;
	bool		is_canonical;
	bool		good;

	if (json_u64(line, "len") != len)
		return false;
	if (json_is(line, "verdict", "reject"))
		return len == 0 ? decoded && entry->kind == WIRE_NOOP : !decoded;
	if (!decoded || entry->epoch != json_u64(line, "epoch") ||
		len - entry->length != json_u64(line, "trailing_bytes"))
		return false;

	if (json_is(line, "verdict", "ack"))
	{
		if (entry->kind != WIRE_COMPLETION_ACK ||
			entry->position != json_u64(line, "position") ||
			entry->vshard_id != json_u64(line, "vshard_id"))
			return false;
	}
	else if (entry->kind != WIRE_EPOCH_BATCH ||
			 entry->epoch_system_ms != json_i64(line, "epoch_system_ms") ||
			 entry->txn_count != json_u64(line, "txns"))
		return false;

	new_buffer(&canonical);
	good = reencode(decoder, &canonical) &&
		canonical.len == json_u64(line, "canonical_len") &&
		crc32_of(canonical.data, canonical.len) ==
		json_u64(line, "canonical_crc32");
	is_canonical = same_bytes(&canonical, decoder->data, len);
	if (is_canonical != json_is(line, "canonical", "true"))
		good = false;

	/* The flag of each transaction is exact, not just safe. */
	wire_rewind(decoder);
	while (wire_next_txn(decoder, &txn))
	{
		WireError	error;

		canonical.len = 0;
		wire_canonical_tx_class(txn.tx_class, &canonical, &error);
		if (txn.canonical != same_bytes(&canonical, txn.tx_class.data,
										txn.tx_class.len))
			good = false;
		all_canonical &= txn.canonical;
	}
	if (is_canonical && !all_canonical)
		good = false;
	wire_buffer_free(&canonical);
	return good;
}

static MachineInput
machine_input(uint64_t log_index, const WireDecoder *decoder, bool decoded,
			  const uint8_t *data, size_t len)
{
	MachineInput input = {0};

	input.log_index = log_index;
	input.length = (uint32_t) len;
	input.crc32c = crc32c_of(data, len);
	input.epoch = decoder->entry.epoch;
	if (!decoded)
		input.kind = MACHINE_IN_UNDECODABLE;
	else if (decoder->entry.kind == WIRE_NOOP)
		input.kind = MACHINE_IN_NOOP;
	else if (decoder->entry.kind == WIRE_EPOCH_BATCH)
		input.kind = MACHINE_IN_BATCH;
	else
		input.kind = MACHINE_IN_ACK;
	return input;
}

/*
 * The next row of a trace, [log_index, last epoch, applied, fanned out,
 * dropped, gaps, panicked]: those that a machine alone can know.
 */
static bool
read_step(FILE *trace, uint64_t step[4])
{
	char		line[256];

	while (fgets(line, sizeof(line), trace) != NULL)
	{
		const char *row = strrchr(line, '[');

		if (row != NULL &&
			sscanf(row,
				   "[%" SCNu64 ",%" SCNu64 ",%" SCNu64 ",%*u,%*u,%" SCNu64,
				   &step[0], &step[1], &step[2], &step[3]) == 4)
			return true;
	}
	return false;
}

/* Decoder and machine over a log, against decode.jsonl and trace.json. */
static void
check_log(const char *log, uint64_t wanted_entries)
{
	char		name[64];
	FILE	   *entries;
	FILE	   *decodes;
	FILE	   *traces;
	char	   *entry_line = NULL;
	char	   *decode_line = NULL;
	size_t		entry_size = 0;
	size_t		decode_size = 0;
	WireDecoder *decoder = new_decoder(ROOM_TXNS, ROOM_VSHARDS);
	MachineState state;
	MachineCounters counters = {0};
	uint64_t	count = 0;
	uint64_t	bad_decodes = 0;
	uint64_t	bad_steps = 0;
	uint64_t	bytes = 0;

	snprintf(name, sizeof(name), "%s.jsonl", log);
	entries = open_vectors(name);
	snprintf(name, sizeof(name), "%s.decode.jsonl", log);
	decodes = open_vectors(name);
	snprintf(name, sizeof(name), "%s.trace.json", log);
	traces = open_vectors(name);
	machine_init(&state);

	while (getline(&entry_line, &entry_size, entries) > 0)
	{
		WireBuffer	entry = from_hex(json_value(entry_line, "hex") + 1);
		uint8_t    *copy = exact_copy(entry.data, entry.len);
		uint64_t	log_index = json_u64(entry_line, "log_index");
		uint64_t	step[4] = {0};
		MachineCounters before = counters;
		MachineInput input;
		bool		decoded = wire_decode(decoder, copy, entry.len);

		count++;
		bytes += entry.len;
		if (getline(&decode_line, &decode_size, decodes) <= 0 ||
			json_u64(decode_line, "log_index") != log_index ||
			!check_decode(decoder, decoded, entry.len, decode_line))
		{
			diag("%s, log_index %" PRIu64 ": %s (%s)", log, log_index,
				 decode_line, wire_status_name(decoder->error.status));
			bad_decodes++;
		}

		input = machine_input(log_index, decoder, decoded, copy, entry.len);
		if (machine_step(&state, &counters, &input) == MACHINE_APPLY)
		{
			WireTxn		txn;

			wire_rewind(decoder);
			while (wire_next_txn(decoder, &txn))
				deliver(&decoder->entry, &txn);
		}

		if (!read_step(traces, step))
			step[0] = 0;
		if (step[0] != log_index || step[1] != state.last_applied_epoch ||
			step[2] != counters.epochs_applied - before.epochs_applied ||
			step[3] !=
			counters.epochs_skipped_gap - before.epochs_skipped_gap ||
			state.last_applied_index != log_index)
		{
			diag("%s, log_index %" PRIu64 ": epoch %" PRIu64
				 ", the original's %" PRIu64, log, log_index,
				 state.last_applied_epoch, step[1]);
			bad_steps++;
		}
		free(copy);
		wire_buffer_free(&entry);
	}

	snprintf(name, sizeof(name), "%s: all entries were there", log);
	is_u64(count, wanted_entries, name);
	snprintf(name, sizeof(name), "%s: decoded as the original does", log);
	is_u64(bad_decodes, 0, name);
	snprintf(name, sizeof(name), "%s: stepped as the original does", log);
	is_u64(bad_steps, 0, name);
	snprintf(name, sizeof(name), "%s: every entry is counted once", log);
	is_u64(counters.epochs_applied + counters.epochs_skipped_gap +
		   counters.entries_noop + counters.entries_undecodable +
		   counters.completion_acks, count, name);
	snprintf(name, sizeof(name), "%s: entries_applied", log);
	is_u64(counters.entries_applied, count, name);
	snprintf(name, sizeof(name), "%s: bytes_applied", log);
	is_u64(counters.bytes_applied, bytes, name);
	snprintf(name, sizeof(name), "%s: nothing stale in it", log);
	is_u64(counters.epochs_skipped_stale, 0, name);

	pclose(entries);
	pclose(decodes);
	pclose(traces);
	free(entry_line);
	free(decode_line);
	free_decoder(decoder);
}

/* Whole file in memory, zero-terminated. */
static char *
read_all(const char *name)
{
	FILE	   *file = open_vectors(name);
	WireBuffer	text;
	char		chunk[65536];
	size_t		len;

	new_buffer(&text);
	while ((len = fread(chunk, 1, sizeof(chunk), file)) > 0)
		wire_put_raw(&text, chunk, len);
	wire_put_raw(&text, "", 1);
	pclose(file);
	return (char *) text.data;
}

/* The streams of all vshards, against *.apply.json; empties them. */
static void
check_streams(const char *log)
{
	char		name[64];
	char	   *text;
	char	   *p;
	uint64_t	fanned_out;
	uint64_t	compared = 0;
	uint64_t	differing = 0;
	uint64_t	left_over = 0;
	size_t		seen[WIRE_VSHARDS] = {0};

	snprintf(name, sizeof(name), "%s.apply.json", log);
	text = read_all(name);
	fanned_out = json_u64(text, "txns_fanned_out");
	p = strstr(text, "\"vshards\":{");
	p = p != NULL ? strchr(p, '{') + 1 : text + strlen(text);

	/* "vshard":[[six numbers],[six numbers],...],"vshard":... */
	while ((p = strchr(p, '"')) != NULL)
	{
		unsigned long vshard = strtoul(p + 1, &p, 10);
		Stream	   *stream = &streams[vshard];

		p = strchr(p, '[');
		do
		{
			Delivery	wanted;

			p = strchr(p, '[') + 1 + (p[0] == '[' && p[1] == '[');
			for (int i = 0; i < 6; i++)
			{
				wanted.columns[i] = strtoll(p, &p, 10);
				p++;			/* the comma, or the bracket */
			}
			compared++;
			if (seen[vshard] >= stream->count ||
				memcmp(&stream->items[seen[vshard]++], &wanted,
					   sizeof(wanted)) != 0)
			{
				if (differing++ < 5)
					diag("%s, vshard %lu: row %zu differs", log, vshard,
						 seen[vshard]);
			}
			while (*p == '\n' || *p == ' ')
				p++;
		} while (*p == ',');
	}
	for (int vshard = 0; vshard < WIRE_VSHARDS; vshard++)
	{
		left_over += streams[vshard].count - seen[vshard];
		streams[vshard].count = 0;
	}
	free(text);

	snprintf(name, sizeof(name), "%s: all deliveries were there", log);
	ok(compared == fanned_out && fanned_out > 0, "%s", name);
	snprintf(name, sizeof(name), "%s: fanned out as the original does", log);
	is_u64(differing, 0, name);
	snprintf(name, sizeof(name), "%s: and nothing else is", log);
	is_u64(left_over, 0, name);
}

int
main(void)
{
	check_log("basic", 120);
	check_streams("basic");
	check_log("rough", 260);
	check_streams("rough");
	return done();
}
