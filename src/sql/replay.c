/*
 * replay.c
 *	  seq_replay: a vshard's transactions of a range of epochs, from the log.
 *
 * One row a call: in the select list it streams.
 */
#include "compat.h"

#include "access/htup_details.h"
#include "funcapi.h"
#include "log/batches.h"
#include "log/rows.h"
#include "sql/args.h"
#include "sql/result.h"

CALVIN_FUNCTION(seq_replay);

typedef struct Replay
{
	uint16		vshard;
	BatchWalk  *walk;
	RowMaker	maker;
} Replay;

static Replay *
begin_replay(int32 vshard, int64 from, int64 to)
{
	Replay	   *replay = palloc0(sizeof(Replay));

	replay->vshard = arg_vshard(vshard);
	replay->walk = batch_walk_create(NULL);
	batch_walk_start(replay->walk, arg_epoch(from), arg_epoch(to));
	row_maker_init(&replay->maker);
	return replay;
}

static bool
takes_part(const WireTxn *txn, uint16 vshard)
{
	for (int i = 0; i < txn->vshard_count && txn->vshards[i] <= vshard; i++)
		if (txn->vshards[i] == vshard)
			return true;
	return false;
}

/* seq_replay(vshard, from_epoch, to_epoch) */
Datum
seq_replay(PG_FUNCTION_ARGS)
{
	FuncCallContext *funcctx;
	Replay	   *replay;
	WireTxn		txn;

	if (SRF_IS_FIRSTCALL())
	{
		MemoryContext old;

		funcctx = SRF_FIRSTCALL_INIT();
		old = MemoryContextSwitchTo(funcctx->multi_call_memory_ctx);
		funcctx->tuple_desc = result_row(fcinfo, ROW_COLUMNS, row_types);
		funcctx->user_fctx = begin_replay(PG_GETARG_INT32(0),
										  PG_GETARG_INT64(1),
										  PG_GETARG_INT64(2));
		MemoryContextSwitchTo(old);
	}

	funcctx = SRF_PERCALL_SETUP();
	replay = (Replay *) funcctx->user_fctx;
	while (batch_walk_next(replay->walk, ACCESS_STATEMENT, &txn))
	{
		Delivery	delivery;
		HeapTuple	tuple;

		if (!takes_part(&txn, replay->vshard))
			continue;
		batch_walk_deliver(replay->walk, &txn, replay->vshard, &delivery);
		row_make(&replay->maker, &delivery);
		tuple = heap_form_tuple(funcctx->tuple_desc, replay->maker.values,
								replay->maker.nulls);
		SRF_RETURN_NEXT(funcctx, HeapTupleGetDatum(tuple));
	}
	SRF_RETURN_DONE(funcctx);
}
