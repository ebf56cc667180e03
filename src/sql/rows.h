/*
 * rows.h
 *	  Transactions as rows: what seq_receive and seq_replay have in common.
 *
 * (vshard int, epoch bigint, position int, epoch_system_ms bigint,
 *  tenant_id bigint, participating_vshards int[], plans bytea,
 *  tx_class bytea)
 */
#ifndef CALVIN_SQL_ROWS_H
#define CALVIN_SQL_ROWS_H

#include "compat.h"

#include "utils/array.h"
#include "wire/wire.h"

#define ROW_COLUMNS 8

/* One transaction, to be made a row. */
typedef struct RowSource
{
	uint16		vshard;
	uint64		epoch;
	uint32		position;
	int64		epoch_system_ms;
	uint64		tenant_id;
	const uint16 *vshards;
	int			vshard_count;
	WireSlice	plans;
	struct varlena *tx_class; /* a bytea, where it lies */
} RowSource;

/* Buffers that rows are made in, used again for each. */
typedef struct RowMaker
{
	MemoryContext context;
	ArrayType  *array; /* room for all vshards */
	bytea	   *plans;
	Size		plans_size;
	Datum		values[ROW_COLUMNS];
	bool		nulls[ROW_COLUMNS];
} RowMaker;

/* In the current memory context. */
extern void row_maker_init(RowMaker *maker);

/* Fill in maker->values; they are valid until the next call. */
extern void row_make(RowMaker *maker, const RowSource *source);

#endif							/* CALVIN_SQL_ROWS_H */
