/*
 * feed.c
 *	  What a follower asks of its source: seq_feed_state and seq_feed.
 *
 * Nothing is given out that this server could still lose: no entry behind the
 * published state, which speaks of what is durable here.  What is given out is
 * proved by the digest behind its last entry, which the follower has to come to as
 * well.
 */
#include "compat.h"

#include "access/htup_details.h"
#include "catalog/pg_type_d.h"
#include "log/append.h"
#include "log/attach.h"
#include "log/following.h"
#include "log/identity.h"
#include "log/reader.h"
#include "log/snapshots.h"
#include "log/states.h"
#include "log/step.h"
#include "miscadmin.h"
#include "shared/database.h"
#include "shared/pause.h"
#include "sql/args.h"
#include "sql/result.h"
#include "sql/state.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"

CALVIN_FUNCTION(seq_feed_state);
CALVIN_FUNCTION(seq_feed);

/*
 * The last state that this session has answered with, so that a follower which goes
 * on from there costs no look at the log.
 */
static MachineState answered;
static Oid	answered_log = InvalidOid;

static Datum
digest_text(uint64 digest)
{
	return CStringGetTextDatum(psprintf("%016llx", (unsigned long long) digest));
}

/* Of two states of this log the one that helps to find the one at a log_index. */
static const MachineState *
nearest(const LogAccess *access, const PublishedState *published, uint64 log_index)
{
	const MachineState *applied = &published->machine;

	if (answered_log != access->table.log || answered.last_applied_index > log_index)
		return applied;
	return applied->last_applied_index <= log_index &&
		applied->last_applied_index > answered.last_applied_index ? applied : &answered;
}

static void
find_state(const LogAccess *access, const PublishedState *published, uint64 log_index,
		   MachineState *state)
{
	states_find(access, log_index, nearest(access, published, log_index), state);
	answered = *state;
	answered_log = access->table.log;
}

static void
put_epoch(Datum *value, bool *isnull, uint64 epoch)
{
	*value = Int64GetDatum((int64) epoch);
	*isnull = epoch == MACHINE_NO_EPOCH;
}

/*
 * seq_feed_state(log_index) -> (digest_version int, identity uuid, follower uuid,
 *	applied_index bigint, log_end bigint, base_index bigint, base_epoch bigint,
 *	base_digest text, base_entry_length bigint, base_entry_crc bigint,
 *	found_index bigint, digest text)
 *
 * Of one moment: what this log is, from where to where it is here, and the state
 * behind the last entry up to log_index, if that is between.
 */
#define FEED_STATE_COLUMNS 12

Datum
seq_feed_state(PG_FUNCTION_ARGS)
{
	static const Oid types[FEED_STATE_COLUMNS] = {
		INT4OID, UUIDOID, UUIDOID, INT8OID, INT8OID, INT8OID, INT8OID, TEXTOID,
		INT8OID, INT8OID, INT8OID, TEXTOID
	};
	uint64		log_index = arg_log_index(PG_GETARG_INT64(0));
	DatabaseSlot *slot = attach_database();
	TupleDesc	desc = result_row(fcinfo, FEED_STATE_COLUMNS, types);
	PublishedState published;
	LogAccess	access;
	MachineState base;
	MachineState found;
	pg_uuid_t	identity;
	Following	following;
	Datum		values[FEED_STATE_COLUMNS];
	bool		nulls[FEED_STATE_COLUMNS] = {false};

	/* the state first: all that it speaks of is then to be seen */
	database_read(slot, &published);
	log_access_begin(&access, ACCESS_SNAPSHOTS | ACCESS_IDENTITY, ACCESS_LATEST);
	values[0] = Int32GetDatum(MACHINE_DIGEST_VERSION);
	nulls[1] = !identity_of_log(&access, &identity);
	values[1] = UUIDPGetDatum(&identity);
	nulls[2] = !following_find(&following);
	values[2] = UUIDPGetDatum(&following.id);
	values[3] = Int64GetDatum((int64) published.machine.last_applied_index);
	snapshots_begin(&access, &base);
	values[4] = Int64GetDatum(Max(log_last_index(&access),
								  (int64) base.last_applied_index));
	values[5] = Int64GetDatum((int64) base.last_applied_index);
	put_epoch(&values[6], &nulls[6], base.last_applied_epoch);
	values[7] = digest_text(base.digest);
	values[8] = Int64GetDatum((int64) (base.last_entry >> 32));
	values[9] = Int64GetDatum((int64) (uint32) base.last_entry);
	nulls[10] = nulls[11] = log_index < base.last_applied_index ||
		log_index > published.machine.last_applied_index;
	if (!nulls[10])
	{
		if (log_index == base.last_applied_index)
			found = base;
		else
			find_state(&access, &published, log_index, &found);
		values[10] = Int64GetDatum((int64) found.last_applied_index);
		values[11] = digest_text(found.digest);
	}
	log_access_end(&access);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, nulls)));
}

/* An error unless this log has what comes behind a log_index, applied through "applied". */
static void
require_reachable(const LogAccess *access, uint64 log_index, uint64 applied)
{
	MachineState base;

	if (snapshots_base(access, &base) && log_index < base.last_applied_index)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("what follows log_index " UINT64_FORMAT " was truncated from the log",
						log_index),
				 errdetail("It begins behind log_index " UINT64_FORMAT ".",
						   base.last_applied_index)));
	if (log_index > applied)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("log_index " UINT64_FORMAT " is not applied here", log_index),
				 errdetail("The log is applied up to log_index " UINT64_FORMAT ".", applied)));
}

/*
 * (log_index bigint, appended_at timestamptz, entry bytea, applied_index bigint,
 *  digest text)
 */
#define FEED_COLUMNS 5

static void
put_row(ReturnSetInfo *rsinfo, const LogRow *row)
{
	Datum		values[FEED_COLUMNS] = {0};
	bool		nulls[FEED_COLUMNS] = {false, false, false, true, true};
	bytea	   *entry = palloc((Size) row->entry_len + VARHDRSZ);

	SET_VARSIZE(entry, (Size) row->entry_len + VARHDRSZ);
	memcpy(VARDATA(entry), row->entry, row->entry_len);
	values[0] = Int64GetDatum((int64) row->log_index);
	values[1] = TimestampTzGetDatum(row->appended_at);
	values[2] = PointerGetDatum(entry);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	pfree(entry);
}

/* Behind the last row: where that is, how far there is more, and the proof. */
static void
put_end(ReturnSetInfo *rsinfo, const MachineState *state, uint64 applied)
{
	Datum		values[FEED_COLUMNS] = {0};
	bool		nulls[FEED_COLUMNS] = {false, true, true, false, false};

	values[0] = Int64GetDatum((int64) state->last_applied_index);
	values[3] = Int64GetDatum((int64) applied);
	values[4] = digest_text(state->digest);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/*
 * The rows behind a state, as far as the log was applied, or a little more than so many
 * bytes of them; the state is then the one behind them.
 */
static void
put_rows(ReturnSetInfo *rsinfo, const LogAccess *access, uint64 applied, int64 max_bytes,
		 MachineState *state)
{
	MachineCounters counters = {0};
	WireDecoder decoder;
	MachineInput input;
	LogReader	reader;
	LogRow		row;
	int64		bytes = 0;

	if (state->last_applied_index >= applied)
		return;
	wire_decoder_init(&decoder, NULL, 0, NULL, 0);
	log_reader_begin_by_index(&reader, access, (int64) state->last_applied_index + 1,
							  (int64) applied);
	while (bytes < max_bytes && log_reader_next(&reader, &row))
	{
		CHECK_FOR_INTERRUPTS();
		put_row(rsinfo, &row);
		bytes += row.entry_len + COPIED_ROW_BYTES;
		step_input(&row, &decoder, &input);
		(void) machine_step(state, &counters, &input);
	}
	log_reader_end(&reader);
}

/* The log is what was applied, or nobody is to have a copy of it. */
static void
require_proved(const MachineState *state, const MachineState *applied)
{
	if (state->last_applied_index == applied->last_applied_index &&
		state->digest != applied->digest)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("the log is not the one that was applied here"),
				 errdetail("At log_index " UINT64_FORMAT " its digest is %016llx, and that of the applier's state %016llx.",
						   state->last_applied_index, (unsigned long long) state->digest,
						   (unsigned long long) applied->digest)));
}

/*
 * seq_feed(log_index, max_bytes, timeout): what comes behind a log_index, waited for so
 * long if nothing does, and in the end a row without an entry.
 */
Datum
seq_feed(PG_FUNCTION_ARGS)
{
	static const Oid types[FEED_COLUMNS] = {
		INT8OID, TIMESTAMPTZOID, BYTEAOID, INT8OID, TEXTOID
	};
	uint64		log_index = arg_log_index(PG_GETARG_INT64(0));
	int64		max_bytes = PG_GETARG_INT64(1);
	int64		deadline = arg_deadline(PG_GETARG_INTERVAL_P(2));
	ReturnSetInfo *rsinfo = result_rows(fcinfo, FEED_COLUMNS, types);
	DatabaseSlot *slot = attach_database();
	PublishedState published;
	LogAccess	access;
	MachineState state;

	(void) state_wait_for_index(log_index + 1, deadline);
	database_read(slot, &published);
	PAUSE_POINT("feed: state read");
	log_access_begin(&access, ACCESS_SNAPSHOTS | ACCESS_IDENTITY, ACCESS_LATEST);
	require_reachable(&access, log_index, published.machine.last_applied_index);
	find_state(&access, &published, log_index, &state);
	/* a hole where the follower stands is for it to find: the digest tells */
	put_rows(rsinfo, &access, published.machine.last_applied_index, max_bytes, &state);
	log_access_end(&access);
	require_proved(&state, &published.machine);
	answered = state;
	put_end(rsinfo, &state, published.machine.last_applied_index);
	return (Datum) 0;
}
