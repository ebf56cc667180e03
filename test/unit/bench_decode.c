/*
 * bench_decode.c
 *	  How fast wire_decode() is on a long log.
 *
 * Entries of 1024 transactions of about 136 bytes: two Document key sets of
 * two surrogates each in collections col_0 .. col_999, 64 bytes of plans.  The
 * log is larger than any cache, as it is when an applier catches up.
 *
 *		bench_decode [megabytes [rounds]]
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "support.h"

#define TXNS 1024

static void
put_key_set(WireBuffer *buffer, uint64_t *seed)
{
	char		name[16];
	int			len;
	uint32_t	a = (uint32_t) (next_random(seed) >> 32);
	uint32_t	b = (uint32_t) (next_random(seed) >> 32);

	len = snprintf(name, sizeof(name), "col_%u",
				   (unsigned) (next_random(seed) >> 40) % 1000);
	wire_put_array_header(buffer, 2);
	wire_put_str(buffer, "Document", 8);
	wire_put_array_header(buffer, 2);
	wire_put_str(buffer, name, (size_t) len);
	wire_put_array_header(buffer, 2);
	wire_put_uint(buffer, a < b ? a : b);
	wire_put_uint(buffer, a < b ? b : a + 1);
}

static void
put_entry(WireBuffer *buffer, uint64_t epoch, uint64_t *seed)
{
	uint64_t	plans[8];

	wire_put_array_header(buffer, 2);
	wire_put_str(buffer, "EpochBatch", 10);
	wire_put_array_header(buffer, 1);
	wire_put_array_header(buffer, 3);
	wire_put_uint(buffer, epoch);
	wire_put_array_header(buffer, TXNS);
	for (uint32_t i = 0; i < TXNS; i++)
	{
		for (int j = 0; j < 8; j++)
			plans[j] = next_random(seed);
		wire_put_array_header(buffer, 4);
		wire_put_uint(buffer, epoch);
		wire_put_uint(buffer, i);
		wire_put_array_header(buffer, 5);
		wire_put_array_header(buffer, 0);
		wire_put_array_header(buffer, 2);
		put_key_set(buffer, seed);
		put_key_set(buffer, seed);
		wire_put_bin(buffer, plans, sizeof(plans));
		wire_put_uint(buffer, 1 + i % 7);
		wire_put_nil(buffer);
		wire_put_int(buffer, 0);
	}
	wire_put_int(buffer, INT64_C(1700000000000));
}

static double
seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double) now.tv_sec + (double) now.tv_nsec * 1e-9;
}

int
main(int argc, char **argv)
{
	size_t		wanted = (size_t) (argc > 1 ? atoi(argv[1]) : 256) << 20;
	int			rounds = argc > 2 ? atoi(argv[2]) : 5;
	uint64_t	seed = 88172645463325252;
	uint32_t	entries = 0;
	size_t	   *begins;
	WireBuffer	log;
	WireDecoder *decoder = new_decoder(2 * TXNS, 16384);

	new_buffer(&log);
	begins = malloc((wanted / 1000 + 2) * sizeof(size_t));
	while (log.len < wanted)
	{
		begins[entries] = log.len;
		put_entry(&log, 100000 + entries, &seed);
		begins[++entries] = log.len;
	}
	printf("%u entries, %.1f bytes a transaction, %zu MB\n", entries,
		   (double) log.len / ((double) entries * TXNS), log.len >> 20);

	for (int round = 0; round < rounds; round++)
	{
		uint64_t	txns = 0;
		uint64_t	check = 0;
		double		begin = seconds();
		double		middle;
		double		spent;
		double		last;

		for (uint32_t i = 0; i < entries; i++)
		{
			if (!wire_decode(decoder, log.data + begins[i],
							 begins[i + 1] - begins[i]))
			{
				printf("entry %u: %s at %u in %s\n", i,
					   wire_status_name(decoder->error.status),
					   decoder->error.offset, decoder->error.field);
				return 1;
			}
			txns += decoder->entry.txn_count;
		}
		middle = seconds();
		for (uint32_t i = 0; i < entries; i++)
		{
			WireTxn		txn;

			wire_decode(decoder, log.data + begins[i],
						begins[i + 1] - begins[i]);
			while (wire_next_txn(decoder, &txn))
				check += txn.vshard_count + txn.canonical;
		}
		last = seconds();
		for (uint32_t i = 0; i < entries; i++)
		{
			WireEntry	entry;
			bool		canonical;

			if (!wire_examine(log.data + begins[i], begins[i + 1] - begins[i],
							  &entry, &canonical) || !canonical)
				return 1;
		}
		spent = middle - begin;
		printf("decode %.2f M txns/s, %.2f GB/s, %.0f ns each;"
			   " with wire_next_txn %.2f M txns/s (%llu); examine %.0f ns each\n",
			   (double) txns / spent / 1e6, (double) log.len / spent / 1e9,
			   spent / (double) txns * 1e9,
			   (double) txns / (last - middle) / 1e6,
			   (unsigned long long) check,
			   (seconds() - last) / (double) txns * 1e9);
	}
	return 0;
}
