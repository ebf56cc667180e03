/*
 * queue.h
 *	  One subscription's queue: messages, and a shm_mq used without waiting.
 *
 * shm_mq has no call that asks for free space, and a message once begun has
 * to be finished.  So the sender keeps count of the bytes it wrote and of the
 * bytes the reader reported as free again (QueueControl.read), and only
 * starts what fits for sure.  What the reader reports is a lower bound of
 * what shm_mq knows, see queue_receive().
 */
#ifndef CALVIN_SHARED_QUEUE_H
#define CALVIN_SHARED_QUEUE_H

#include "compat.h"

#include "shared/shmem.h"
#include "storage/shm_mq.h"
#include "wire/wire.h"

/* Smallest and largest ring that may be asked for, in bytes. */
#define QUEUE_MIN_RING (8 * 1024)
#define QUEUE_MAX_RING (1024 * 1024 * 1024)

/* Defines calvin_seq.queue_size; called once by _PG_init(). */
extern void queue_init(void);

/* The ring that the setting says, in bytes. */
extern Size queue_default_ring(void);

/* A ring of so many bytes, or an error if there can be none. */
extern Size queue_check_ring(int64 size);

/*
 * A message.  Behind the vshards stands padding, then tx_class as a varlena
 * that starts so that its content is MAXALIGNed: a reader can use it as a
 * bytea where it lies.  What shm_mq is given is a batch of messages, each
 * MAXALIGNed, one after the other: its barriers, and the look at the other
 * side's counters, cost more than a message of usual size.
 *
 * "previous" is the key that was meant for the subscription before this one,
 * whether it fitted or not: a consumer that has not seen it has a hole.
 */
typedef struct QueueMessage
{
	uint64		epoch;
	int64		epoch_system_ms;
	uint64		tenant_id;
	uint64		previous_epoch; /* MACHINE_NO_EPOCH: none */
	uint32		position;
	uint32		previous_position;
	uint32		plans_offset; /* in the content of tx_class */
	uint32		plans_len;
	uint16		flags; /* 0 */
	uint16		vshard_count;
	uint16		vshards[FLEXIBLE_ARRAY_MEMBER];
} QueueMessage;

StaticAssertDecl(offsetof(QueueMessage, vshards) == 52,
				 "layout shared by processes");

/* Bytes of the part before tx_class's content. */
#define QUEUE_HEAD_SIZE(vshard_count)                                  \
	MAXALIGN(offsetof(QueueMessage, vshards) +                         \
			 (vshard_count) * sizeof(uint16) + VARHDRSZ)
#define QUEUE_MAX_HEAD QUEUE_HEAD_SIZE(WIRE_VSHARDS)

/* Bytes of a message in a batch. */
#define QUEUE_MESSAGE_BYTES(head_size, tx_class_len) \
	((head_size) + MAXALIGN(tx_class_len))

/* tx_class where it lies, as a varlena with a 4-byte header */
static inline struct varlena *
queue_message_tx_class(const QueueMessage *message)
{
	return (struct varlena *) ((char *) message +
							   QUEUE_HEAD_SIZE(message->vshard_count) -
							   VARHDRSZ);
}

/* A transaction made ready to be sent to each of its vshards. */
typedef struct QueueOutgoing
{
	Size		head_size;
	WireSlice	tx_class;
	union
	{
		QueueMessage message;
		char		bytes[QUEUE_MAX_HEAD];
		uint64		align;
	}			head;
} QueueOutgoing;

extern void queue_prepare(QueueOutgoing *out, uint64 epoch,
						  int64 epoch_system_ms, const WireTxn *txn,
						  WireSlice tx_class, uint32 plans_offset);

typedef enum QueueResult
{
	QUEUE_SENT,
	QUEUE_FULL, /* or larger than the ring will ever take */
	QUEUE_GONE	/* the consumer has left */
} QueueResult;

/* What stands before the shm_mq in the subscriber's segment. */
typedef struct QueueControl
{
	pg_atomic_uint64 read; /* bytes of the ring surely free again; the reader */
} QueueControl;

typedef struct QueueSender
{
	shm_mq_handle *handle;
	QueueControl *control;
	uint64		written; /* bytes of the ring used since its creation */
	uint64		read;	 /* bytes of these known to be free again */
	Size		ring_size;
	char	   *batch;	 /* messages that shm_mq has not been given yet */
	uint32		batch_size;
	uint32		batch_len; /* bytes of them */
	uint32		batch_count;
	Size		unseen;	 /* bytes that shm_mq may not have shown the reader */
	Size		show_after; /* so many are shown, and the reader woken */
	bool		gone;	 /* the consumer has left */
} QueueSender;

/* DSM space of a queue and its QueueControl. */
extern Size queue_size(Size ring_size);

/*
 * The reader makes the queue at an address inside a segment and attaches to
 * it, the sender attaches to what it finds there; handles are allocated in
 * the current memory context.  queue_attach() is false if the queue has had
 * a sender already, or its reader has left.
 */
struct QueueReader;
extern void queue_create(struct QueueReader *reader, dsm_segment *segment,
						 void *address, Size ring_size);
extern bool queue_attach(QueueSender *sender, dsm_segment *segment,
						 void *address, Size ring_size);

/*
 * The consumer shall see what was sent at the latest after so many bytes of
 * it, without a flush.  shm_mq shows a quarter of a ring in any case.
 */
extern void queue_show_after(QueueSender *sender, Size bytes);

/*
 * out->head.message.previous_* are the caller's to fill in.  If the consumer
 * is found to have left, *lost messages that had been sent are lost; otherwise
 * it is left alone.
 */
extern QueueResult queue_send(QueueSender *sender, const QueueOutgoing *out,
							  uint32 *lost);

/* Make everything sent visible and wake the consumer.  Never fails. */
extern void queue_flush(QueueSender *sender, uint32 *lost);

/* Free what queue_attach() allocated, but for the handle. */
extern void queue_free_sender(QueueSender *sender);

typedef struct QueueReader
{
	shm_mq_handle *handle;
	QueueControl *control;
	Size		ring_size;
	uint64		total;	  /* bytes of the ring of batches received so far */
	uint64		reported; /* what control->read says */
	const char *next;	  /* message of the last batch; "end" if none is left */
	const char *end;
} QueueReader;

/* The next message of the last batch received, or NULL. */
static inline const QueueMessage *
queue_next_of_batch(QueueReader *reader)
{
	const QueueMessage *message = (const QueueMessage *) reader->next;

	if (reader->next == reader->end)
		return NULL;
	reader->next += QUEUE_MESSAGE_BYTES(QUEUE_HEAD_SIZE(message->vshard_count),
										VARSIZE(queue_message_tx_class(message)) - VARHDRSZ);
	return message;
}

/*
 * When queue_next_of_batch() has no more: the first message of the next batch,
 * or NULL if there is none now (*detached tells whether the applier has left,
 * so that there will never be one).  Messages are valid until the next call of
 * either.
 */
extern const QueueMessage *queue_receive(QueueReader *reader, bool *detached);

#endif							/* CALVIN_SHARED_QUEUE_H */
