/*
 * json_encode.h
 *	  An entry as a person writes it in JSON, to its canonical bytes.
 */
#ifndef CALVIN_SQL_JSON_ENCODE_H
#define CALVIN_SQL_JSON_ENCODE_H

#include "compat.h"

#include "utils/jsonb.h"

/* What a batch has that leaves it out: the log's next epoch, and the time. */
typedef void (*JsonFindNext) (uint64 *epoch, int64 *epoch_system_ms);

/*
 * The canonical bytes, palloc'd.  JSON null is the no-op, which has none.
 * Anything that is not an entry raises an error that names the JSON path; so does
 * a batch without epoch or epoch_system_ms if "find" is NULL.
 */
extern bytea *json_encode_entry(Jsonb *json, JsonFindNext find);

/* The same for a TxClass by itself. */
extern bytea *json_encode_tx_class(Jsonb *json);

#endif							/* CALVIN_SQL_JSON_ENCODE_H */
