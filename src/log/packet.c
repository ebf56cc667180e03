/*
 * packet.c
 *	  Reading the submissions of one transaction, one after the other.
 */
#include "compat.h"

#include "log/packet.h"
#include "miscadmin.h"
#include "utils/rel.h"

static void
report_damaged(const InboxReader *reader, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("a packet in %s cannot be read",
					RelationGetRelationName(reader->rel)),
			 errdetail_internal("%s", detail),
			 errhint("Nothing was taken of it; look for what has damaged the table.")));
}

/* Of a directory: its figures, and then its chunks. */
typedef struct DirectoryHead
{
	uint64		rows;
	uint64		bytes;
} DirectoryHead;

StaticAssertDecl(sizeof(DirectoryHead) == INBOX_DIRECTORY_HEAD,
				 "as it is written");

void
packet_figures(const InboxRow *row, uint64 *rows, uint64 *bytes)
{
	DirectoryHead head;

	if (row->kind == INBOX_KIND_PACKET)
	{
		*rows = row->link;
		*bytes = row->len - row->link * sizeof(RecordHead);
		return;
	}
	memcpy(&head, row->data, sizeof(head));
	*rows = head.rows;
	*bytes = head.bytes;
}

/* The places that a row holds, behind its first bytes. */
static InboxPlace *
copy_places(const InboxRow *row, uint32 from, int *n)
{
	InboxPlace *places = palloc(INBOX_ROW_BYTES);

	*n = (int) ((row->len - from) / sizeof(InboxPlace));
	memcpy(places, row->data + from, *n * sizeof(InboxPlace));
	return places;
}

/* Extensions lead from the last to the first. */
static void
read_directory(Packet *packet, const InboxRow *last)
{
	List	   *lists = NIL;
	List	   *counts = NIL;
	InboxPlace	place = last->link;
	ListCell   *list;
	ListCell   *count;
	int			n;
	int			total;

	lists = list_make1(copy_places(last, INBOX_DIRECTORY_HEAD, &n));
	counts = list_make1_int(n);
	total = n;
	while (place != INBOX_NOWHERE)
	{
		InboxRow	row;

		CHECK_FOR_INTERRUPTS();
		if (!inbox_fetch(packet->reader->rel, packet->reader->partition,
						 packet->reader->nblocks, place,
						 packet->reader->snapshot, &row) ||
			row.kind != INBOX_KIND_EXTENSION)
			report_damaged(packet->reader, "A part of its directory is missing.");
		lists = lcons(copy_places(&row, 0, &n), lists);
		counts = lcons_int(n, counts);
		total += n;
		place = row.link;
		inbox_release(&row);
	}

	packet->chunks = MemoryContextAllocHuge(CurrentMemoryContext,
											Max(total, 1) * sizeof(InboxPlace));
	forboth(list, lists, count, counts)
	{
		memcpy(packet->chunks + packet->nchunks, lfirst(list),
			   lfirst_int(count) * sizeof(InboxPlace));
		packet->nchunks += lfirst_int(count);
	}
	list_free_deep(lists);
	list_free(counts);
}

void
packet_open(Packet *packet, const InboxReader *reader, const InboxRow *row)
{
	memset(packet, 0, sizeof(*packet));
	packet->reader = reader;
	packet->stamp = row->stamp;
	packet->at = row->at;
	packet_figures(row, &packet->rows, &packet->bytes);
	packet->row = *row;
	packet->pinned = true;
	if (row->kind == INBOX_KIND_DIRECTORY)
	{
		read_directory(packet, row);
		return;
	}
	packet->data = row->data;
	packet->left = row->len;
}

/* Go on with the next chunk; false if there is none. */
static bool
next_row(Packet *packet)
{
	const InboxReader *reader = packet->reader;

	if (packet->next_chunk >= packet->nchunks)
		return false;
	CHECK_FOR_INTERRUPTS();
	if (packet->pinned)
		inbox_release(&packet->row);
	packet->pinned = false;
	if (!inbox_fetch(reader->rel, reader->partition, reader->nblocks,
					 packet->chunks[packet->next_chunk++], reader->snapshot,
					 &packet->row))
		report_damaged(reader, "A chunk of it is missing.");
	packet->pinned = true;
	if (packet->row.kind != INBOX_KIND_CHUNK)
		report_damaged(reader, "Something else is where a chunk of it was.");
	packet->data = packet->row.data;
	packet->left = packet->row.len;
	return true;
}

/* The next bytes, or just pass over them. */
static void
take(Packet *packet, char *into, uint32 len)
{
	while (len > 0)
	{
		uint32		part = Min(len, packet->left);

		if (part == 0)
		{
			if (!next_row(packet))
				report_damaged(packet->reader, "It ends too early.");
			continue;
		}
		if (into != NULL)
		{
			memcpy(into, packet->data, part);
			into += part;
		}
		packet->data += part;
		packet->left -= part;
		len -= part;
	}
}

bool
packet_next(Packet *packet, RecordHead *head)
{
	take(packet, NULL, packet->unread);
	packet->unread = 0;
	while (packet->left == 0)
		if (!next_row(packet))
			return false;
	take(packet, (char *) head, sizeof(*head));
	packet->unread = head->size;
	return true;
}

void
packet_read(Packet *packet, void *into, uint32 len)
{
	Assert(len <= packet->unread);
	take(packet, into, len);
	packet->unread -= len;
}

void
packet_mark(Packet *packet, PacketMark *mark)
{
	take(packet, NULL, packet->unread);
	packet->unread = 0;
	mark->next_chunk = packet->next_chunk;
	mark->left = packet->left;
}

void
packet_go_to(Packet *packet, const PacketMark *mark)
{
	if (mark->next_chunk > 0)
	{
		packet->next_chunk = mark->next_chunk - 1;
		(void) next_row(packet);
	}
	if (mark->left > packet->left)
		report_damaged(packet->reader, "A chunk of it has become shorter.");
	packet->data += packet->left - mark->left;
	packet->left = mark->left;
	packet->unread = 0;
}

void
packet_close(Packet *packet)
{
	if (packet->pinned)
		inbox_release(&packet->row);
	packet->pinned = false;
	if (packet->chunks != NULL)
		pfree(packet->chunks);
	packet->chunks = NULL;
}
