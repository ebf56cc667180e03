/*
 * json_decode.h
 *	  The bytes of an entry, to JSON that a person can read.
 */
#ifndef CALVIN_SQL_JSON_DECODE_H
#define CALVIN_SQL_JSON_DECODE_H

#include "compat.h"

#include "utils/jsonb.h"

/*
 * What the entry means, as json_encode_entry() takes it: sets are sorted and
 * without repeats.  An entry that the log would call undecodable raises an
 * error, and so does one that jsonb cannot hold.
 */
extern Jsonb *json_decode_entry(const uint8 *data, size_t len);

/* The same for a TxClass by itself, which has to be all of the bytes. */
extern Jsonb *json_decode_tx_class(const uint8 *data, size_t len);

#endif							/* CALVIN_SQL_JSON_DECODE_H */
