/*
 * calvin_bench.c
 *	  What the benchmark needs inside the server: a consumer in C, and bare
 *	  shm_mq queues between two sessions, to compare it with.
 */
#include "postgres.h"

#include <time.h>

#include "bench_queues.h"
#include "extension/calvin_seq/calvin_seq.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#if PG_VERSION_NUM >= 170000
#include "utils/wait_event.h"
#endif

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(bench_receive);
PG_FUNCTION_INFO_V1(bench_queue_create);
PG_FUNCTION_INFO_V1(bench_queue_receive);
PG_FUNCTION_INFO_V1(bench_queue_send);

/* The segment of bare queues; the rings follow, one after the other. */
typedef struct QueueHeader
{
	Size		ring;
	int			count;
} QueueHeader;

static dsm_segment *queues; /* made by this session */

int64
monotonic_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64) now.tv_sec * 1000000000 + now.tv_nsec;
}

static void
wait_for_latch(void)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH, -1L,
					 PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/* The client computes the same: client/workload.h. */
static uint64
key_sum(const CalvinTxn *txn)
{
	uint64		key = ((uint64) txn->vshard << 52) ^ (txn->key.epoch << 20) ^
		txn->key.position;

	key *= UINT64CONST(0x9E3779B97F4A7C15);
	return key ^ key >> 29;
}

/*
 * (name text, count bigint) -> "sum nanoseconds": receives so many transactions,
 * whose order within each vshard is checked, and tells when it had the last.
 */
Datum
bench_receive(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	int64		left = PG_GETARG_INT64(1);
	CalvinKey  *last = palloc0(sizeof(CalvinKey) * CALVIN_VSHARDS);
	bool	   *any = palloc0(sizeof(bool) * CALVIN_VSHARDS);
	uint64		sum = 0;

	for (;;)
	{
		CalvinConsumer *consumer = calvin_begin(name);
		CalvinTxn	txn;

		while (left > 0 && calvin_next(consumer, &txn))
		{
			CalvinKey  *key = &last[txn.vshard];

			if (any[txn.vshard] &&
				(txn.key.epoch < key->epoch ||
				 (txn.key.epoch == key->epoch && txn.key.position <= key->position)))
				elog(ERROR, "a transaction of vshard %u is out of order",
					 txn.vshard);
			*key = txn.key;
			any[txn.vshard] = true;
			sum += key_sum(&txn);
			left--;
		}
		calvin_end(consumer);
		if (left == 0)
			break;
		wait_for_latch();
	}
	PG_RETURN_TEXT_P(cstring_to_text(psprintf(UINT64_FORMAT " " INT64_FORMAT,
											  sum, monotonic_ns())));
}

static Size
queue_stride(Size ring)
{
	return BUFFERALIGN(ring);
}

static shm_mq *
queue_at(dsm_segment *segment, int i)
{
	QueueHeader *header = dsm_segment_address(segment);

	return (shm_mq *) ((char *) header + BUFFERALIGN(sizeof(QueueHeader)) +
					   queue_stride(header->ring) * i);
}

/* (ring bigint, count int) -> handle: this session will receive. */
Datum
bench_queue_create(PG_FUNCTION_ARGS)
{
	Size		ring = (Size) PG_GETARG_INT64(0);
	int			count = PG_GETARG_INT32(1);
	QueueHeader *header;

	queues = dsm_create(BUFFERALIGN(sizeof(QueueHeader)) +
						queue_stride(ring) * count, 0);
	dsm_pin_mapping(queues);
	header = dsm_segment_address(queues);
	header->ring = ring;
	header->count = count;
	for (int i = 0; i < count; i++)
		shm_mq_set_receiver(shm_mq_create(queue_at(queues, i), ring), MyProc);
	PG_RETURN_INT64((int64) dsm_segment_handle(queues));
}

static shm_mq_handle **
attach_all(dsm_segment *segment)
{
	QueueHeader *header = dsm_segment_address(segment);
	shm_mq_handle **handles = palloc(sizeof(shm_mq_handle *) * header->count);

	for (int i = 0; i < header->count; i++)
		handles[i] = shm_mq_attach(queue_at(segment, i), segment, NULL);
	return handles;
}

/* (messages bigint) -> nanoseconds when it had the last of them. */
Datum
bench_queue_receive(PG_FUNCTION_ARGS)
{
	int64		left = PG_GETARG_INT64(0);
	shm_mq_handle **handles;
	int64	   *last;
	int			count;
	int64		end;

	if (queues == NULL)
		elog(ERROR, "this session has no queues");
	handles = attach_all(queues);
	count = ((QueueHeader *) dsm_segment_address(queues))->count;
	last = palloc(sizeof(int64) * count);
	for (int i = 0; i < count; i++)
		last[i] = -1;

	while (left > 0)
	{
		bool		any = false;

		for (int i = 0; i < count && left > 0; i++)
		{
			Size		size;
			void	   *data;

			while (left > 0 &&
				   shm_mq_receive(handles[i], &size, &data, count > 1) == SHM_MQ_SUCCESS)
			{
				int64		number;

				any = true;
				if (size == 0)
					continue;
				memcpy(&number, data, sizeof(number));
				if (number <= last[i])
					elog(ERROR, "a message is out of order");
				last[i] = number;
				left--;
			}
		}
		if (!any)
			wait_for_latch();
	}
	end = monotonic_ns();
	dsm_detach(queues);
	queues = NULL;
	PG_RETURN_INT64(end);
}

dsm_segment *
queues_attach_sender(int64 handle, shm_mq_handle ***handles, int *count)
{
	dsm_segment *segment = dsm_attach((dsm_handle) handle);

	if (segment == NULL)
		elog(ERROR, "there are no such queues");
	*count = ((QueueHeader *) dsm_segment_address(segment))->count;
	for (int i = 0; i < *count; i++)
		shm_mq_set_sender(queue_at(segment, i), MyProc);
	*handles = attach_all(segment);
	return segment;
}

/* Once the receiver has all it leaves: that the rest fails is no matter. */
void
queues_finish(dsm_segment *segment, shm_mq_handle **handles, int count)
{
	for (int i = 0; i < count; i++)
		(void) shm_mq_send(handles[i], 0, "", false, true);
	dsm_detach(segment);
}

/*
 * (handle bigint, size int, messages bigint) -> nanoseconds when it began.
 * Waits for room, and flushes at the end only, as a burst of calvin_seq does.
 */
Datum
bench_queue_send(PG_FUNCTION_ARGS)
{
	Size		size = PG_GETARG_INT32(1);
	int64		messages = PG_GETARG_INT64(2);
	char	   *message = palloc0(Max(size, sizeof(int64)));
	shm_mq_handle **handles;
	int			count;
	dsm_segment *segment = queues_attach_sender(PG_GETARG_INT64(0), &handles, &count);
	int64		start = monotonic_ns();

	for (int64 i = 0; i < messages; i++)
	{
		memcpy(message, &i, sizeof(i));
		if (shm_mq_send(handles[i % count], size, message, false, false) != SHM_MQ_SUCCESS)
			elog(ERROR, "the receiver has left");
	}
	queues_finish(segment, handles, count);
	PG_RETURN_INT64(start);
}
