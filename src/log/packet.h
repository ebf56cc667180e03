/*
 * packet.h
 *	  Reading the submissions of one transaction, one after the other.
 */
#ifndef CALVIN_LOG_PACKET_H
#define CALVIN_LOG_PACKET_H

#include "compat.h"

#include "log/inbox.h"
#include "log/record.h"

/* A partition that is being read, with what its packets are read by. */
typedef struct InboxReader
{
	Relation	rel; /* NULL: not opened */
	uint32		partition;
	BlockNumber nblocks;
	Snapshot	snapshot;
} InboxReader;

typedef struct Packet
{
	uint64		stamp;
	int64		at;	 /* a TimestampTz */
	uint64		rows;
	uint64		bytes;

	const InboxReader *reader;
	InboxRow	row;	 /* whose data is being read; pinned */
	bool		pinned;
	InboxPlace *chunks;	 /* the rows after it; NULL: there are none */
	int			nchunks;
	int			next_chunk;
	const char *data;	 /* what is left of the row */
	uint32		left;
	uint32		unread;	 /* bytes of the last record's TxClass */
} Packet;

/* What a packet's last row says of it, without opening it. */
extern void packet_figures(const InboxRow *row, uint64 *rows, uint64 *bytes);

/* Read a packet by its last row, which is the packet's from now on. */
extern void packet_open(Packet *packet, const InboxReader *reader,
						const InboxRow *row);

/* The next record; false after the last.  What was not read of the last one is passed over. */
extern bool packet_next(Packet *packet, RecordHead *head);

/* The record's TxClass, or as much of it. */
extern void packet_read(Packet *packet, void *into, uint32 len);

/*
 * Where the next record begins, to go on there with the same packet when it is
 * opened again.
 */
typedef struct PacketMark
{
	int			next_chunk;
	uint32		left;
} PacketMark;

extern void packet_mark(Packet *packet, PacketMark *mark);
extern void packet_go_to(Packet *packet, const PacketMark *mark);

extern void packet_close(Packet *packet);

#endif							/* CALVIN_LOG_PACKET_H */
