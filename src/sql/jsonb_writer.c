/*
 * jsonb_writer.c
 *	  Writing a jsonb from its beginning to its end, without a tree of its values.
 *
 * What is written is what JsonbValueToJsonb() would: utils/jsonb.h describes it.  It is
 * what lies on disk, so it is the same in all versions of the server.
 */
#include "compat.h"

#include "log/memory.h"
#include "miscadmin.h"
#include "sql/jsonb_writer.h"
#include "utils/memutils.h"
#include "utils/numeric.h"

/* Bytes that are copied between two looks for interrupts. */
#define COPY_BYTES ((Size) 1024 * 1024)

void
jsonb_refuse_size(const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
			 errmsg("%s is too large for jsonb", what),
			 errdetail("A jsonb has at most %d bytes, and the arrays in it at most %u elements.",
					   MAX_JSONB_BYTES, MAX_JSONB_ELEMENTS)));
}

/* Room for so many bytes more; where it begins. */
static char *
reserve(JsonbWriter *writer, Size len)
{
	Size		at = writer->len;

	/* the outermost container's own length is limited as that of all others */
	if (len > MAX_JSONB_BYTES || at + len > (Size) MAX_JSONB_BYTES + VARHDRSZ)
		jsonb_refuse_size(writer->what);
	memory_grow(CurrentMemoryContext, (void **) &writer->data, &writer->size,
				at + len, 1);
	writer->len += len;
	return writer->data + at;
}

/* Numbers and containers are aligned, by zeros that count as theirs. */
static void
align(JsonbWriter *writer)
{
	Size		padding = INTALIGN(writer->len) - writer->len;

	memset(reserve(writer, padding), 0, padding);
}

/* What was just written is the next value, or name. */
static void
put_entry(JsonbWriter *writer, JsonbPart *part, uint32 type, Size len)
{
	JEntry		entry;

	part->total += len;
	if (part->total > MAX_JSONB_BYTES)
		jsonb_refuse_size(writer->what);
	if (part->next % JB_OFFSET_STRIDE == 0)
		entry = type | (uint32) part->total | JENTRY_HAS_OFF;
	else
		entry = type | (uint32) len;
	memcpy(writer->data + part->entries + part->next * sizeof(JEntry), &entry,
		   sizeof(entry));
	part->next++;
}

void
jsonb_writer_init(JsonbWriter *writer, const char *what)
{
	writer->data = NULL;
	writer->len = 0;
	writer->size = 0;
	writer->what = what;
	(void) reserve(writer, VARHDRSZ);
}

static void
begin(JsonbWriter *writer, JsonbPart *part, JsonbPart *parent, uint32 header,
	  Size entries)
{
	CHECK_FOR_INTERRUPTS();
	part->parent = parent;
	part->begin = writer->len;
	align(writer);
	memcpy(reserve(writer, sizeof(header)), &header, sizeof(header));
	part->entries = writer->len;
	(void) reserve(writer, entries * sizeof(JEntry));
	part->next = 0;
	part->total = 0;
}

void
jsonb_begin_array(JsonbWriter *writer, JsonbPart *part, JsonbPart *parent,
				  uint32 count)
{
	if (count > MAX_JSONB_ELEMENTS)
		jsonb_refuse_size(writer->what);
	begin(writer, part, parent, JB_FARRAY | count, count);
}

void
jsonb_begin_object(JsonbWriter *writer, JsonbPart *part, JsonbPart *parent,
				   uint32 count)
{
	begin(writer, part, parent, JB_FOBJECT | count, (Size) count * 2);
}

void
jsonb_end(JsonbWriter *writer, JsonbPart *part)
{
	if (part->parent != NULL)
		put_entry(writer, part->parent, JENTRY_ISCONTAINER,
				  writer->len - part->begin);
}

char *
jsonb_put_room(JsonbWriter *writer, JsonbPart *part, Size len)
{
	char	   *room;

	CHECK_FOR_INTERRUPTS();
	room = reserve(writer, len);
	put_entry(writer, part, JENTRY_ISSTRING, len);
	return room;
}

void
jsonb_put_string(JsonbWriter *writer, JsonbPart *part, const char *string, Size len)
{
	char	   *room = jsonb_put_room(writer, part, len);

	for (Size done = 0; done < len; done += COPY_BYTES)
	{
		CHECK_FOR_INTERRUPTS();
		memcpy(room + done, string + done, Min(len - done, COPY_BYTES));
	}
}

void
jsonb_put_number(JsonbWriter *writer, JsonbPart *part, int64 number)
{
	Numeric		numeric = int64_to_numeric(number);
	Size		begin = writer->len;

	CHECK_FOR_INTERRUPTS();
	align(writer);
	memcpy(reserve(writer, VARSIZE(numeric)), numeric, VARSIZE(numeric));
	put_entry(writer, part, JENTRY_ISNUMERIC, writer->len - begin);
	pfree(numeric);
}

void
jsonb_put_null(JsonbWriter *writer, JsonbPart *part)
{
	put_entry(writer, part, JENTRY_ISNULL, 0);
}

Jsonb *
jsonb_writer_finish(JsonbWriter *writer)
{
	SET_VARSIZE(writer->data, writer->len);
	return (Jsonb *) writer->data;
}
