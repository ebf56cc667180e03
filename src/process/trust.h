/*
 * trust.h
 *	  How much of each partition a handler worker takes at once.
 *
 * A call that fails is undone with the whole fetch, and one that ends the process leaves
 * no record at all.  So a worker begins with one transaction of a partition at a time,
 * and notes each attempt before it makes it; what works doubles it, up to a batch.  From
 * then on the partition is trusted: it is fetched with others, and nothing is noted.
 * Whatever has failed makes it begin anew, until it is past where it failed.
 */
#ifndef CALVIN_PROCESS_TRUST_H
#define CALVIN_PROCESS_TRUST_H

#include "compat.h"

typedef struct Trust
{
	int			partitions;
	int			batch;
	int			ndoubted;
	int		   *size;	 /* of each partition: taken at once */
	int		   *singly;	 /* so many more by themselves */
	bool	   *doubted;
	bool	   *trusted; /* the opposite */
} Trust;

/* All are doubted; in the current memory context. */
extern void trust_begin(Trust *trust, int partitions, int batch);

/* How many of a doubted one are to be taken. */
extern int	trust_rows(const Trust *trust, int partition);

/* So many of a partition have worked. */
extern void trust_succeeded(Trust *trust, int partition, int n);

/* One of the next n of it has failed, or may. */
extern void trust_doubt(Trust *trust, int partition, int n);

#endif							/* CALVIN_PROCESS_TRUST_H */
