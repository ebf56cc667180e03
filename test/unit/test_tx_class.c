/*
 * test_tx_class.c
 *	  A TxClass by itself, as it is submitted: its figures, its canonical form,
 *	  and the one that is written from a collection and a payload.
 */
#include <stdlib.h>
#include <string.h>

#include "support.h"
#include "tap.h"

/* With everything in it: three vshards are written, three named by dependent reads. */
#define RICH \
	"95" \
	" 91 92 a24b76 92 a16b 92 9101 9161" \
	" 93 92 a8446f63756d656e74 92 a161 920102" \
	"    92 a24b76 92 a162 91 920000" \
	"    92 a445646765 92 a163 91 920102" \
	" c403 0a0b0c cd0200" \
	" 91 83 00 90" \
	"    61 92 91 92 a24b76 92 a16b 91 9101 91 92 a8446f63756d656e74 92 a164 91 07" \
	"    cd03ff 91 91 92 a445646765 92 a165 91 920102"
/* The values of the three: an empty array, two key sets, one. */
#define RICH_DEPENDENT_BYTES (1 + 28 + 15)

static bool
same_figures(const WireTxClassFigures *a, const WireTxClassFigures *b)
{
	return a->participants == b->participants &&
		a->plans_bytes == b->plans_bytes &&
		a->dependent_read_passives == b->dependent_read_passives &&
		a->dependent_read_bytes == b->dependent_read_bytes &&
		a->tenant_id == b->tenant_id;
}

static void
check_figures(const char *hex, WireTxClassFigures wanted, const char *name)
{
	WireBuffer	input = from_hex(hex);
	uint8_t    *copy = exact_copy(input.data, input.len);
	WireTxClassFigures figures;
	WireError	error;
	bool		canonical;
	bool		taken = wire_examine_tx_class(copy, input.len, &figures, &canonical,
											  &error);

	if (!ok(taken && canonical && same_figures(&figures, &wanted), "figures: %s", name))
		diag("taken %d, canonical %d, participants %u, plans %llu, passives %u, bytes %llu, tenant %llu",
			 taken, canonical, figures.participants,
			 (unsigned long long) figures.plans_bytes, figures.dependent_read_passives,
			 (unsigned long long) figures.dependent_read_bytes,
			 (unsigned long long) figures.tenant_id);
	free(copy);
	wire_buffer_free(&input);
}

static void
test_figures(void)
{
	check_figures("95 90 90 c400 00 c0",
				  (WireTxClassFigures) {0}, "nothing in it");
	check_figures("95 90 90 c400 00 91 80",
				  (WireTxClassFigures) {0}, "dependent reads of nobody");
	check_figures("95 91 92 a24b76 92 a16b 90 90 c400 00 c0",
				  (WireTxClassFigures) {0}, "read_set has no participants");
	check_figures("95 90 92 92 a24b76 92 a16b 90 92 a24b76 92 a16b 90 c401ff 07 c0",
				  (WireTxClassFigures) {.participants = 1, .plans_bytes = 1, .tenant_id = 7},
				  "a collection twice");
	check_figures(RICH,
				  (WireTxClassFigures) {.participants = 5, .plans_bytes = 3,
				  .dependent_read_passives = 3,
				  .dependent_read_bytes = RICH_DEPENDENT_BYTES, .tenant_id = 512},
				  "everything in it, \"a\" is written and read by others");
}

/* Nothing but the whole is taken. */
static void
test_whole(void)
{
	WireBuffer	input = from_hex(RICH);
	WireBuffer	longer = from_hex(RICH "c0");
	bool		good = true;

	for (size_t len = 0; len <= input.len + 1; len++)
	{
		uint8_t    *copy = exact_copy(longer.data, len);
		WireTxClassFigures figures;
		WireBuffer	out;
		WireError	error;
		WireError	strict;
		bool		canonical;
		bool		wanted = len == input.len;

		new_buffer(&out);
		good &= wire_examine_tx_class(copy, len, &figures, &canonical, &strict) == wanted &&
			canonical == wanted &&
			wire_canonicalise_tx_class(copy, len, &out, &error) == wanted &&
			(wanted ? same_bytes(&out, input.data, input.len) :
			 out.len == 0 && error.offset <= len && error.expected != NULL &&
			 error.status == (len < input.len ? WIRE_TRUNCATED : WIRE_TRAILING) &&
			 strict.status == error.status && strict.offset == error.offset);
		wire_buffer_free(&out);
		free(copy);
	}
	ok(good, "cut off anywhere, or with a byte behind it, it is refused");
	wire_buffer_free(&longer);
	wire_buffer_free(&input);
}

static void
check_lenient(const char *hex, const char *canonical, const char *name)
{
	WireBuffer	input = from_hex(hex);
	WireBuffer	wanted = from_hex(canonical);
	uint8_t    *copy = exact_copy(input.data, input.len);
	WireBuffer	out;
	WireError	error;
	WireTxClassFigures figures;
	bool		is_canonical;

	new_buffer(&out);
	(void) wire_examine_tx_class(copy, input.len, &figures, &is_canonical, &error);
	ok(!is_canonical && wire_canonicalise_tx_class(copy, input.len, &out, &error) &&
	   same_bytes(&out, wanted.data, wanted.len), "canonical form: %s", name);
	free(copy);
	wire_buffer_free(&out);
	wire_buffer_free(&input);
	wire_buffer_free(&wanted);
}

static void
test_lenient(void)
{
	check_lenient("dc0005 90 dd00000000 c500 00 cd0000 c0", "95 90 90 c400 00 c0",
				  "wide headers and integers");
	check_lenient("95 90 90 9201ccff d105dc c0", "95 90 90 c40201ff cd05dc c0",
				  "plans as an array, a tenant as a signed integer");
	check_lenient("95 90 91 92 a24b76 92 a16b 93 c4017f c400 917f c400 00 c0",
				  "95 90 91 92 a24b76 92 a16b 92 90 917f c400 00 c0",
				  "keys as bin, unsorted and repeated");
	check_lenient("95 90 90 c400 00 91 83 05 90 03 90 05 91 91 92 a24b76 92 a16b 90",
				  "95 90 90 c400 00 91 82 03 90 05 91 91 92 a24b76 92 a16b 90",
				  "vshards unsorted and repeated");
}

static void
check_refused(const char *hex, WireStatus status, uint32_t offset, const char *name)
{
	WireBuffer	input = from_hex(hex);
	WireBuffer	out;
	WireError	error = {WIRE_OK, 0, NULL, NULL};
	bool		taken;

	new_buffer(&out);
	taken = wire_canonicalise_tx_class(input.data, input.len, &out, &error);
	if (!ok(!taken && error.status == status && error.offset == offset,
			"refused: %s", name))
		diag("%s at %u", wire_status_name(error.status), error.offset);
	wire_buffer_free(&out);
	wire_buffer_free(&input);
}

static void
test_refused(void)
{
	check_refused("", WIRE_TRUNCATED, 0, "no bytes");
	check_refused("94 90 90 c400 00", WIRE_WRONG_LENGTH, 0, "four fields");
	check_refused("95 90 90 a0 00 c0", WIRE_WRONG_TYPE, 3, "plans as str");
	check_refused("95 90 90 c400 cf8000000000000000 c0", WIRE_OUT_OF_RANGE, 5,
				  "a tenant that no bigint holds");
	check_refused("95 90 90 c400 ff c0", WIRE_OUT_OF_RANGE, 5, "a negative tenant");
	check_refused("95 90 90 c400 00 91 81 cd0400 90", WIRE_OUT_OF_RANGE, 8, "vshard 1024");
	check_refused("95 90 91 92 a3466f6f 92 a161 90 c400 00 c0", WIRE_WRONG_TAG, 4,
				  "an unknown key set");
	check_refused("95 90 91 92 a24b76 92 a1ff 90 c400 00 c0", WIRE_BAD_UTF8, 8,
				  "a name that is no UTF-8");
}

/* Lengths at which a header grows. */
static void
test_document_write(void)
{
	static const size_t lengths[] = {0, 1, 31, 32, 255, 256, 65535, 65536};
	const size_t n = sizeof(lengths) / sizeof(lengths[0]);
	char	   *text = malloc(65536);
	bool		good = true;

	memset(text, 'x', 65536);
	for (size_t i = 0; i < n * n; i++)
	{
		size_t		name = lengths[i / n];
		size_t		plans = lengths[i % n];
		uint64_t	tenant = i % 2 ? WIRE_MAX_TENANT : i;
		WireTxClassFigures figures;
		WireBuffer	out;
		WireError	error;
		uint8_t    *copy;
		bool		canonical;

		new_buffer(&out);
		wire_put_document_write(&out, text, name, text, plans, tenant);
		copy = exact_copy(out.data, out.len);
		good &= !out.failed &&
			wire_examine_tx_class(copy, out.len, &figures, &canonical, &error) &&
			canonical && figures.participants == 1 &&
			figures.plans_bytes == plans && figures.tenant_id == tenant &&
			out.len <= name + plans + 64;
		free(copy);
		wire_buffer_free(&out);
	}
	ok(good, "a write of one document is canonical, whatever its lengths");
	free(text);
}

static void
test_document_bytes(void)
{
	WireBuffer	wanted = from_hex("95 90 91 92 a8446f63756d656e74 92 a86f72646572732f37 90"
								  " c407 7b2261223a317d cd012c c0");
	WireBuffer	out;

	new_buffer(&out);
	wire_put_document_write(&out, "orders/7", 8, "{\"a\":1}", 7, 300);
	ok(same_bytes(&out, wanted.data, wanted.len), "a write of one document, byte by byte");
	wire_buffer_free(&out);
	wire_buffer_free(&wanted);
}

int
main(void)
{
	test_figures();
	test_whole();
	test_lenient();
	test_refused();
	test_document_write();
	test_document_bytes();
	return done();
}
