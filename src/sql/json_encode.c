/*
 * json_encode.c
 *	  An entry as a person writes it in JSON, to its canonical bytes.
 *
 * Values are checked and written in the order of the wire, sets as they come
 * and Kv keys as bin.  wire_canonicalise() then makes of that what it makes of
 * everything that is appended: one place knows the canonical form.
 *
 * Depth is bounded by the schema, not by the input.
 */
#include "compat.h"

#include "lib/stringinfo.h"
#include "log/memory.h"
#include "log/report.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "sql/json_encode.h"
#include "utils/json.h"
#include "utils/numeric.h"
#include "wire/encode.h"

/* Bytes of a name, and of a value, that an error message shows. */
#define SHOWN_NAME NAMEDATALEN
#define SHOWN_VALUE 40

/* Digits that are read between two looks for interrupts. */
#define HEX_DIGITS (64 * 1024 + 1)

#define HINT_BYTES "Bytes are written as bytea is, for example \"\\\\xdeadbeef\"."
#define HINT_REDUNDANT "It can be left out: it follows from the batch."
#define HINT_FOUND "seq_append_json finds it if it is left out; seq_encode knows no log."

/* A value, and where it stands. */
typedef struct JsonNode
{
	const struct JsonNode *parent; /* NULL: the whole, and "name" says what it is */
	const char *name; /* as a member, not terminated; NULL for an element */
	int			name_len;
	uint32		index; /* as an element */
	bool		present;
	JsonbValue	json;
} JsonNode;

/* A walk over an array. */
typedef struct Elements
{
	JsonbIterator *iterator;
	JsonNode	node; /* the current one */
} Elements;

static const char *const ack_members[] =
{"epoch", "position", "vshard_id", NULL};
static const char *const batch_members[] =
{"epoch", "epoch_system_ms", "txns", NULL};
static const char *const txn_members[] =
{"epoch", "position", "tx_class", "epoch_system_ms", NULL};
static const char *const tx_class_members[] =
{"read_set", "write_set", "plans", "tenant_id", "dependent_reads", NULL};
static const char *const surrogate_members[] =
{"collection", "surrogates", NULL};
static const char *const key_members[] =
{"collection", "keys", NULL};
static const char *const edge_members[] =
{"collection", "edges", NULL};

/*
 * Errors
 */

static bool
is_plain_name(const char *name, int len)
{
	for (int i = 0; i < len; i++)
	{
		bool		letter = (name[i] >= 'a' && name[i] <= 'z') ||
			(name[i] >= 'A' && name[i] <= 'Z') || name[i] == '_';

		if (!letter && (i == 0 || name[i] < '0' || name[i] > '9'))
			return false;
	}
	return len > 0;
}

/* A string as JSON, or the beginning of it. */
static void
append_quoted(StringInfo out, const char *string, int len, int most)
{
	escape_json(out, pnstrdup(string, pg_mbcliplen(string, len, most)));
}

/* As deep as the schema. */
static void
append_path(StringInfo out, const JsonNode *node) /* NOLINT(misc-no-recursion) */
{
	if (node->parent == NULL)
	{
		appendStringInfoChar(out, '$');
		return;
	}
	append_path(out, node->parent);
	if (node->name == NULL)
		appendStringInfo(out, "[%u]", node->index);
	else if (is_plain_name(node->name, Min(node->name_len, SHOWN_NAME)))
		appendStringInfo(out, ".%.*s%s", Min(node->name_len, SHOWN_NAME),
						 node->name,
						 node->name_len > SHOWN_NAME ? "..." : "");
	else
	{
		appendStringInfoChar(out, '.');
		append_quoted(out, node->name, node->name_len, SHOWN_NAME);
		if (node->name_len > SHOWN_NAME)
			appendStringInfoString(out, "...");
	}
}

static char *
path_of(const JsonNode *node)
{
	StringInfoData path;

	initStringInfo(&path);
	append_path(&path, node);
	return path.data;
}

/* "sequencer entry" or "TxClass" */
static const char *
whole_of(const JsonNode *node)
{
	while (node->parent != NULL)
		node = node->parent;
	return node->name;
}

static char *
describe(const JsonNode *node)
{
	const JsonbValue *json = &node->json;
	StringInfoData out;
	uint32		count;

	if (!node->present)
		return "nothing";
	switch (json->type)
	{
		case jbvNull:
			return "null";
		case jbvBool:
			return json->val.boolean ? "true" : "false";
		case jbvNumeric:
			initStringInfo(&out);
			appendStringInfoString(&out, numeric_normalize(json->val.numeric));
			if (out.len > SHOWN_VALUE)
			{
				int			digits = out.len;

				out.data[out.len = SHOWN_VALUE] = '\0';
				appendStringInfo(&out, "... (%d characters)", digits);
			}
			return out.data;
		case jbvString:
			initStringInfo(&out);
			appendStringInfoString(&out, json->val.string.len > SHOWN_VALUE ?
								   "a string that begins with " : "the string ");
			append_quoted(&out, json->val.string.val, json->val.string.len,
						  SHOWN_VALUE);
			return out.data;
		default:
			count = JsonContainerSize(json->val.binary.data);
			if (count == 0)
				return JsonContainerIsArray(json->val.binary.data) ?
					"an empty array" : "an empty object";
			if (JsonContainerIsArray(json->val.binary.data))
				return psprintf("an array of %u element%s", count,
								count == 1 ? "" : "s");
			return psprintf("an object with %u member%s", count,
							count == 1 ? "" : "s");
	}
}

pg_noreturn static void refuse(const JsonNode *node, int sqlstate, const char *expected,
				   const char *hint);

static void
refuse(const JsonNode *node, int sqlstate, const char *expected, const char *hint)
{
	ereport(ERROR,
			(errcode(sqlstate),
			 errmsg("invalid %s at JSON path %s", whole_of(node), path_of(node)),
			 errdetail("Expected %s, found %s.", expected, describe(node)),
			 hint != NULL ? errhint("%s", hint) : 0));
	pg_unreachable();
}

static void
refuse_type(const JsonNode *node, const char *expected)
{
	refuse(node, ERRCODE_INVALID_PARAMETER_VALUE, expected, NULL);
}

/* For errors that PostgreSQL's own functions raise about the value. */
static void
add_path_context(void *arg)
{
	errcontext("JSON path %s", path_of(arg));
}

/*
 * Objects and arrays
 */

static bool
is_object(const JsonNode *node)
{
	return node->present && node->json.type == jbvBinary &&
		JsonContainerIsObject(node->json.val.binary.data);
}

static bool
is_array(const JsonNode *node)
{
	return node->present && node->json.type == jbvBinary &&
		JsonContainerIsArray(node->json.val.binary.data);
}

static bool
name_is(const JsonNode *node, const char *name)
{
	return (size_t) node->name_len == strlen(name) &&
		memcmp(node->name, name, node->name_len) == 0;
}

static void
refuse_unknown(const JsonNode *node, const char *const *known)
{
	StringInfoData names;

	initStringInfo(&names);
	for (int i = 0; known[i] != NULL; i++)
		appendStringInfo(&names, "%s\"%s\"", i == 0 ? "" : ", ", known[i]);
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid %s at JSON path %s", whole_of(node), path_of(node)),
			 errdetail("There is no such member; it could be one of %s.",
					   names.data)));
}

/* The next member of an object, into *member; false after the last. */
static bool
next_member(JsonbIterator **iterator, JsonNode *member)
{
	JsonbIteratorToken token;

	while ((token = JsonbIteratorNext(iterator, &member->json, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
		{
			member->name = member->json.val.string.val;
			member->name_len = member->json.val.string.len;
		}
		else if (token == WJB_VALUE)
			return true;
	}
	return false;
}

static JsonbIterator *
open_members(const JsonNode *object, JsonNode *member)
{
	memset(member, 0, sizeof(*member));
	member->parent = object;
	member->present = true;
	return JsonbIteratorInit(object->json.val.binary.data);
}

/* It must be an object of known members, some of which may be missing. */
static void
check_object(const JsonNode *node, const char *const *known)
{
	JsonbIterator *iterator;
	JsonNode	member;

	if (!is_object(node))
		refuse_type(node, "an object");
	iterator = open_members(node, &member);
	while (next_member(&iterator, &member))
	{
		int			i = 0;

		while (known[i] != NULL && !name_is(&member, known[i]))
			i++;
		if (known[i] == NULL)
			refuse_unknown(&member, known);
	}
}

/* A member by name, which may be missing. */
static void
get_member(const JsonNode *object, const char *name, JsonNode *member)
{
	member->parent = object;
	member->name = name;
	member->name_len = (int) strlen(name);
	member->index = 0;
	member->present =
		getKeyJsonValueFromContainer(object->json.val.binary.data, name,
									 member->name_len, &member->json) != NULL;
}

/* A variant: an object whose only member is named after it. */
static void
get_variant(const JsonNode *object, const char *expected, JsonNode *variant)
{
	JsonbIterator *iterator;

	if (!is_object(object) ||
		JsonContainerSize(object->json.val.binary.data) != 1)
		refuse_type(object, expected);
	iterator = open_members(object, variant);
	(void) next_member(&iterator, variant);
}

/* Begins a walk over an array; returns the number of elements. */
static uint32
open_array(const JsonNode *node, const char *expected, Elements *elements)
{
	JsonbValue	start;

	if (!is_array(node))
		refuse_type(node, expected);
	memset(&elements->node, 0, sizeof(JsonNode));
	elements->node.parent = node;
	elements->iterator = JsonbIteratorInit(node->json.val.binary.data);
	(void) JsonbIteratorNext(&elements->iterator, &start, true);
	return JsonContainerSize(node->json.val.binary.data);
}

static bool
next_element(Elements *elements)
{
	JsonNode   *node = &elements->node;

	CHECK_FOR_INTERRUPTS();
	if (node->present)
		node->index++;
	node->present = true;
	return JsonbIteratorNext(&elements->iterator, &node->json, true) == WJB_ELEM;
}

/*
 * Scalars
 */

/* Any numeric form will do (1e3, 7.0), as long as the value is an integer. */
static int64
get_integer_or(const JsonNode *node, int64 least, int64 most, const char *hint)
{
	char	   *text;
	char	   *end;
	long long	value;
	int			sqlstate = ERRCODE_INVALID_PARAMETER_VALUE;

	if (node->present && node->json.type == jbvNumeric)
	{
		text = numeric_normalize(node->json.val.numeric);
		errno = 0;
		value = strtoll(text, &end, 10);
		if (*end == '\0')
		{
			sqlstate = ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE;
			if (errno == 0 && value >= least && value <= most)
			{
				pfree(text);
				return value;
			}
		}
	}
	refuse(node, sqlstate,
		   psprintf("an integer from " INT64_FORMAT " to " INT64_FORMAT,
					least, most), node->present ? NULL : hint);
}

static int64
get_integer(const JsonNode *node, int64 least, int64 most)
{
	return get_integer_or(node, least, most, NULL);
}

static uint64
get_u32(const JsonNode *node)
{
	return (uint64) get_integer(node, 0, PG_UINT32_MAX);
}

static uint64
get_epoch(const JsonNode *node)
{
	return (uint64) get_integer(node, 0, WIRE_MAX_EPOCH);
}

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* A string in bytea's hex format, whose digit pairs may stand apart. */
static void
put_bytes(WireBuffer *out, const JsonNode *node)
{
	const char *pos;
	const char *end;
	uint8	   *bytes;
	size_t		len = 0;

	if (!node->present || node->json.type != jbvString)
		refuse(node, ERRCODE_INVALID_PARAMETER_VALUE,
			   "a string in bytea hex format", HINT_BYTES);
	pos = node->json.val.string.val;
	end = pos + node->json.val.string.len;
	if (end - pos < 2 || pos[0] != '\\' || pos[1] != 'x')
		refuse(node, ERRCODE_INVALID_TEXT_REPRESENTATION,
			   "a string in bytea hex format", HINT_BYTES);

	bytes = palloc((end - pos) / 2);
	for (pos += 2; pos < end; pos++)
	{
		int			high = hex_digit(*pos);
		int			low;

		/* digits come in pairs, so this is odd */
		if ((end - pos) % HEX_DIGITS == 0)
			CHECK_FOR_INTERRUPTS();

		if (*pos == ' ' || *pos == '\n' || *pos == '\t' || *pos == '\r')
			continue;
		low = high >= 0 && ++pos < end ? hex_digit(*pos) : -1;
		if (low < 0)
			refuse(node, ERRCODE_INVALID_TEXT_REPRESENTATION,
				   "pairs of hexadecimal digits after \"\\\\x\"", HINT_BYTES);
		bytes[len++] = (uint8) (high << 4 | low);
	}
	wire_put_bin(out, bytes, len);
	pfree(bytes);
}

/* A string, which the log has in UTF-8. */
static void
put_text(WireBuffer *out, const JsonNode *node)
{
	ErrorContextCallback context;
	char	   *text;
	char	   *utf8;
	int			len;

	if (!node->present || node->json.type != jbvString)
		refuse_type(node, "a string");
	text = node->json.val.string.val;
	len = node->json.val.string.len;

	context.callback = add_path_context;
	context.arg = (void *) node;
	context.previous = error_context_stack;
	error_context_stack = &context;
	utf8 = pg_server_to_any(text, len, PG_UTF8);
	error_context_stack = context.previous;

	if (utf8 == text)
		wire_put_str(out, text, len);
	else
	{
		wire_put_str(out, utf8, strlen(utf8));
		pfree(utf8);
	}
}

/*
 * The schema
 */

static void
put_surrogates(WireBuffer *out, const JsonNode *node)
{
	Elements	surrogates;

	wire_put_array_header(out, open_array(node, "an array of integers",
										  &surrogates));
	while (next_element(&surrogates))
		wire_put_uint(out, get_u32(&surrogates.node));
}

static void
put_keys(WireBuffer *out, const JsonNode *node)
{
	Elements	keys;

	wire_put_array_header(out, open_array(node, "an array of strings", &keys));
	while (next_element(&keys))
		put_bytes(out, &keys.node);
}

static void
put_edges(WireBuffer *out, const JsonNode *node)
{
	Elements	edges;
	Elements	ends;

	wire_put_array_header(out, open_array(node, "an array of [src, dst]",
										  &edges));
	while (next_element(&edges))
	{
		if (open_array(&edges.node, "an array [src, dst]", &ends) != 2)
			refuse_type(&edges.node, "an array [src, dst]");
		wire_put_array_header(out, 2);
		while (next_element(&ends))
			wire_put_uint(out, get_u32(&ends.node));
	}
}

static void
put_key_set(WireBuffer *out, const JsonNode *node)
{
	static const char expected[] =
		"an object with one of the members \"Document\", \"Vector\", \"Kv\" and \"Edge\"";
	static const char *const variants[] =
	{"Document", "Vector", "Kv", "Edge", NULL};
	static const struct
	{
		const char *const *members;
		void		(*put) (WireBuffer *out, const JsonNode *node);
	}			kinds[] = {
		{surrogate_members, put_surrogates},
		{surrogate_members, put_surrogates},
		{key_members, put_keys},
		{edge_members, put_edges}
	};
	JsonNode	variant;
	JsonNode	member;
	int			kind = 0;

	get_variant(node, expected, &variant);
	while (variants[kind] != NULL && !name_is(&variant, variants[kind]))
		kind++;
	if (variants[kind] == NULL)
		refuse_unknown(&variant, variants);
	check_object(&variant, kinds[kind].members);

	wire_put_array_header(out, 2);
	wire_put_str(out, variants[kind], strlen(variants[kind]));
	wire_put_array_header(out, 2);
	get_member(&variant, "collection", &member);
	put_text(out, &member);
	get_member(&variant, kinds[kind].members[1], &member);
	if (member.present)
		kinds[kind].put(out, &member);
	else
		wire_put_array_header(out, 0);
}

static void
put_key_sets(WireBuffer *out, const JsonNode *node)
{
	Elements	sets;

	wire_put_array_header(out, open_array(node, "an array of key sets", &sets));
	while (next_element(&sets))
		put_key_set(out, &sets.node);
}

/*
 * A member's name as a vshard: decimal, in one form only, since equal vshards
 * in different forms would be repeats that jsonb does not see.
 */
static uint64
get_vshard(const JsonNode *node)
{
	uint32		vshard = 0;
	bool		decimal = node->name_len > 0;

	for (int i = 0; decimal && i < node->name_len; i++)
	{
		char		c = node->name[i];

		decimal = c >= '0' && c <= '9' &&
			(c != '0' || i > 0 || node->name_len == 1);
		if (vshard < WIRE_VSHARDS)
			vshard = vshard * 10 + (uint32) (c - '0');
	}
	if (!decimal || vshard >= WIRE_VSHARDS)
		ereport(ERROR,
				(errcode(decimal ? ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE :
						 ERRCODE_INVALID_TEXT_REPRESENTATION),
				 errmsg("invalid %s at JSON path %s", whole_of(node),
						path_of(node)),
				 errdetail("The members of dependent_reads are named after vshards, from \"0\" to \"%d\".",
						   WIRE_VSHARDS - 1)));
	return vshard;
}

static void
put_dependent_reads(WireBuffer *out, const JsonNode *node)
{
	JsonbIterator *iterator;
	JsonNode	vshard;
	Elements	sets;

	if (!node->present || node->json.type == jbvNull)
	{
		wire_put_nil(out);
		return;
	}
	if (!is_object(node))
		refuse_type(node, "null or an object of vshards");

	wire_put_array_header(out, 1);
	wire_put_map_header(out, JsonContainerSize(node->json.val.binary.data));
	iterator = open_members(node, &vshard);
	while (next_member(&iterator, &vshard))
	{
		wire_put_uint(out, get_vshard(&vshard));
		wire_put_array_header(out, open_array(&vshard, "an array of key sets",
											  &sets));
		while (next_element(&sets))
		{
			wire_put_array_header(out, 1);
			put_key_set(out, &sets.node);
		}
	}
}

static void
put_tx_class(WireBuffer *out, const JsonNode *node)
{
	JsonNode	member;

	check_object(node, tx_class_members);
	wire_put_array_header(out, 5);
	get_member(node, "read_set", &member);
	if (member.present)
		put_key_sets(out, &member);
	else
		wire_put_array_header(out, 0);
	get_member(node, "write_set", &member);
	put_key_sets(out, &member);
	get_member(node, "plans", &member);
	put_bytes(out, &member);
	get_member(node, "tenant_id", &member);
	wire_put_uint(out, member.present ?
				  (uint64) get_integer(&member, 0, WIRE_MAX_TENANT) : 0);
	get_member(node, "dependent_reads", &member);
	put_dependent_reads(out, &member);
}

static void
put_txn(WireBuffer *out, const JsonNode *node, uint64 epoch, int64 epoch_system_ms)
{
	JsonNode	member;

	check_object(node, txn_members);
	get_member(node, "epoch", &member);
	if (member.present && get_epoch(&member) != epoch)
		refuse(&member, wire_sqlstate(WIRE_MISMATCH),
			   psprintf("the epoch of its batch, " UINT64_FORMAT, epoch),
			   HINT_REDUNDANT);
	get_member(node, "position", &member);
	if (member.present && get_u32(&member) != node->index)
		refuse(&member, wire_sqlstate(WIRE_MISMATCH),
			   psprintf("its index in the batch, %u", node->index),
			   HINT_REDUNDANT);

	wire_put_array_header(out, 4);
	wire_put_uint(out, epoch);
	wire_put_uint(out, node->index);
	get_member(node, "tx_class", &member);
	put_tx_class(out, &member);
	get_member(node, "epoch_system_ms", &member);
	if (member.present)
		epoch_system_ms = get_integer(&member, PG_INT64_MIN, PG_INT64_MAX);
	wire_put_int(out, epoch_system_ms);
}

static void
put_batch(WireBuffer *out, const JsonNode *node, JsonFindNext find)
{
	JsonNode	epoch_member;
	JsonNode	ms_member;
	JsonNode	member;
	Elements	txns;
	uint64		epoch = 0;
	int64		epoch_system_ms = 0;

	check_object(node, batch_members);
	get_member(node, "epoch", &epoch_member);
	get_member(node, "epoch_system_ms", &ms_member);
	if (find != NULL && !(epoch_member.present && ms_member.present))
		find(&epoch, &epoch_system_ms);
	if (find == NULL || epoch_member.present)
		epoch = (uint64) get_integer_or(&epoch_member, 0, WIRE_MAX_EPOCH, HINT_FOUND);
	if (find == NULL || ms_member.present)
		epoch_system_ms = get_integer_or(&ms_member, PG_INT64_MIN, PG_INT64_MAX,
										 HINT_FOUND);

	wire_put_array_header(out, 1);
	wire_put_array_header(out, 3);
	wire_put_uint(out, epoch);
	get_member(node, "txns", &member);
	wire_put_array_header(out, open_array(&member, "an array of transactions",
										  &txns));
	while (next_element(&txns))
		put_txn(out, &txns.node, epoch, epoch_system_ms);
	wire_put_int(out, epoch_system_ms);
}

static void
put_ack(WireBuffer *out, const JsonNode *node)
{
	JsonNode	member;

	check_object(node, ack_members);
	wire_put_array_header(out, 3);
	get_member(node, "epoch", &member);
	wire_put_uint(out, get_epoch(&member));
	get_member(node, "position", &member);
	wire_put_uint(out, get_u32(&member));
	get_member(node, "vshard_id", &member);
	wire_put_uint(out, get_u32(&member));
}

static void
put_entry(WireBuffer *out, const JsonNode *node, JsonFindNext find)
{
	static const char expected[] =
		"null or an object with one of the members \"EpochBatch\" and \"CompletionAck\"";
	static const char *const variants[] =
	{"EpochBatch", "CompletionAck", NULL};
	JsonNode	variant;

	if (node->json.type == jbvNull)
		return;
	get_variant(node, expected, &variant);
	if (!name_is(&variant, variants[0]) && !name_is(&variant, variants[1]))
		refuse_unknown(&variant, variants);

	wire_put_array_header(out, 2);
	wire_put_str(out, variant.name, variant.name_len);
	if (name_is(&variant, variants[0]))
		put_batch(out, &variant, find);
	else
		put_ack(out, &variant);
}

static void
set_root(JsonNode *root, Jsonb *json, const char *what)
{
	memset(root, 0, sizeof(*root));
	root->name = what;
	root->present = true;
	if (!JsonbExtractScalar(&json->root, &root->json))
	{
		root->json.type = jbvBinary;
		root->json.val.binary.data = &json->root;
		root->json.val.binary.len = VARSIZE(json) - VARHDRSZ;
	}
}

bytea *
json_encode_tx_class(Jsonb *json)
{
	JsonNode	root;
	WireBuffer	written;
	WireBuffer	result;
	WireError	error;

	set_root(&root, json, "TxClass");
	wire_buffer_init(&written, memory_realloc, NULL);
	put_tx_class(&written, &root);

	memory_bytea_init(&result);
	if (!wire_canonicalise_tx_class(written.data, written.len, &result, &error))
		wire_report_tx_class(&error);
	wire_buffer_free(&written);
	return memory_bytea_finish(&result);
}

bytea *
json_encode_entry(Jsonb *json, JsonFindNext find)
{
	JsonNode	root;
	WireBuffer	written;
	WireBuffer	result;
	WireEntry	entry;
	WireError	error;

	set_root(&root, json, "sequencer entry");
	wire_buffer_init(&written, memory_realloc, NULL);
	put_entry(&written, &root, find);

	memory_bytea_init(&result);
	if (!wire_canonicalise(written.data, written.len, &result, &entry, &error))
		wire_report(&error);
	wire_buffer_free(&written);
	return memory_bytea_finish(&result);
}
