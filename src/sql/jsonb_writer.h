/*
 * jsonb_writer.h
 *	  Writing a jsonb from its beginning to its end, without a tree of its values.
 *
 * The server makes a jsonb of such a tree, which is many times larger than what comes
 * out, and nothing interrupts it.  Here containers are written as they are stored: what
 * an array has is counted before, and members come in the order of jsonb, all names
 * first.  That is the caller's to see to.
 */
#ifndef CALVIN_SQL_JSONB_WRITER_H
#define CALVIN_SQL_JSONB_WRITER_H

#include "compat.h"

#include "utils/jsonb.h"
#include "utils/memutils.h"

/* What jsonb's lengths and offsets can tell. */
#define MAX_JSONB_BYTES JENTRY_OFFLENMASK

/* What the server can make a tree of, in functions that change a jsonb. */
#define MAX_JSONB_ELEMENTS ((uint32) 1 << 24)

StaticAssertDecl((Size) MAX_JSONB_ELEMENTS * sizeof(JsonbValue) <= MaxAllocSize,
				 "an array of jsonb values must not exceed what palloc gives");

typedef struct JsonbWriter
{
	char	   *data;
	Size		len;
	Size		size;
	const char *what; /* it is made of, for errors */
} JsonbWriter;

/* A container that is being written. */
typedef struct JsonbPart
{
	struct JsonbPart *parent; /* NULL: it is the whole */
	Size		begin;
	Size		entries; /* where they stand */
	uint32		next;	/* entry */
	Size		total;	/* bytes of what they stand for, so far */
} JsonbPart;

extern void jsonb_writer_init(JsonbWriter *writer, const char *what);

/* Begin and end a container that is a value in its parent. */
extern void jsonb_begin_array(JsonbWriter *writer, JsonbPart *part,
							  JsonbPart *parent, uint32 count);
extern void jsonb_begin_object(JsonbWriter *writer, JsonbPart *part,
							   JsonbPart *parent, uint32 count);
extern void jsonb_end(JsonbWriter *writer, JsonbPart *part);

/* A value, or a member's name. */
extern void jsonb_put_string(JsonbWriter *writer, JsonbPart *part,
							 const char *string, Size len);
extern void jsonb_put_number(JsonbWriter *writer, JsonbPart *part, int64 number);
extern void jsonb_put_null(JsonbWriter *writer, JsonbPart *part);

/*
 * A string that is written piece by piece: room for one that has "len" bytes, to be
 * filled before anything else is called.
 */
extern char *jsonb_put_room(JsonbWriter *writer, JsonbPart *part, Size len);

/* The whole, when all of it has ended. */
extern Jsonb *jsonb_writer_finish(JsonbWriter *writer);

extern void jsonb_refuse_size(const char *what);

#endif							/* CALVIN_SQL_JSONB_WRITER_H */
