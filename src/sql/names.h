/*
 * names.h
 *	  Names of collections, from the log's UTF-8 to the database's encoding.
 */
#ifndef CALVIN_SQL_NAMES_H
#define CALVIN_SQL_NAMES_H

#include "compat.h"

#include "wire/wire.h"

typedef struct NameDecoder
{
	const char *what; /* what names are read from, for errors; */
	const char *unit; /* and its last word */
	int			encoding; /* the database's */
	Oid			from_utf8; /* conversions between it and the log's */
	Oid			to_utf8;
} NameDecoder;

extern void name_decoder_init(NameDecoder *decoder, const char *what);

/*
 * A name in the database's encoding, where encoding it again gives the same
 * bytes: some encodings have one character for several in Unicode, and another
 * name may belong to another vshard.  An error if there is none; "offset" is
 * where the name stands, for that.  The result may be the name itself.
 */
extern char *name_decode(const NameDecoder *decoder, WireSlice name,
						 uint32 offset, Size *len);

#endif							/* CALVIN_SQL_NAMES_H */
