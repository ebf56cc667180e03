/*
 * trust.c
 *	  How much of each partition a handler worker takes at once.
 */
#include "compat.h"

#include "process/trust.h"

static void
set_doubted(Trust *trust, int partition, bool doubted)
{
	if (trust->doubted[partition] != doubted)
		trust->ndoubted += doubted ? 1 : -1;
	trust->doubted[partition] = doubted;
	trust->trusted[partition] = !doubted;
}

void
trust_begin(Trust *trust, int partitions, int batch)
{
	trust->partitions = partitions;
	trust->batch = batch;
	trust->ndoubted = 0;
	trust->size = palloc(sizeof(int) * partitions);
	trust->singly = palloc(sizeof(int) * partitions);
	trust->doubted = palloc0(sizeof(bool) * partitions);
	trust->trusted = palloc(sizeof(bool) * partitions);
	for (int i = 0; i < partitions; i++)
		trust_doubt(trust, i, 0);
}

int
trust_rows(const Trust *trust, int partition)
{
	return trust->singly[partition] > 0 ? 1 : trust->size[partition];
}

void
trust_succeeded(Trust *trust, int partition, int n)
{
	if (!trust->doubted[partition])
		return;
	if (trust->singly[partition] > 0)
	{
		trust->singly[partition] = Max(trust->singly[partition] - n, 0);
		return;
	}
	trust->size[partition] = Min(trust->size[partition] * 2, trust->batch);
	if (n >= trust->batch || trust->size[partition] == trust->batch)
		set_doubted(trust, partition, false);
}

void
trust_doubt(Trust *trust, int partition, int n)
{
	trust->size[partition] = 1;
	trust->singly[partition] = n;
	set_doubted(trust, partition, true);
}
