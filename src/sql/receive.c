/*
 * receive.c
 *	  seq_receive and seq_receive_batch: what came, as rows or framed.
 */
#include "compat.h"

#include "consumer/holding.h"
#include "consumer/left_out.h"
#include "consumer/stream.h"
#include "log/memory.h"
#include "log/rows.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "port/pg_bswap.h"
#include "shared/clock.h"
#include "shared/waits.h"
#include "sql/args.h"
#include "sql/result.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

CALVIN_FUNCTION(seq_receive);
CALVIN_FUNCTION(seq_receive_batch);

/* A framed batch ends with the transaction that makes it larger than this. */
#define MAX_BATCH_BYTES (64 * 1024 * 1024)

/* Array headers of a framed batch: of 0 elements, and of any number. */
#define BATCH_EMPTY 0x90
#define BATCH_ARRAY32 0xdd
#define BATCH_HEADER_BYTES 5

typedef struct Receiving
{
	Consumer   *consumer;
	int			left; /* transactions that may still be returned */
	int64		deadline;
	bool		any; /* something was returned: wait no more */
} Receiving;

static void
begin_receiving(FunctionCallInfo fcinfo, Receiving *receiving)
{
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(2))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("max_txns, timeout and name must not be null")));
	shmem_require();
	receiving->left = PG_GETARG_INT32(0);
	if (receiving->left < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_txns must not be negative")));
	receiving->deadline = arg_deadline(PG_GETARG_INTERVAL_P(1));
	receiving->any = false;
	receiving->consumer = arg_consumer(PG_GETARG_TEXT_PP(2));
	holding_check(false);
	stream_begin(receiving->consumer);
}

/* The next transaction; waits for the first one only. */
static bool
next_txn(Receiving *receiving, Delivery *delivery)
{
	if (receiving->left == 0)
		return false;
	for (;;)
	{
		long		left;

		if (stream_next(receiving->consumer, delivery))
		{
			receiving->any = true;
			receiving->left--;
			return true;
		}
		if (receiving->any || (left = deadline_left(receiving->deadline)) == 0)
			return false;

		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 left, wait_event(WAIT_RECEIVE));
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		consumer_check(receiving->consumer);
	}
}

static void
end_receiving(Receiving *receiving)
{
	if (receiving->any)
		holding_note(consumer_name(receiving->consumer), false);
	consumer_report(receiving->consumer);
}

/* seq_receive(max_txns, timeout, name) */
Datum
seq_receive(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo;
	Receiving	receiving;
	Delivery	delivery;
	RowMaker	maker;

	rsinfo = result_rows(fcinfo, ROW_COLUMNS, row_types);
	begin_receiving(fcinfo, &receiving);
	row_maker_init(&maker);
	while (next_txn(&receiving, &delivery))
	{
		row_make(&maker, &delivery);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, maker.values,
							 maker.nulls);
		CHECK_FOR_INTERRUPTS();
	}
	end_receiving(&receiving);
	left_out_note(fcinfo);
	return (Datum) 0;
}

/* seq_receive_batch(max_txns, timeout, name) -> framed transactions */
Datum
seq_receive_batch(PG_FUNCTION_ARGS)
{
	static const uint8 empty_head[VARHDRSZ + BATCH_HEADER_BYTES];
	Receiving	receiving;
	Delivery	delivery;
	WireBuffer	buffer;
	uint32		count = 0;
	uint8	   *header;

	begin_receiving(fcinfo, &receiving);
	wire_buffer_init(&buffer, memory_realloc, NULL);
	wire_put_raw(&buffer, empty_head, sizeof(empty_head));
	while (buffer.len < MAX_BATCH_BYTES && next_txn(&receiving, &delivery))
	{
		wire_put_array_header(&buffer, 5);
		wire_put_uint(&buffer, delivery.vshard);
		wire_put_uint(&buffer, delivery.epoch);
		wire_put_uint(&buffer, delivery.position);
		wire_put_int(&buffer, delivery.epoch_system_ms);
		wire_put_raw(&buffer, delivery.tx_class.data, delivery.tx_class.len);
		count++;
		CHECK_FOR_INTERRUPTS();
	}
	end_receiving(&receiving);

	header = buffer.data + VARHDRSZ;
	if (count == 0)
	{
		header[0] = BATCH_EMPTY;
		SET_VARSIZE(buffer.data, VARHDRSZ + 1);
	}
	else
	{
		uint32		big_endian = pg_hton32(count);

		header[0] = BATCH_ARRAY32;
		memcpy(header + 1, &big_endian, sizeof(big_endian));
		SET_VARSIZE(buffer.data, buffer.len);
	}
	PG_RETURN_BYTEA_P(buffer.data);
}
