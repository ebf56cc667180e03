/*
 * move_text.c
 *	  What the two owners of vshards that move tell each other, as jsonb.
 *
 * It passes through the hands of people and scripts: so everything in it is checked, and
 * it says nothing that its reader could not see for himself.
 */
#include "compat.h"

#include "lib/stringinfo.h"
#include "log/identity.h"
#include "log/registry.h"
#include "sql/move_text.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "wire/wire.h"

/* Hexadecimal digits of a digest. */
#define DIGEST_DIGITS 16

/*
 * Writing
 */

static void
put_uuid(StringInfo out, const char *key, const pg_uuid_t *uuid)
{
	appendStringInfo(out, "\"%s\": \"%s\", ", key,
					 identity_text(uuid));
}

static void
put_numbers(StringInfo out, const char *key, const MoveText *text,
			uint64 (*number)(GroupKey))
{
	appendStringInfo(out, ", \"%s\": [", key);
	for (int i = 0; i < text->n; i++)
		appendStringInfo(out, "%s" UINT64_FORMAT, i == 0 ? "" : ", ", number(text->keys[i]));
	appendStringInfoChar(out, ']');
}

static uint64
vshard_number(GroupKey key)
{
	return key.vshard;
}

static uint64
epoch_number(GroupKey key)
{
	return key.epoch;
}

static uint64
position_number(GroupKey key)
{
	return key.position;
}

static void
put_collections(StringInfo out, const MoveText *text)
{
	if (!text->knows_collections)
		return;
	appendStringInfoString(out, ", \"collections\": ");
	if (text->collections == NULL)
	{
		appendStringInfoString(out, "null");
		return;
	}
	for (int i = 0; i < text->ncollections; i++)
	{
		appendStringInfoString(out, i == 0 ? "[" : ", ");
		escape_json(out, text->collections[i]);
	}
	appendStringInfoChar(out, ']');
}

static void
begin(StringInfo out, const MoveText *text)
{
	initStringInfo(out);
	appendStringInfoChar(out, '{');
	put_uuid(out, "move", &text->move);
	put_uuid(out, "log", &text->log);
	appendStringInfoString(out, "\"group\": ");
	escape_json(out, text->group);
	put_numbers(out, "vshards", text, vshard_number);
	put_collections(out, text);
}

static Jsonb *
finish(StringInfo out)
{
	appendStringInfoChar(out, '}');
	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(out->data)));
}

Jsonb *
move_text_request(const MoveText *text)
{
	StringInfoData out;

	begin(&out, text);
	appendStringInfo(&out, ", \"begins\": " UINT64_FORMAT, text->begins);
	return finish(&out);
}

Jsonb *
move_text_handover(const MoveText *text)
{
	StringInfoData out;

	begin(&out, text);
	put_numbers(&out, "epochs", text, epoch_number);
	put_numbers(&out, "positions", text, position_number);
	appendStringInfo(&out, ", \"partitions\": %d, \"log_index\": " UINT64_FORMAT
					 ", \"digest\": \"%016llx\"", text->partitions, text->log_index,
					 (unsigned long long) text->digest);
	return finish(&out);
}

/*
 * Reading
 */

typedef struct Reading
{
	const char *what;	/* a request, or a handover */
	const char *by;		/* by which function it is made */
	Jsonb	   *jsonb;
} Reading;

pg_noreturn static void
report(const Reading *reading, const char *key)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("this is no %s", reading->what),
			 errdetail("\"%s\" is missing, or not what it should be.", key),
			 errhint("Pass what %s returns.", reading->by)));
}

static JsonbValue *
get(const Reading *reading, const char *key)
{
	JsonbValue *value = getKeyJsonValueFromContainer(&reading->jsonb->root, key,
													 (int) strlen(key), NULL);

	if (value == NULL)
		report(reading, key);
	return value;
}

static char *
text_of(const Reading *reading, const char *key, const JsonbValue *value)
{
	if (value->type != jbvString)
		report(reading, key);
	return pnstrdup(value->val.string.val, value->val.string.len);
}

/* A whole number from "least" to "most". */
static uint64
number_of(const Reading *reading, const char *key, const JsonbValue *value, uint64 least,
		  uint64 most)
{
	char	   *digits;
	char	   *end;
	uint64		number;

	if (value->type != jbvNumeric)
		report(reading, key);
	digits = DatumGetCString(DirectFunctionCall1(numeric_out,
												 NumericGetDatum(value->val.numeric)));
	errno = 0;
	number = strtou64(digits, &end, 10);
	if (digits[0] < '0' || digits[0] > '9' || *end != '\0' || errno != 0 || number < least ||
		number > most)
		report(reading, key);
	return number;
}

static uint64
get_number(const Reading *reading, const char *key, uint64 least, uint64 most)
{
	return number_of(reading, key, get(reading, key), least, most);
}

static pg_uuid_t
get_uuid(const Reading *reading, const char *key)
{
	char	   *text = text_of(reading, key, get(reading, key));

	return *DatumGetUUIDP(DirectFunctionCall1(uuid_in, CStringGetDatum(text)));
}

/* An array that is not empty; how many elements. */
static int
get_array(const Reading *reading, const char *key, JsonbContainer **array)
{
	JsonbValue *value = get(reading, key);

	if (value->type != jbvBinary || !JsonContainerIsArray(value->val.binary.data) ||
		JsonContainerIsScalar(value->val.binary.data) ||
		JsonContainerSize(value->val.binary.data) == 0)
		report(reading, key);
	*array = value->val.binary.data;
	return (int) JsonContainerSize(*array);
}

/* One for each vshard. */
static uint64 *
get_numbers(const Reading *reading, const char *key, int n, uint64 most)
{
	uint64	   *numbers = palloc(sizeof(uint64) * n);
	JsonbContainer *array;

	if (get_array(reading, key, &array) != n)
		report(reading, key);
	for (int i = 0; i < n; i++)
		numbers[i] = number_of(reading, key, getIthJsonbValueFromContainer(array, (uint32) i),
							   0, most);
	return numbers;
}

static void
read_vshards(const Reading *reading, MoveText *text)
{
	JsonbContainer *array;
	uint64	   *vshards;

	text->n = get_array(reading, "vshards", &array);
	if (text->n > WIRE_VSHARDS)
		report(reading, "vshards");
	vshards = get_numbers(reading, "vshards", text->n, WIRE_VSHARDS - 1);
	text->keys = palloc0(sizeof(GroupKey) * text->n);
	for (int i = 0; i < text->n; i++)
	{
		if (i > 0 && vshards[i] <= vshards[i - 1])
			report(reading, "vshards");
		text->keys[i].vshard = (uint16) vshards[i];
	}
}

static void
read_collections(const Reading *reading, MoveText *text)
{
	JsonbValue *value = getKeyJsonValueFromContainer(&reading->jsonb->root, "collections",
													 (int) strlen("collections"), NULL);
	JsonbContainer *array;

	text->knows_collections = value != NULL;
	text->collections = NULL;
	text->ncollections = 0;
	if (value == NULL || value->type == jbvNull)
		return;
	text->ncollections = get_array(reading, "collections", &array);
	text->collections = palloc(sizeof(char *) * text->ncollections);
	for (int i = 0; i < text->ncollections; i++)
		text->collections[i] = text_of(reading, "collections",
									   getIthJsonbValueFromContainer(array, (uint32) i));
}

static void
read_common(const Reading *reading, MoveText *text)
{
	memset(text, 0, sizeof(*text));
	if (!JB_ROOT_IS_OBJECT(reading->jsonb))
		report(reading, "move");
	text->move = get_uuid(reading, "move");
	text->log = get_uuid(reading, "log");
	text->group = text_of(reading, "group", get(reading, "group"));
	if (text->group[0] == '\0' || strlen(text->group) >= NAMEDATALEN)
		report(reading, "group");
	read_vshards(reading, text);
	read_collections(reading, text);
}

void
move_text_read_request(Jsonb *jsonb, MoveText *text)
{
	Reading		reading = {"request for vshards", "seq_request_vshards()", jsonb};

	read_common(&reading, text);
	text->begins = get_number(&reading, "begins", 0, WIRE_MAX_EPOCH);
}

static uint64
get_digest(const Reading *reading)
{
	char	   *text = text_of(reading, "digest", get(reading, "digest"));

	if (strlen(text) != DIGEST_DIGITS ||
		strspn(text, "0123456789abcdef") != DIGEST_DIGITS)
		report(reading, "digest");
	return strtou64(text, NULL, 16);
}

void
move_text_read_handover(Jsonb *jsonb, MoveText *text)
{
	Reading		reading = {"handover of vshards", "seq_handover()", jsonb};
	uint64	   *epochs;
	uint64	   *positions;

	read_common(&reading, text);
	if (!text->knows_collections)
		report(&reading, "collections");
	epochs = get_numbers(&reading, "epochs", text->n, WIRE_MAX_EPOCH);
	positions = get_numbers(&reading, "positions", text->n, PG_UINT32_MAX);
	for (int i = 0; i < text->n; i++)
	{
		text->keys[i].epoch = epochs[i];
		text->keys[i].position = (uint32) positions[i];
	}
	text->partitions = (int) get_number(&reading, "partitions", 1, REGISTRATION_PARTITIONS_MAX);
	text->log_index = get_number(&reading, "log_index", 0, PG_INT64_MAX);
	text->digest = get_digest(&reading);
}
