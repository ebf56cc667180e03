/*
 * queue.c
 *	  One subscription's queue: messages, and a shm_mq used without waiting.
 */
#include "compat.h"

#include "shared/queue.h"
#include "utils/guc.h"

/* Bytes of the ring that a batch of "len" bytes takes: a length word too. */
#define RING_BYTES(len) (MAXALIGN(sizeof(Size)) + MAXALIGN(len))

/* A batch: large enough to matter little, small enough to stay in the cache. */
#define BATCH_BYTES 4096
#define BATCHES_A_RING 8

/* Larger messages are not worth a copy into the batch. */
#define MESSAGES_A_BATCH 4

/* A batch of nothing, for which there is always room kept: see queue_flush(). */
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
	reader->next = NULL;
	reader->end = NULL;
}

bool
queue_attach(QueueSender *sender, dsm_segment *segment, void *address,
			 Size ring_size)
{
	shm_mq	   *mq = queue_mq(address);

	if (shm_mq_get_sender(mq) != NULL)
		return false;
	sender->control = (QueueControl *) address;
	sender->written = 0;
	sender->read = 0;
	sender->ring_size = MAXALIGN_DOWN(ring_size);
	sender->batch_size = MAXALIGN_DOWN(Min(BATCH_BYTES,
										   ring_size / BATCHES_A_RING));
	sender->batch_len = 0;
	sender->batch_count = 0;
	sender->batch = palloc(sender->batch_size);
	sender->unseen = 0;
	sender->show_after = ring_size;
	sender->gone = false;
	shm_mq_set_sender(mq, MyProc);
	sender->handle = shm_mq_attach(mq, segment, NULL);
	return true;
}

void
queue_free_sender(QueueSender *sender)
{
	if (sender->batch != NULL)
		pfree(sender->batch);
	sender->batch = NULL;
}

void
queue_show_after(QueueSender *sender, Size bytes)
{
	sender->show_after = bytes;
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

/* Is there room for "need" bytes and a flush beside what shm_mq was given? */
static inline bool
has_room(QueueSender *sender, Size need)
{
	need += FLUSH_BYTES;
	if (sender->written - sender->read + need <= sender->ring_size)
		return true;

	/*
	 * What is reported here, shm_mq must already know to be free: the barrier
	 * pairs with the one in report_read().
	 */
	sender->read = pg_atomic_read_u64(&sender->control->read);
	pg_read_barrier();
	return sender->written - sender->read + need <= sender->ring_size;
}

/* Give shm_mq what is surely to fit. */
static bool
hand_over(QueueSender *sender, const shm_mq_iovec *iov, int iovcnt, Size len,
		  bool show)
{
	sender->unseen += len;
	show |= sender->unseen >= sender->show_after;
	switch (shm_mq_sendv(sender->handle, unconstify(shm_mq_iovec *, iov),
						 iovcnt, true, show))
	{
		case SHM_MQ_SUCCESS:
			sender->written += RING_BYTES(len);
			if (show)
				sender->unseen = 0;
			return true;
		case SHM_MQ_DETACHED:
			sender->gone = true;
			return false;
		case SHM_MQ_WOULD_BLOCK:
			break;
	}
	elog(ERROR, "calvin_seq queue accounting is off: %zu bytes did not fit",
		 RING_BYTES(len));
	pg_unreachable();
}

static bool
hand_over_batch(QueueSender *sender, bool show, uint32 *lost)
{
	shm_mq_iovec iov = {sender->batch, sender->batch_len};
	bool		done;

	if (sender->batch_len == 0)
		return true;
	done = hand_over(sender, &iov, 1, sender->batch_len, show);
	if (!done)
		*lost = sender->batch_count;
	sender->batch_len = 0;
	sender->batch_count = 0;
	return done;
}

static bool
hand_over_message(QueueSender *sender, const QueueOutgoing *out)
{
	shm_mq_iovec iov[2];

	iov[0].data = out->head.bytes;
	iov[0].len = out->head_size;
	iov[1].data = (const char *) out->tx_class.data;
	iov[1].len = out->tx_class.len;
	return hand_over(sender, iov, 2, out->head_size + out->tx_class.len, false);
}

QueueResult
queue_send(QueueSender *sender, const QueueOutgoing *out, uint32 *lost)
{
	Size		bytes = QUEUE_MESSAGE_BYTES(out->head_size, out->tx_class.len);
	bool		alone = bytes > sender->batch_size / MESSAGES_A_BATCH;
	bool		joins = !alone && sender->batch_len + bytes <= sender->batch_size;
	char	   *place;

	if (sender->handle == NULL || sender->gone)
		return QUEUE_GONE;
	if (!has_room(sender, joins ? RING_BYTES(sender->batch_len + bytes) :
				  RING_BYTES(sender->batch_len) + RING_BYTES(bytes)))
		return QUEUE_FULL;

	if (!joins && !hand_over_batch(sender, false, lost))
		return QUEUE_GONE;
	if (alone)
		return hand_over_message(sender, out) ? QUEUE_SENT : QUEUE_GONE;

	place = sender->batch + sender->batch_len;
	memcpy(place, out->head.bytes, out->head_size);
	memcpy(place + out->head_size, out->tx_class.data, out->tx_class.len);
	sender->batch_len += bytes;
	sender->batch_count++;
	return QUEUE_SENT;
}

void
queue_flush(QueueSender *sender, uint32 *lost)
{
	if (sender->handle == NULL || sender->gone)
		return;
	if (sender->batch_len > 0)
		(void) hand_over_batch(sender, true, lost);
	else if (sender->unseen > 0)
		(void) hand_over(sender, &(shm_mq_iovec){"", 0}, 1, 0, true);
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
	Size		len;
	void	   *data;
	shm_mq_result result;

	*detached = false;
	do
	{
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
	} while (len == 0);
	reader->next = data;
	reader->end = reader->next + MAXALIGN(len);
	return queue_next_of_batch(reader);
}
