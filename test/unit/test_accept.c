/*
 * test_accept.c
 *	  What the strict reader accepts, case by case: the verdicts of the Rust
 *	  decoder, but for the few entries it takes and this format refuses.
 */
#include <stdlib.h>
#include <string.h>

#include "support.h"
#include "tap.h"

/*
 * Accepted by the original, refused here: integers no bigint holds, and a
 * vshard that makes the original panic.  In the other direction only the
 * 0-byte entry, which is a no-op and not an error.
 */
static bool
wanted_verdict(const char *line)
{
	if (json_is(line, "rust", "panic"))
		return false;
	if (json_is(line, "case", "uint64 max\"") &&
		json_is(line, "group", "u64 "))
		return false;
	if (json_is(line, "hex", "\""))
		return true;
	return json_is(line, "rust", "accept");
}

static void
check_line(WireDecoder *decoder, const char *line)
{
	WireBuffer	entry = from_hex(json_value(line, "hex") + 1);
	uint8_t    *copy = exact_copy(entry.data, entry.len);
	bool		wanted = wanted_verdict(line);
	bool		got = wire_decode(decoder, copy, entry.len);
	const WireError *error = &decoder->error;
	WireBuffer	canonical;
	WireBuffer	canonical2;
	WireEntry	canonical_entry;
	WireError	canonical_error = {0};
	bool		sane;
	const char *group = json_value(line, "group") + 1;
	const char *name = json_value(line, "case") + 1;

	new_buffer(&canonical);
	new_buffer(&canonical2);
	if (!wanted)
	{
		sane = error->status != WIRE_OK && error->offset <= entry.len &&
			error->field != NULL && error->expected != NULL;
	}
	else if (!got)
		sane = false;
	else if (entry.len == 0)
		sane = decoder->entry.kind == WIRE_NOOP && decoder->entry.length == 0;
	else
	{
		/* Both ways to the canonical form meet, and it is accepted as such. */
		sane = decoder->entry.length <= entry.len &&
			reencode(decoder, &canonical) &&
			wire_canonicalise(copy, decoder->entry.length, &canonical2,
							  &canonical_entry, &canonical_error) ==
			!strstr(line, "\"group\":\"u32 (position)\"") &&
			(canonical2.len == 0 ||
			 same_bytes(&canonical, canonical2.data, canonical2.len)) &&
			wire_decode(decoder, canonical.data, canonical.len) &&
			decoder->entry.length == canonical.len;
	}

	if (!ok(got == wanted && sane, "%.*s: %.*s: %s",
			(int) strcspn(group, "\""), group,
			(int) strcspn(name, "\\\""), name,
			wanted ? "accepted" : "refused"))
		diag("%s, at %u in %s, expected %s; canonicaliser: %s",
			 wire_status_name(error->status), error->offset,
			 error->field ? error->field : "-",
			 error->expected ? error->expected : "-",
			 wire_status_name(canonical_error.status));

	free(copy);
	wire_buffer_free(&entry);
	wire_buffer_free(&canonical);
	wire_buffer_free(&canonical2);
}

int
main(void)
{
	WireDecoder *decoder = new_decoder(ROOM_TXNS, ROOM_VSHARDS);
	FILE	   *file = open_vectors("accept.jsonl");
	char	   *line = NULL;
	size_t		size = 0;
	int			lines = 0;

	while (getline(&line, &size, file) > 0)
	{
		check_line(decoder, line);
		lines++;
	}
	is_u64((unsigned long long) lines, 298, "all cases were there");
	ok(pclose(file) == 0, "the vectors could be read");
	free(line);
	free_decoder(decoder);
	return done();
}
