/*
 * json_encode.h
 *	  An entry as a person writes it in JSON, to its canonical bytes.
 */
#ifndef CALVIN_SQL_JSON_ENCODE_H
#define CALVIN_SQL_JSON_ENCODE_H

#include "compat.h"

#include "utils/jsonb.h"

/*
 * The canonical bytes, palloc'd.  JSON null is the no-op, which has none.
 * Anything that is not an entry raises an error that names the JSON path.
 */
extern bytea *json_encode_entry(Jsonb *json);

#endif							/* CALVIN_SQL_JSON_ENCODE_H */
