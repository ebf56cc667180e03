/*
 * rows.h
 *	  Transactions as rows: what seq_receive and seq_replay have in common.
 *
 * (vshard int, epoch bigint, position int, epoch_system_ms bigint,
 *  tenant_id bigint, participating_vshards int[], plans bytea,
 *  tx_class bytea)
 */
#ifndef CALVIN_LOG_ROWS_H
#define CALVIN_LOG_ROWS_H

#include "compat.h"

#include "log/delivery.h"
#include "utils/array.h"

#define ROW_COLUMNS 8

extern const Oid row_types[ROW_COLUMNS];

/* A bytea that grows as needed. */
typedef struct RowBytes
{
	bytea	   *value;
	Size		size;
} RowBytes;

/* Buffers that rows are made in, used again for each. */
typedef struct RowMaker
{
	MemoryContext context;
	ArrayType  *array; /* room for all vshards */
	RowBytes	plans;
	RowBytes	tx_class;
	Datum		values[ROW_COLUMNS];
	bool		nulls[ROW_COLUMNS];
} RowMaker;

/* In the current memory context. */
extern void row_maker_init(RowMaker *maker);

/* Fill in maker->values; they are valid until the next call. */
extern void row_make(RowMaker *maker, const Delivery *delivery);

#endif							/* CALVIN_LOG_ROWS_H */
