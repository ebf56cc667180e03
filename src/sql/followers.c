/*
 * followers.c
 *	  Who follows this log: seq_feed_note, seq_drop_follower and the view seq_followers.
 */
#include "compat.h"

#include "access/xlog.h"
#include "catalog/pg_type_d.h"
#include "log/append.h"
#include "log/followers.h"
#include "log/hint.h"
#include "log/identity.h"
#include "log/reader.h"
#include "log/snapshots.h"
#include "sql/args.h"
#include "sql/registering.h"
#include "sql/result.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/tuplestore.h"
#include "utils/uuid.h"

CALVIN_FUNCTION(seq_feed_note);
CALVIN_FUNCTION(seq_drop_follower);
CALVIN_FUNCTION(seq_followers_info);

/* A name is for people, and not to fill tables. */
#define MAX_NAME 200

static const pg_uuid_t *
arg_id(text *id)
{
	return DatumGetUUIDP(DirectFunctionCall1(uuid_in, CStringGetDatum(text_to_cstring(id))));
}

/*
 * seq_feed_note(follower, name, log_index) -> was it stored?  Not on a standby, which
 * cannot, nor beside somebody who stores it.
 */
Datum
seq_feed_note(PG_FUNCTION_ARGS)
{
	const pg_uuid_t *id = arg_id(PG_GETARG_TEXT_PP(0));
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(1));
	uint64		log_index = arg_log_index(PG_GETARG_INT64(2));

	if (RecoveryInProgress())
		PG_RETURN_BOOL(false);
	PreventCommandIfReadOnly("seq_feed_note()");
	if (strlen(name) > MAX_NAME)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a follower's name may have %d bytes at most", MAX_NAME)));
	/* who says that he has more would let go what he still needs */
	if ((int64) log_index > append_committed_end())
		PG_RETURN_BOOL(false);
	PG_RETURN_BOOL(followers_note(id, name, log_index));
}

/* seq_drop_follower(id) */
Datum
seq_drop_follower(PG_FUNCTION_ARGS)
{
	text	   *given = PG_GETARG_TEXT_PP(0);

	registering_refuse("seq_drop_follower()");
	if (!followers_remove(arg_id(given)))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("there is no follower \"%s\"", text_to_cstring(given)),
				 errhint_for_role("See seq_followers.")));
	PG_RETURN_VOID();
}

/*
 * (id text, name text, log_index bigint, lag bigint, lost boolean, seen_at timestamptz,
 *	since timestamptz)
 */
#define FOLLOWERS_COLUMNS 7

Datum
seq_followers_info(PG_FUNCTION_ARGS)
{
	static const Oid types[FOLLOWERS_COLUMNS] = {
		TEXTOID, TEXTOID, INT8OID, INT8OID, BOOLOID, TIMESTAMPTZOID, TIMESTAMPTZOID
	};
	ReturnSetInfo *rsinfo = result_rows(fcinfo, FOLLOWERS_COLUMNS, types);
	FollowerPosition *positions;
	LogAccess	access;
	MachineState base;
	int64		end;
	int			n = followers_list(&positions);

	log_access_begin(&access, ACCESS_SNAPSHOTS, ACCESS_LATEST);
	snapshots_begin(&access, &base);
	log_access_end(&access);
	end = Max(append_committed_end(), (int64) base.last_applied_index);
	for (int i = 0; i < n; i++)
	{
		Datum		values[FOLLOWERS_COLUMNS];
		bool		nulls[FOLLOWERS_COLUMNS] = {false};

		values[0] = CStringGetTextDatum(identity_text(&positions[i].id));
		values[1] = CStringGetTextDatum(positions[i].name);
		values[2] = Int64GetDatum((int64) positions[i].log_index);
		values[3] = Int64GetDatum(Max(end - (int64) positions[i].log_index, 0));
		values[4] = BoolGetDatum(positions[i].log_index < base.last_applied_index);
		values[5] = TimestampTzGetDatum(positions[i].seen_at);
		values[6] = TimestampTzGetDatum(positions[i].since);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}
