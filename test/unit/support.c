/*
 * support.c
 *	  What the unit tests share.
 */
#include "support.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "wire/reader.h"

WireDecoder *
new_decoder(uint32_t txns_size, uint32_t vshards_size)
{
	WireDecoder *decoder = malloc(sizeof(WireDecoder));

	wire_decoder_init(decoder, malloc(txns_size * sizeof(WireTxn)), txns_size,
					  malloc(vshards_size * sizeof(uint16_t)), vshards_size);
	return decoder;
}

void
free_decoder(WireDecoder *decoder)
{
	free(decoder->txns);
	free(decoder->vshards);
	free(decoder);
}

void *
plain_realloc(void *context, void *pointer, size_t size)
{
	(void) context;
	if (size == 0)
	{
		free(pointer);
		return NULL;
	}
	return realloc(pointer, size);
}

void
new_buffer(WireBuffer *buffer)
{
	wire_buffer_init(buffer, plain_realloc, NULL);
}

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

void
put_hex(WireBuffer *buffer, const char *hex)
{
	while (*hex != '\0' && *hex != '"')
	{
		int			high;
		int			low;
		uint8_t		byte;

		if (*hex == ' ' || *hex == '|' || *hex == '\n')
		{
			hex++;
			continue;
		}
		high = hex_digit(hex[0]);
		low = high < 0 ? -1 : hex_digit(hex[1]);
		if (low < 0)
		{
			fprintf(stderr, "no hex digits: %.20s\n", hex);
			exit(2);
		}
		byte = (uint8_t) (high << 4 | low);
		wire_put_raw(buffer, &byte, 1);
		hex += 2;
	}
}

WireBuffer
from_hex(const char *hex)
{
	WireBuffer	buffer;

	new_buffer(&buffer);
	put_hex(&buffer, hex);
	return buffer;
}

uint8_t *
exact_copy(const void *data, size_t len)
{
	uint8_t    *copy = malloc(len > 0 ? len : 1);

	if (len > 0)
		memcpy(copy, data, len);
	return copy;
}

uint8_t *
read_file(const char *path, size_t *len)
{
	FILE	   *file = fopen(path, "rb");
	WireBuffer	content;
	uint8_t		part[4096];
	uint8_t    *copy;
	size_t		n;

	if (file == NULL)
	{
		perror(path);
		exit(2);
	}
	new_buffer(&content);
	while ((n = fread(part, 1, sizeof(part), file)) > 0)
		wire_put_raw(&content, part, n);
	if (ferror(file) || fclose(file) != 0)
	{
		perror(path);
		exit(2);
	}
	*len = content.len;
	copy = exact_copy(content.data, content.len);
	wire_buffer_free(&content);
	return copy;
}

static uint32_t
crc_of(const uint8_t *data, size_t len, uint32_t polynomial)
{
	uint32_t	crc = UINT32_MAX;

	for (size_t i = 0; i < len; i++)
	{
		crc ^= data[i];
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? polynomial : 0);
	}
	return ~crc;
}

uint32_t
crc32_of(const void *data, size_t len)
{
	return crc_of(data, len, 0xedb88320);
}

uint32_t
crc32c_of(const void *data, size_t len)
{
	return crc_of(data, len, 0x82f63b78);
}

/* xorshift64* */
uint64_t
next_random(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * UINT64_C(2685821657736338717);
}

bool
reencode(WireDecoder *decoder, WireBuffer *out)
{
	const WireEntry *entry = &decoder->entry;
	WireReader	reader;
	WireError	error;
	WireTxn		txn;
	WireSlice	tag;
	uint64_t	value;
	int64_t		ms;
	uint32_t	count;

	wire_reader_init(&reader, decoder->data, decoder->size, WIRE_STRICT);
	if (!wire_read_tuple(&reader, 2, "") || !wire_read_str(&reader, &tag, ""))
		return false;
	wire_put_array_header(out, 2);
	wire_put_str(out, tag.data, tag.len);

	if (entry->kind == WIRE_COMPLETION_ACK)
	{
		wire_put_array_header(out, 3);
		wire_put_uint(out, entry->epoch);
		wire_put_uint(out, entry->position);
		wire_put_uint(out, entry->vshard_id);
		return true;
	}

	if (!wire_read_tuple(&reader, 1, "") || !wire_read_tuple(&reader, 3, "") ||
		!wire_read_uint(&reader, WIRE_MAX_EPOCH, &value, "") ||
		value != entry->epoch || !wire_read_array(&reader, &count, "") ||
		count != entry->txn_count)
		return false;
	wire_put_array_header(out, 1);
	wire_put_array_header(out, 3);
	wire_put_uint(out, value);
	wire_put_array_header(out, count);

	wire_rewind(decoder);
	while (wire_next_txn(decoder, &txn))
	{
		count--;
		if (!wire_read_tuple(&reader, 4, "") ||
			!wire_read_uint(&reader, WIRE_MAX_EPOCH, &value, ""))
			return false;
		wire_put_array_header(out, 4);
		wire_put_uint(out, value);
		if (!wire_read_uint(&reader, UINT32_MAX, &value, "") ||
			reader.pos != txn.tx_class.data)
			return false;
		wire_put_uint(out, value);
		if (!wire_canonical_tx_class(txn.tx_class, out, &error))
			return false;
		reader.pos += txn.tx_class.len;
		if (!wire_read_int(&reader, &ms, ""))
			return false;
		wire_put_int(out, ms);
	}
	if (count != 0 || !wire_read_int(&reader, &ms, "") ||
		ms != entry->epoch_system_ms ||
		reader.pos != reader.start + entry->length)
		return false;
	wire_put_int(out, ms);
	return true;
}

bool
same_bytes(const WireBuffer *a, const void *data, size_t len)
{
	return a->len == len && (len == 0 || memcmp(a->data, data, len) == 0);
}

/*
 * Epoch 300, two transactions.  The first has every kind of key set, long and
 * non-ASCII names, every integer width, a 40-byte plan, dependent reads of
 * three vshards; the second is nearly empty.
 */
const char *const rich_entry =
"92 aa45706f63684261746368 91 93 cd012c 92"
"94 cd012c 00"
"95"
" 94"
"  92 a8446f63756d656e74 92 a57573657273 95 00 7f ccff cd0100 ce00010000"
"  92 a6566563746f72 92 a4c3a9c3a8 93 01 cc80 ceffffffff"
"  92 a24b76 92 a0 94 90 93616263 94616263cce9 91cc80"
"  92 a445646765 92 a3e282ac 93 920001 9200cc80 92cd0400cd0400"
" 93"
"  92 a8446f63756d656e74 92"
"   d928 7878787878787878787878787878787878787878"
"        7878787878787878787878787878787878787878"
"   91 05"
"  92 a24b76 92 a4f09f9880 92 920000 93610062"
"  92 a445646765 92 a161 90"
" c428 000102030405060708090a0b0c0d0e0f10111213"
"      1415161718191a1b1c1d1e1f2021222324252627"
" cf0000000100000000"
" 91 83"
"  00 90"
"  cc81 92 91 92 a24b76 92 a16b 91 9101 91 92 a8446f63756d656e74 92 a164 91 07"
"  cd03ff 91 91 92 a445646765 92 a165 91 920102"
"d30000018bcfe56800"
"94 cd012c 01 95 90 90 c400 00 c0 d0df"
"d2ffff7fff";

FILE *
open_vectors(const char *name)
{
	const char *dir = getenv("VECTORS");
	char		command[1024];
	FILE	   *file;

	snprintf(command, sizeof(command), "gzip -dc '%s/%s.gz'",
			 dir != NULL ? dir : "../vectors", name);
	file = popen(command, "r");
	if (file == NULL)
	{
		perror(command);
		exit(2);
	}
	return file;
}

const char *
json_value(const char *line, const char *key)
{
	char		quoted[64];
	const char *found;

	snprintf(quoted, sizeof(quoted), "\"%s\":", key);
	found = strstr(line, quoted);
	return found != NULL ? found + strlen(quoted) : NULL;
}

bool
json_is(const char *line, const char *key, const char *wanted)
{
	const char *value = json_value(line, key);

	if (value != NULL && *value == '"')
		value++;
	return value != NULL && strncmp(value, wanted, strlen(wanted)) == 0 &&
		!isalnum((unsigned char) value[strlen(wanted)]);
}

uint64_t
json_u64(const char *line, const char *key)
{
	const char *value = json_value(line, key);

	return value != NULL ? strtoull(value, NULL, 10) : 0;
}

int64_t
json_i64(const char *line, const char *key)
{
	const char *value = json_value(line, key);

	return value != NULL ? strtoll(value, NULL, 10) : 0;
}
