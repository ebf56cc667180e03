/*
 * codec.c
 *	  seq_encode, seq_decode and seq_vshard: entries as JSON, and the vshard of
 *	  a collection.
 *
 * None of them needs the library to be preloaded.
 */
#include "compat.h"

#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "sql/json_decode.h"
#include "sql/json_encode.h"
#include "wire/wire.h"

CALVIN_FUNCTION(seq_encode);
CALVIN_FUNCTION(seq_decode);
CALVIN_FUNCTION(seq_vshard);

/* seq_encode(entry jsonb) -> bytea */
Datum
seq_encode(PG_FUNCTION_ARGS)
{
	PG_RETURN_BYTEA_P(json_encode_entry(PG_GETARG_JSONB_P(0), NULL));
}

/* seq_decode(entry bytea) -> jsonb */
Datum
seq_decode(PG_FUNCTION_ARGS)
{
	bytea	   *entry = PG_GETARG_BYTEA_PP(0);

	PG_RETURN_JSONB_P(json_decode_entry((const uint8 *) VARDATA_ANY(entry),
										VARSIZE_ANY_EXHDR(entry)));
}

/* seq_vshard(collection text) -> int */
Datum
seq_vshard(PG_FUNCTION_ARGS)
{
	text	   *collection = PG_GETARG_TEXT_PP(0);
	char	   *name = VARDATA_ANY(collection);
	size_t		len = VARSIZE_ANY_EXHDR(collection);
	char	   *utf8;

	/* the hash is of the bytes that the log holds, which are UTF-8 */
	utf8 = pg_server_to_any(name, (int) len, PG_UTF8);
	if (utf8 != name)
		len = strlen(utf8);
	PG_RETURN_INT32(wire_vshard((const uint8 *) utf8, len));
}
