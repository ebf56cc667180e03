/*
 * report.c
 *	  What the pure layers refuse, as PostgreSQL errors.
 *
 * The only place that knows which SQLSTATE a WireStatus has.
 */
#include "compat.h"

#include "log/report.h"

int
wire_sqlstate(WireStatus status)
{
	switch (status)
	{
		case WIRE_OK:
			break;
		case WIRE_TRUNCATED:
		case WIRE_WRONG_TYPE:
		case WIRE_WRONG_LENGTH:
		case WIRE_WRONG_TAG:
		case WIRE_TRAILING:
			return ERRCODE_INVALID_BINARY_REPRESENTATION;
		case WIRE_OUT_OF_RANGE:
			return ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE;
		case WIRE_BAD_UTF8:
			return ERRCODE_CHARACTER_NOT_IN_REPERTOIRE;
		case WIRE_MISMATCH:
			return ERRCODE_DATA_EXCEPTION;
		case WIRE_TOO_LARGE:
			return ERRCODE_PROGRAM_LIMIT_EXCEEDED;
		case WIRE_NO_MEMORY:
			return ERRCODE_OUT_OF_MEMORY;
	}
	return ERRCODE_INTERNAL_ERROR;
}

pg_noreturn static void report(const WireError *error, const char *what, const char *hint);

static void
report(const WireError *error, const char *what, const char *hint)
{
	if (error->status == WIRE_TOO_LARGE)
		ereport(ERROR,
				(errcode(wire_sqlstate(error->status)),
				 errmsg("%s is too large", what),
				 errdetail("An entry has at most %u bytes.", WIRE_MAX_ENTRY),
				 errhint("%s", hint)));
	if (error->status == WIRE_NO_MEMORY)
		ereport(ERROR,
				(errcode(wire_sqlstate(error->status)),
				 errmsg("out of memory"),
				 errdetail("Failed while writing the canonical form of a %s.", what)));
	ereport(ERROR,
			(errcode(wire_sqlstate(error->status)),
			 errmsg("invalid %s at byte %u: %s", what, error->offset,
					wire_status_name(error->status)),
			 errdetail("Expected %s for %s.", error->expected, error->field)));
	pg_unreachable();
}

void
wire_report(const WireError *error)
{
	report(error, "sequencer entry", "Split the batch.");
}

void
wire_report_tx_class(const WireError *error)
{
	report(error, "TxClass", "Split the transaction.");
}

char *
wire_describe(const WireError *error)
{
	return psprintf("byte %u: %s, expected %s for %s", error->offset,
					wire_status_name(error->status), error->expected,
					error->field);
}
