/*
 * drive.c
 *	  The checks without libFuzzer.
 *
 *	drive codec|machine [-r ROUNDS] [-s SEED] [-o FILE] FILE...
 *		each file, then ROUNDS changed ones; what fails is left in FILE
 *	drive json [-r ROUNDS] [-s SEED] FILE...
 *		prints "entry, its canonical form, whether a name has a NUL" for COPY,
 *		of the files and of ROUNDS changed ones that seq_append would take
 *
 * The canonical form is the model's, not that of the code under test.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fuzz.h"
#include "model.h"
#include "support.h"

#define MOST_BYTES 4096

typedef struct Input
{
	uint8_t    *data;
	size_t		len;
} Input;

static const char *crash_file = "crash";
static uint64_t executions = 0;

static void
print_bytea(const uint8_t *data, size_t len)
{
	fputs("\\\\x", stdout);
	for (size_t i = 0; i < len; i++)
		printf("%02x", data[i]);
}

/*
 * What the log may get: exactly one entry, whose transactions carry their own
 * batch's numbers.
 */
static const char *
print_pair(const uint8_t *data, size_t len)
{
	Model		model;

	model_read(&model, data, len, MODEL_STRICT);
	if (model.kind != MODEL_REFUSED && model.length == len &&
		model.own_numbers)
	{
		print_bytea(data, len);
		putchar('\t');
		print_bytea(model.canonical.data, model.canonical.len);
		printf("\t%c\n", model.has_nul ? 't' : 'f');
	}
	model_free(&model);
	return NULL;
}

static void
check_one(FuzzCheck check, const uint8_t *data, size_t len, const char *name)
{
	const char *wrong = check(data, len);
	FILE	   *file;

	executions++;
	if (wrong == NULL)
		return;
	fprintf(stderr, "found: %s: %s\n", name, wrong);
	file = fopen(crash_file, "wb");
	if (file == NULL || fwrite(data, 1, len, file) != len ||
		fclose(file) != 0)
		perror(crash_file);
	else
		fprintf(stderr, "the input is in %s\n", crash_file);
	exit(1);
}

/* Some changes of either kind to one of the inputs. */
static size_t
changed_input(const Input *inputs, int count, uint8_t *data, uint64_t *seed,
			  bool entries)
{
	const Input *input = &inputs[(next_random(seed) >> 20) % (uint64_t) count];
	size_t		len = input->len < MOST_BYTES ? input->len : MOST_BYTES;

	if (input->data != NULL)
		memcpy(data, input->data, len);
	for (int n = (int) (next_random(seed) >> 62) + 1; n > 0; n--)
	{
		size_t		changed = 0;

		if (entries)
			changed = entry_mutate(data, len, MOST_BYTES, next_random(seed));
		if (changed > 0)
			len = changed;
		else if (len > 0)
			data[(next_random(seed) >> 20) % len] =
				(uint8_t) (next_random(seed) >> 56);
	}
	return len;
}

static int
usage(void)
{
	fputs("usage: drive codec|machine|json [-r ROUNDS] [-s SEED] [-o FILE] FILE...\n",
		  stderr);
	return 2;
}

int
main(int argc, char **argv)
{
	FuzzCheck	check;
	Input	   *inputs;
	int			count;
	long		rounds = 0;
	uint64_t	seed = 1;
	static uint8_t data[MOST_BYTES];
	int			option;

	if (argc < 2)
		return usage();
	if (strcmp(argv[1], "codec") == 0)
		check = codec_check;
	else if (strcmp(argv[1], "machine") == 0)
		check = machine_check;
	else if (strcmp(argv[1], "json") == 0)
		check = print_pair;
	else
		return usage();
	argc--;
	argv++;
	while ((option = getopt(argc, argv, "r:s:o:")) != -1)
	{
		switch (option)
		{
			case 'r':
				rounds = strtol(optarg, NULL, 10);
				break;
			case 's':
				seed = strtoull(optarg, NULL, 10);
				break;
			case 'o':
				crash_file = optarg;
				break;
			default:
				return usage();
		}
	}

	count = argc - optind;
	if (count == 0)
		return usage();
	inputs = calloc((size_t) count, sizeof(Input));
	if (inputs == NULL)
		abort();
	for (int i = 0; i < count; i++)
	{
		inputs[i].data = read_file(argv[optind + i], &inputs[i].len);
		check_one(check, inputs[i].data, inputs[i].len, argv[optind + i]);
	}
	/* xorshift must not begin with zero */
	seed = seed * 2 + 1;
	for (long round = 0; round < rounds; round++)
	{
		size_t		len = changed_input(inputs, count, data, &seed,
										check != machine_check);

		check_one(check, data, len, "a changed input");
	}
	if (check != print_pair)
		printf("%" PRIu64 " executions\n", executions);
	return 0;
}
