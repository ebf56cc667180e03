/*
 * names.c
 *	  Names of collections, from the log's UTF-8 to the database's encoding.
 */
#include "compat.h"

#include "catalog/namespace.h"
#include "mb/pg_wchar.h"
#include "sql/names.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

/* In all encodings that a database can have, ASCII is ASCII. */
static bool
is_ascii(WireSlice name)
{
	uint8		seen = 0;

	for (uint32 i = 0; i < name.len; i++)
		seen |= name.data[i];
	return !IS_HIGHBIT_SET(seen);
}

/* "at" is a byte of the name. */
static void
refuse_name(const NameDecoder *decoder, WireSlice name, uint32 offset, uint32 at)
{
	uint32		len = 1;
	char		hex[2 * MAX_MULTIBYTE_CHAR_LEN + 1];

	while (at > 0 && (name.data[at] & 0xc0) == 0x80)
		at--;
	while (at + len < name.len && len < MAX_MULTIBYTE_CHAR_LEN &&
		   (name.data[at + len] & 0xc0) == 0x80)
		len++;
	hex[hex_encode((const char *) name.data + at, len, hex)] = '\0';
	ereport(ERROR,
			(errcode(ERRCODE_UNTRANSLATABLE_CHARACTER),
			 errmsg("cannot represent collection name of %s as text", decoder->what),
			 name.data[at] == '\0' ?
			 errdetail("There is a zero byte at byte %u of the %s.", offset + at,
					   decoder->unit) :
			 errdetail("The character 0x%s at byte %u of the %s has no exact equivalent in encoding \"%s\".",
					   hex, offset + at,
					   decoder->unit,
					   GetDatabaseEncodingName()),
			 errhint("seq_receive and seq_replay return it as it is, in tx_class.")));
}

static unsigned char *
convert(Oid proc, int from, int to, const unsigned char *source, Size len,
		Size *converted)
{
	Size		size = len * MAX_CONVERSION_GROWTH + 1;
	unsigned char *result = MemoryContextAllocHuge(CurrentMemoryContext, size);

	*converted = (Size) pg_do_encoding_conversion_buf(proc, from, to,
													  (unsigned char *) source,
													  (int) len, result,
													  (int) size, true);
	return result;
}

void
name_decoder_init(NameDecoder *decoder, const char *what)
{
	const char *word = strrchr(what, ' ');

	decoder->what = what;
	decoder->unit = word != NULL ? word + 1 : what;
	decoder->encoding = GetDatabaseEncoding();
	decoder->from_utf8 = InvalidOid;
	decoder->to_utf8 = InvalidOid;
	if (decoder->encoding != PG_UTF8 && decoder->encoding != PG_SQL_ASCII)
	{
		decoder->from_utf8 = FindDefaultConversionProc(PG_UTF8, decoder->encoding);
		decoder->to_utf8 = FindDefaultConversionProc(decoder->encoding, PG_UTF8);
	}
}

char *
name_decode(const NameDecoder *decoder, WireSlice name, uint32 offset, Size *len)
{
	const uint8 *zero;
	unsigned char *text;
	unsigned char *back;
	Size		converted;
	Size		same = 0;

	zero = name.len > 0 ? memchr(name.data, 0, name.len) : NULL;
	if (zero != NULL)
		refuse_name(decoder, name, offset, (uint32) (zero - name.data));
	*len = name.len;
	if (decoder->encoding == PG_UTF8 || decoder->encoding == PG_SQL_ASCII ||
		is_ascii(name))
		return (char *) name.data;

	if (!OidIsValid(decoder->from_utf8) || !OidIsValid(decoder->to_utf8))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("there is no conversion between encodings \"%s\" and \"%s\"",
						pg_encoding_to_char(PG_UTF8),
						pg_encoding_to_char(decoder->encoding))));
	text = convert(decoder->from_utf8, PG_UTF8, decoder->encoding, name.data,
				   name.len, &converted);
	if (converted < name.len)
		refuse_name(decoder, name, offset, (uint32) converted);
	*len = strlen((char *) text);

	back = convert(decoder->to_utf8, decoder->encoding, PG_UTF8, text, *len, &converted);
	while (same < name.len && back[same] == name.data[same])
		same++;
	if (same < name.len || back[same] != '\0')
		refuse_name(decoder, name, offset, (uint32) Min(same, name.len - 1));
	pfree(back);
	return (char *) text;
}
