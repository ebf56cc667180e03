/*
 * append.c
 *	  seq_append and seq_append_json: checked, canonical appends.
 */
#include "compat.h"

#include "access/xlog.h"
#include "log/append.h"
#include "log/following.h"
#include "log/memory.h"
#include "log/report.h"
#include "sql/json_encode.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

CALVIN_FUNCTION(seq_append);
CALVIN_FUNCTION(seq_append_json);

static void
check_epoch(uint64 epoch, bool force)
{
	uint64		next = append_next_epoch();

	if (epoch == next)
		return;
	if (epoch < next)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("epoch " UINT64_FORMAT " is already in the log", epoch),
				 errdetail("The next epoch is " UINT64_FORMAT ".", next),
				 errhint("Another proposer was first: number the batch anew.")));
	if (!force)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("epoch " UINT64_FORMAT " would leave a gap", epoch),
				 errdetail("The next epoch is " UINT64_FORMAT ".", next),
				 errhint("Pass force => true to jump ahead on purpose.")));
	if (epoch - next > APPEND_MAX_JUMP)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("epoch " UINT64_FORMAT " is too far ahead", epoch),
				 errdetail("The next epoch is " UINT64_FORMAT "; at most %d can be skipped.",
						   next, APPEND_MAX_JUMP)));
}

/*
 * The entry as the log is to have it: "given" itself if it is canonical, which
 * is what programs write and costs one look, or its canonical form.
 */
static bytea *
canonical_form(bytea *given, WireEntry *entry)
{
	const uint8 *data = (const uint8 *) VARDATA_ANY(given);
	size_t		size = VARSIZE_ANY_EXHDR(given);
	bool		is_canonical;
	WireBuffer	canonical;
	WireError	error;

	if (wire_examine(data, size, entry, &is_canonical) && is_canonical)
		return given;
	memory_bytea_init(&canonical);
	if (!wire_canonicalise(data, size, &canonical, entry, &error))
		wire_report(&error);
	return memory_bytea_finish(&canonical);
}

static void
check_may_append(const char *function)
{
	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("cannot append to the log during recovery"),
				 errhint("Append on the primary.")));
	PreventCommandIfReadOnly(function);
	following_refuse(function);
}

/* Append bytes in whatever form a program wrote them. */
static int64
append(bytea *given, bool force)
{
	bytea	   *form;
	WireEntry	entry;
	int64		log_index;

	form = canonical_form(given, &entry);

	append_lock();
	if (entry.kind == WIRE_EPOCH_BATCH)
		check_epoch(entry.epoch, force);
	log_index = append_insert(form, &entry);
	if (form != given)
		pfree(form);
	return log_index;
}

/* seq_append(entry bytea, force boolean) -> log_index */
Datum
seq_append(PG_FUNCTION_ARGS)
{
	check_may_append("seq_append()");
	PG_RETURN_INT64(append(PG_GETARG_BYTEA_PP(0), PG_GETARG_BOOL(1)));
}

/* What is left out is the log's to say, and stays so until this transaction ends. */
static void
find_next(uint64 *epoch, int64 *epoch_system_ms)
{
	append_lock();
	*epoch = append_next_epoch();
	*epoch_system_ms = append_batch_ms();
}

/* seq_append_json(entry jsonb, force boolean) -> log_index */
Datum
seq_append_json(PG_FUNCTION_ARGS)
{
	check_may_append("seq_append_json()");
	PG_RETURN_INT64(append(json_encode_entry(PG_GETARG_JSONB_P(0), find_next),
						   PG_GETARG_BOOL(1)));
}
