/*
 * source_state.c
 *	  What a source says of its log: the answer of seq_feed_state().
 */
#include "compat.h"

#include <limits.h>

#include "process/source_state.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#define STATE_COLUMNS 12

/* As a server writes one. */
static bool
uuid_at(const PGresult *result, int column, bool *given, pg_uuid_t *uuid)
{
	const char *text;

	*given = source_value(result, STATE_COLUMNS, column, &text);
	if (!*given)
		return true;
	if (strlen(text) != 36 || strspn(text, "0123456789abcdef-") != 36)
		return false;
	for (int i = 0; i < 36; i++)
		if ((text[i] == '-') != (i == 8 || i == 13 || i == 18 || i == 23))
			return false;
	*uuid = *DatumGetUUIDP(DirectFunctionCall1(uuid_in, CStringGetDatum(text)));
	return true;
}

static bool
digest_at(const PGresult *result, int column, uint64 *digest)
{
	const char *text;

	if (!source_value(result, STATE_COLUMNS, column, &text) || strlen(text) != 16 ||
		strspn(text, "0123456789abcdef") != 16)
		return false;
	*digest = strtoull(text, NULL, 16);
	return true;
}

static bool
number_at(const PGresult *result, int column, uint64 *value)
{
	return source_number(result, STATE_COLUMNS, column, value);
}

bool
source_state_read(const PGresult *result, SourceState *state)
{
	uint64		version;
	uint64		length;
	uint64		crc;

	memset(state, 0, sizeof(*state));
	if (!number_at(result, 0, &version) ||
		!uuid_at(result, 1, &state->identified, &state->identity) ||
		!uuid_at(result, 2, &state->follows, &state->follower) ||
		!number_at(result, 3, &state->applied) ||
		!number_at(result, 4, &state->log_end) ||
		!number_at(result, 5, &state->base.last_applied_index) ||
		!digest_at(result, 7, &state->base.digest) ||
		!number_at(result, 8, &length) || length > PG_UINT32_MAX ||
		!number_at(result, 9, &crc) || crc > PG_UINT32_MAX)
		return false;
	state->digest_version = (int) Min(version, INT_MAX);
	state->base.last_entry = length << 32 | crc;
	state->base.last_applied_epoch = MACHINE_NO_EPOCH;
	if (!PQgetisnull(result, 0, 6) && !number_at(result, 6, &state->base.last_applied_epoch))
		return false;
	state->found = !PQgetisnull(result, 0, 10);
	return !state->found || (number_at(result, 10, &state->found_index) &&
							 digest_at(result, 11, &state->digest));
}

char *
source_with_our_log(const char *schema, const MachineState *here)
{
	return psprintf("FROM %s.seq_feed_state(" UINT64_FORMAT ")"
					" WHERE found_index OPERATOR(pg_catalog.=) " UINT64_FORMAT
					" AND digest OPERATOR(pg_catalog.=) '%016llx'",
					schema, here->last_applied_index, here->last_applied_index,
					(unsigned long long) here->digest);
}
