/*
 * workload.c
 *	  Makes batches in canonical MessagePack, and checks what came of them.
 */
#include "workload.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Names for vshards beyond those of col_0 to col_999. */
#define MAX_COLLECTIONS 100000

#define EPOCH_MS INT64_C(1700000000000)

const Workload workloads[4] = {
	{"A", 1024, 2, 64, 64},
	{"B", 1024, 2, 1024, 64},
	{"C", 64, 2, 64, 64},
	{"D", 1024, 8, 64, 64},
};

static uint32_t
vshard_of(int collection)
{
	char		name[16];
	uint32_t	hash = 0;

	snprintf(name, sizeof(name), "col_%d", collection);
	for (const char *c = name; *c; c++)
		hash = hash * 31 + (uint8_t) *c;
	return hash % VSHARDS;
}

Batches *
batches_create(const Workload *load)
{
	Batches    *batches = calloc(1, sizeof(Batches));
	int			found = 0;

	if (batches == NULL)
		die("out of memory");
	batches->load = *load;
	if (batches->load.width > load->vshards)
		batches->load.width = load->vshards;
	batches->random = 42;

	for (int i = 0; i < MAX_COLLECTIONS; i++)
	{
		uint32_t	vshard = vshard_of(i);

		if (i >= 1000 && found == load->vshards)
			break;
		if (batches->name_count[vshard] == 0)
		{
			if (found == load->vshards)
				continue;
			batches->vshards[found++] = (uint16_t) vshard;
		}
		if (batches->name_count[vshard] < NAMES_A_VSHARD)
			batches->names[vshard][batches->name_count[vshard]++] = i;
	}
	if (found < load->vshards)
		die("no collections for %d vshards", load->vshards);
	return batches;
}

void
batches_free(Batches *batches)
{
	free(batches->data);
	free(batches);
}

char *
batches_vshards(const Batches *batches)
{
	size_t		size = 32 + (size_t) batches->load.vshards * 6;
	char	   *sql = malloc(size);
	size_t		len;

	if (sql == NULL)
		die("out of memory");
	len = (size_t) snprintf(sql, size, "'{");
	for (int i = 0; i < batches->load.vshards; i++)
		len += (size_t) snprintf(sql + len, size - len, "%s%u", i ? "," : "",
								 batches->vshards[i]);
	snprintf(sql + len, size - len, "}'::int[]");
	return sql;
}

int
batches_message_size(const Batches *batches)
{
	/* shared/queue.h: the fixed part, vshards, a varlena's header */
	int			head = (52 + 2 * batches->load.width + 4 + 7) & ~7;

	return head + (int) (batches->class_bytes / batches->txns);
}

static uint64_t
next_random(Batches *batches)
{
	uint64_t	z = (batches->random += UINT64_C(0x9E3779B97F4A7C15));

	z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
	z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
	return z ^ z >> 31;
}

static uint8_t *
space(Batches *batches, size_t len)
{
	uint8_t    *at;

	if (batches->len + len > batches->size)
	{
		batches->size = (batches->len + len) * 2;
		batches->data = realloc(batches->data, batches->size);
		if (batches->data == NULL)
			die("out of memory");
	}
	at = batches->data + batches->len;
	batches->len += len;
	return at;
}

static void
put_byte(Batches *batches, int byte)
{
	*space(batches, 1) = (uint8_t) byte;
}

static void
put_big_endian(Batches *batches, int first, uint64_t value, int bytes)
{
	put_byte(batches, first);
	for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8)
		put_byte(batches, (int) (value >> shift & 0xff));
}

static void
put_uint(Batches *batches, uint64_t value)
{
	if (value < 0x80)
		put_byte(batches, (int) value);
	else if (value <= 0xff)
		put_big_endian(batches, 0xcc, value, 1);
	else if (value <= 0xffff)
		put_big_endian(batches, 0xcd, value, 2);
	else if (value <= 0xffffffff)
		put_big_endian(batches, 0xce, value, 4);
	else
		put_big_endian(batches, 0xcf, value, 8);
}

static void
put_array(Batches *batches, uint32_t count)
{
	if (count < 16)
		put_byte(batches, 0x90 | (int) count);
	else if (count <= 0xffff)
		put_big_endian(batches, 0xdc, count, 2);
	else
		put_big_endian(batches, 0xdd, count, 4);
}

static void
put_str(Batches *batches, const char *text)
{
	size_t		len = strlen(text);

	/* all are short */
	put_byte(batches, 0xa0 | (int) len);
	memcpy(space(batches, len), text, len);
}

static void
put_plan(Batches *batches, uint32_t len)
{
	if (len <= 0xff)
		put_big_endian(batches, 0xc4, len, 1);
	else if (len <= 0xffff)
		put_big_endian(batches, 0xc5, len, 2);
	else
		put_big_endian(batches, 0xc6, len, 4);
	memset(space(batches, len), (int) (next_random(batches) & 0xff), len);
}

static void
put_key_set(Batches *batches, uint32_t vshard)
{
	uint64_t	random = next_random(batches);
	char		name[16];
	uint32_t	first = random & 0xffff;

	snprintf(name, sizeof(name), "col_%d",
			 batches->names[vshard][(random >> 40) % (uint64_t) batches->name_count[vshard]]);
	put_array(batches, 2);
	put_str(batches, "Document");
	put_array(batches, 2);
	put_str(batches, name);
	put_array(batches, 2);
	put_uint(batches, first);
	put_uint(batches, first + 1 + (random >> 16 & 0xfff));
}

static void
put_txn(Batches *batches, uint32_t position)
{
	int			width = batches->load.width;
	int			chosen[16];
	size_t		start;

	put_array(batches, 4);
	put_uint(batches, batches->epoch);
	put_uint(batches, position);

	start = batches->len;
	put_array(batches, 5);
	put_array(batches, 0);
	put_array(batches, (uint32_t) width);
	for (int i = 0; i < width; i++)
	{
		bool		repeated;

		do
		{
			chosen[i] = (int) (next_random(batches) % (uint64_t) batches->load.vshards);
			repeated = false;
			for (int j = 0; j < i; j++)
				repeated |= chosen[j] == chosen[i];
		} while (repeated);
		put_key_set(batches, batches->vshards[chosen[i]]);
		batches->sum += key_sum(batches->vshards[chosen[i]], batches->epoch,
								position);
	}
	put_plan(batches, (uint32_t) batches->load.plan);
	put_uint(batches, 1);
	put_byte(batches, 0xc0);
	batches->class_bytes += batches->len - start;

	put_byte(batches, 0);
	batches->fanouts += (uint64_t) width;
}

void
batches_next(Batches *batches)
{
	batches->len = 0;
	put_array(batches, 2);
	put_str(batches, "EpochBatch");
	put_array(batches, 1);
	put_array(batches, 3);
	put_uint(batches, batches->epoch);
	put_array(batches, (uint32_t) batches->load.txns);
	for (int i = 0; i < batches->load.txns; i++)
		put_txn(batches, (uint32_t) i);
	put_big_endian(batches, 0xd3, (uint64_t) EPOCH_MS, 8);
	batches->epoch++;
	batches->bytes += batches->len;
	batches->txns += (uint64_t) batches->load.txns;
}

Prepared
batches_prepare(Batches *batches, int count)
{
	Prepared	prepared = {calloc((size_t) count, sizeof(uint8_t *)),
		calloc((size_t) count, sizeof(size_t)), count};

	if (prepared.data == NULL || prepared.lengths == NULL)
		die("out of memory");
	for (int i = 0; i < count; i++)
	{
		batches_next(batches);
		prepared.data[i] = batches->data;
		prepared.lengths[i] = batches->len;
		batches->data = NULL;
		batches->size = 0;
	}
	return prepared;
}

void
prepared_free(Prepared *prepared)
{
	for (int i = 0; i < prepared->count; i++)
		free(prepared->data[i]);
	free(prepared->data);
	free(prepared->lengths);
}

int64_t
prepared_put(PGconn *conn, const char *statement, const Prepared *prepared)
{
	int64_t		start = now_ns();

	for (int i = 0; i < prepared->count; i++)
		db_put(conn, statement, prepared->data[i], prepared->lengths[i]);
	return now_ns() - start;
}

void
check_key(Checker *checker, uint32_t vshard, uint64_t epoch, uint32_t position)
{
	if (vshard >= VSHARDS || epoch < checker->next_epoch[vshard] ||
		(epoch == checker->next_epoch[vshard] &&
		 position < checker->next_position[vshard]))
		die("(%llu, %u) of vshard %u is out of order",
			(unsigned long long) epoch, position, vshard);
	checker->next_epoch[vshard] = epoch;
	checker->next_position[vshard] = position + 1;
	checker->count++;
	checker->sum += key_sum(vshard, epoch, position);
}

void
check_received(uint64_t count, uint64_t sum, const Batches *batches)
{
	if (count != batches->fanouts || sum != batches->sum)
		die("received %llu transactions, sum %llx; meant were %llu, sum %llx",
			(unsigned long long) count, (unsigned long long) sum,
			(unsigned long long) batches->fanouts,
			(unsigned long long) batches->sum);
}
