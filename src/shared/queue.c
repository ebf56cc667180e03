/*
 * queue.c
 *	  One subscription's queue: messages, and a shm_mq used without waiting.
 */
#include "compat.h"

#include "shared/queue.h"
#include "utils/guc.h"

/* Bytes of the ring that a message of "len" bytes takes: a length word too. */
#define RING_BYTES(len) (MAXALIGN(sizeof(Size)) + MAXALIGN(len))

/* The empty message of queue_flush(), for which there is always room kept. */
#define FLUSH_BYTES RING_BYTES(0)

static int	queue_size_kb = 128;

void
queue_init(void)
{
	DefineCustomIntVariable("calvin_seq.queue_size",
							"Ring of one subscription's queue, unless seq_subscribe says otherwise.",
							"128kB holds about 512 transactions of usual size.",
							&queue_size_kb,
							128, QUEUE_MIN_RING / 1024, QUEUE_MAX_RING / 1024,
							PGC_USERSET, GUC_UNIT_KB,
							NULL, NULL, NULL);
}

Size
queue_default_ring(void)
{
	return (Size) queue_size_kb * 1024;
}

Size
queue_check_ring(int64 size)
{
	if (size < QUEUE_MIN_RING || size > QUEUE_MAX_RING)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("queue_size " INT64_FORMAT " is out of range", size),
				 errdetail("It is in bytes, from %d to %d.", QUEUE_MIN_RING,
						   QUEUE_MAX_RING)));
	return (Size) size;
}

/* shm_mq_minimum_size is its header and one aligned unit of ring. */
static Size
mq_size(Size ring_size)
{
	return shm_mq_minimum_size - MAXIMUM_ALIGNOF + MAXALIGN_DOWN(ring_size);
}

Size
queue_size(Size ring_size)
{
	return CACHELINEALIGN(sizeof(QueueControl)) + mq_size(ring_size);
}

/* Where the shm_mq of a queue starts. */
static shm_mq *
queue_mq(void *address)
{
	return (shm_mq *) ((char *) address + CACHELINEALIGN(sizeof(QueueControl)));
}

void
queue_create(QueueReader *reader, dsm_segment *segment, void *address,
			 Size ring_size)
{
	shm_mq	   *mq;

	reader->control = (QueueControl *) address;
	pg_atomic_init_u64(&reader->control->read, 0);
	mq = shm_mq_create(queue_mq(address), mq_size(ring_size));
	shm_mq_set_receiver(mq, MyProc);
	reader->handle = shm_mq_attach(mq, segment, NULL);
	reader->ring_size = MAXALIGN_DOWN(ring_size);
	reader->total = 0;
	reader->reported = 0;
}

bool
queue_attach(QueueSender *sender, dsm_segment *segment, void *address,
			 Size ring_size)
{
	shm_mq	   *mq = queue_mq(address);

	if (shm_mq_get_sender(mq) != NULL)
		return false;
	shm_mq_set_sender(mq, MyProc);
	sender->handle = shm_mq_attach(mq, segment, NULL);
	sender->control = (QueueControl *) address;
	sender->written = 0;
	sender->read = 0;
	sender->ring_size = MAXALIGN_DOWN(ring_size);
	sender->dirty = false;
	return true;
}

void
queue_prepare(QueueOutgoing *out, uint64 epoch, int64 epoch_system_ms,
			  const WireTxn *txn, WireSlice tx_class, uint32 plans_offset)
{
	QueueMessage *message = &out->head.message;
	Size		vshards_end = offsetof(QueueMessage, vshards) +
		txn->vshard_count * sizeof(uint16);

	message->epoch = epoch;
	message->epoch_system_ms = epoch_system_ms;
	message->tenant_id = txn->tenant_id;
	message->position = txn->position;
	message->plans_offset = plans_offset;
	message->plans_len = txn->plans.len;
	message->vshard_count = txn->vshard_count;
	message->flags = 0;
	out->head_size = QUEUE_HEAD_SIZE(txn->vshard_count);
	memcpy(message->vshards, txn->vshards, txn->vshard_count * sizeof(uint16));
	memset(out->head.bytes + vshards_end, 0, out->head_size - vshards_end);
	SET_VARSIZE(queue_message_tx_class(message), tx_class.len + VARHDRSZ);
	out->tx_class = tx_class;
}

/* Is there room for "need" bytes and a flush?  Looks again if not. */
static inline bool
has_room(QueueSender *sender, Size need)
{
	if (sender->written - sender->read + need + FLUSH_BYTES <=
		sender->ring_size)
		return true;

	/*
	 * What is reported here, shm_mq must already know to be free: the barrier
	 * pairs with the one in report_read().
	 */
	sender->read = pg_atomic_read_u64(&sender->control->read);
	pg_read_barrier();
	return sender->written - sender->read + need + FLUSH_BYTES <=
		sender->ring_size;
}

QueueResult
queue_send(QueueSender *sender, const QueueOutgoing *out)
{
	Size		len = out->head_size + out->tx_class.len;
	Size		need = RING_BYTES(len);
	shm_mq_iovec iov[2];

	if (sender->handle == NULL)
		return QUEUE_GONE;
	if (!has_room(sender, need))
		return QUEUE_FULL;

	iov[0].data = out->head.bytes;
	iov[0].len = out->head_size;
	iov[1].data = (const char *) out->tx_class.data;
	iov[1].len = out->tx_class.len;

	switch (shm_mq_sendv(sender->handle, iov, 2, true, false))
	{
		case SHM_MQ_SUCCESS:
			sender->written += need;
			sender->dirty = true;
			return QUEUE_SENT;
		case SHM_MQ_DETACHED:
			return QUEUE_GONE;
		case SHM_MQ_WOULD_BLOCK:
			break;
	}
	elog(ERROR, "calvin_seq queue accounting is off: %zu bytes did not fit",
		 need);
	pg_unreachable();
}

void
queue_flush(QueueSender *sender)
{
	if (!sender->dirty)
		return;
	sender->dirty = false;
	if (shm_mq_send(sender->handle, 0, "", true, true) == SHM_MQ_SUCCESS)
		sender->written += FLUSH_BYTES;
}

/*
 * Report what shm_mq is known to have freed.  It marks what was consumed as
 * read when it finds the ring empty, and otherwise at the start of a call
 * once more than a quarter of the ring is pending.  So after a call that
 * returned a message, everything before that message but the last quarter
 * of a ring is free.
 */
static inline void
report_read(QueueReader *reader, uint64 free, bool now)
{
	if (free > reader->reported &&
		(now || free - reader->reported > reader->ring_size / 8))
	{
		reader->reported = free;
		pg_write_barrier();
		pg_atomic_write_u64(&reader->control->read, free);
	}
}

const QueueMessage *
queue_receive(QueueReader *reader, bool *detached)
{
	*detached = false;
	for (;;)
	{
		Size		len;
		void	   *data;
		shm_mq_result result;

		result = shm_mq_receive(reader->handle, &len, &data, true);
		if (result != SHM_MQ_SUCCESS)
		{
			*detached = (result == SHM_MQ_DETACHED);
			report_read(reader, reader->total, true);
			return NULL;
		}
		if (reader->total > reader->ring_size / 4)
			report_read(reader, reader->total - reader->ring_size / 4, false);
		reader->total += RING_BYTES(len);
		if (len > 0)
			return (const QueueMessage *) data;
	}
}
