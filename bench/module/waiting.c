/*
 * waiting.c
 *	  What an applier would do that waits for room on its queues: read the log,
 *	  decode it, and send each transaction to each of its vshards.
 */
#include "postgres.h"

#include "bench_queues.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/array.h"
#include "wire/wire.h"

#define STAGED_TXNS 16384
#define STAGED_VSHARDS 65536
#define ROWS_A_FETCH 16

/* A message's part before the TxClass: as large as calvin_seq's. */
#define HEAD_BYTES(vshard_count) MAXALIGN(52 + 2 * (vshard_count) + VARHDRSZ)

PG_FUNCTION_INFO_V1(bench_queue_apply);

typedef struct Waiting
{
	WireDecoder decoder;
	int			queue_of[WIRE_VSHARDS]; /* -1: none */
	shm_mq_handle **handles;
} Waiting;

static void
send_txn(Waiting *waiting, const WireTxn *txn)
{
	char		head[HEAD_BYTES(WIRE_VSHARDS)];
	int64		number = (int64) (waiting->decoder.entry.epoch << 20 | txn->position);
	shm_mq_iovec parts[2];

	parts[0].data = head;
	parts[0].len = HEAD_BYTES(txn->vshard_count);
	parts[1].data = (const char *) txn->tx_class.data;
	parts[1].len = txn->tx_class.len;
	memset(head, 0, parts[0].len);
	memcpy(head, &number, sizeof(number));
	memcpy(head + 52, txn->vshards, txn->vshard_count * sizeof(uint16));
	for (int i = 0; i < txn->vshard_count; i++)
	{
		int			queue = waiting->queue_of[txn->vshards[i]];

		if (queue >= 0 &&
			shm_mq_sendv(waiting->handles[queue], parts, 2, false, false) != SHM_MQ_SUCCESS)
			elog(ERROR, "the receiver has left");
	}
}

static void
apply_entry(Waiting *waiting, Datum entry)
{
	struct varlena *bytes = pg_detoast_datum_packed((struct varlena *) DatumGetPointer(entry));
	WireTxn		txn;

	if (!wire_decode(&waiting->decoder, (const uint8 *) VARDATA_ANY(bytes),
					 VARSIZE_ANY_EXHDR(bytes)))
		elog(ERROR, "an entry that does not decode");
	while (wire_next_txn(&waiting->decoder, &txn))
		send_txn(waiting, &txn);
	if ((Pointer) bytes != DatumGetPointer(entry))
		pfree(bytes);
}

/*
 * (handle bigint, vshards int[], from bigint, to bigint) -> nanoseconds when it
 * began: applies the entries between two log_indexes, to a queue a vshard.
 */
Datum
bench_queue_apply(PG_FUNCTION_ARGS)
{
	ArrayType  *vshards = PG_GETARG_ARRAYTYPE_P(1);
	Oid			types[] = {INT8OID, INT8OID};
	Datum		values[] = {PG_GETARG_DATUM(2), PG_GETARG_DATUM(3)};
	Waiting    *waiting = palloc(sizeof(Waiting));
	dsm_segment *segment;
	int			count;
	int64		start;
	Portal		portal;

	wire_decoder_init(&waiting->decoder, palloc(sizeof(WireTxn) * STAGED_TXNS),
					  STAGED_TXNS, palloc(sizeof(uint16) * STAGED_VSHARDS),
					  STAGED_VSHARDS);
	segment = queues_attach_sender(PG_GETARG_INT64(0), &waiting->handles, &count);
	for (int i = 0; i < WIRE_VSHARDS; i++)
		waiting->queue_of[i] = -1;
	for (int i = 0; i < count; i++)
		waiting->queue_of[((int32 *) ARR_DATA_PTR(vshards))[i]] = i;

	start = monotonic_ns();
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	portal = SPI_cursor_open_with_args(NULL,
									   "SELECT entry FROM seq_log WHERE log_index BETWEEN $1 AND $2 ORDER BY log_index",
									   2, types, values, NULL, true, 0);
	for (;;)
	{
		SPI_cursor_fetch(portal, true, ROWS_A_FETCH);
		if (SPI_processed == 0)
			break;
		for (uint64 i = 0; i < SPI_processed; i++)
		{
			bool		isnull;

			apply_entry(waiting, SPI_getbinval(SPI_tuptable->vals[i],
											   SPI_tuptable->tupdesc, 1, &isnull));
		}
		SPI_freetuptable(SPI_tuptable);
	}
	queues_finish(segment, waiting->handles, count);
	SPI_finish();
	PG_RETURN_INT64(start);
}
