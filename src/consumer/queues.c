/*
 * queues.c
 *	  The DSM segments and queues of this session.
 *
 * Every call that subscribes makes one segment with a queue for each vshard; the
 * segment goes when the last of its queues does.  Queues whose applier has ended
 * are replaced by new ones, all at once, and the next applier finds those.
 */
#include "compat.h"

#include "consumer/queues.h"
#include "miscadmin.h"
#include "utils/memutils.h"

void
queues_free(Segment *segment)
{
	dsm_detach(segment->segment);
	MemoryContextDelete(segment->context);
	pfree(segment);
}

void
queues_drop(Stream *stream)
{
	if (--stream->segment->streams == 0)
		queues_free(stream->segment);
	else
		shm_mq_detach(stream->reader.handle);
}

Segment *
queues_make(int n, const Size *ring_sizes, QueueReader *readers, Size *offsets,
			SubscriptionQueues *queues)
{
	Segment    *segment;
	dsm_segment *dsm;
	Size		size = 0;
	MemoryContext old;

	for (int i = 0; i < n; i++)
	{
		offsets[i] = size;
		size = add_size(size, CACHELINEALIGN(queue_size(ring_sizes[i])));
	}
	dsm = dsm_create(size, DSM_CREATE_NULL_IF_MAXSEGMENTS);
	if (dsm == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("too many dynamic shared memory segments"),
				 errdetail("A subscription needs one for its queues."),
				 errhint("Subscribe to several vshards in one call, or raise max_connections, which sets the limit.")));

	segment = MemoryContextAllocZero(TopMemoryContext, sizeof(Segment));
	segment->segment = dsm;
	segment->context = AllocSetContextCreate(TopMemoryContext,
											 "calvin_seq queues",
											 ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(segment->context);
	for (int i = 0; i < n; i++)
		queue_create(&readers[i], dsm,
					 (char *) dsm_segment_address(dsm) + offsets[i],
					 ring_sizes[i]);
	MemoryContextSwitchTo(old);
	queues->segment = dsm_segment_handle(dsm);
	queues->offsets = offsets;
	queues->ring_sizes = ring_sizes;
	return segment;
}

void
queues_pin(Segment *segment)
{
	dsm_pin_mapping(segment->segment);
}

void
queues_reconnect(struct Consumer *consumer)
{
	int			n = 0;
	int			total = consumer->nstreams;
	Stream	  **streams = palloc(sizeof(Stream *) * total);
	SubscriptionRef *refs = palloc(sizeof(SubscriptionRef) * total);
	QueueReader *readers = palloc(sizeof(QueueReader) * total);
	Size	   *ring_sizes = palloc(sizeof(Size) * total);
	Size	   *offsets = palloc(sizeof(Size) * total);
	SubscriptionQueues queues;
	Segment    *segment;

	for (int i = 0; i < total; i++)
	{
		Stream	   *stream = &consumer->streams[i];

		if (!stream->detached)
			continue;
		streams[n] = stream;
		refs[n] = stream->ref;
		ring_sizes[n++] = stream->reader.ring_size;
	}
	segment = queues_make(n, ring_sizes, readers, offsets, &queues);
	queues_pin(segment);
	segment->streams = n;
	for (int i = 0; i < n; i++)
	{
		queues_drop(streams[i]);
		streams[i]->segment = segment;
		streams[i]->reader = readers[i];
		streams[i]->detached = false;
		streams[i]->moved = true;
	}
	subscription_requeue(n, refs, &queues);
	pfree(streams);
	pfree(refs);
	pfree(readers);
	pfree(ring_sizes);
	pfree(offsets);
}
