/*
 * inbox.h
 *	  Where submissions wait: rows of the inbox's partitions.
 *
 * A transaction's submissions are one packet: records one after the other.  A
 * small one is a row, a large one a row with the places of chunks, all of them
 * in one partition.  What was put into the log stays, and goes with the whole
 * partition: see rotation.c.
 *
 *	kind		stamp				link					data
 *	packet		its order			how many submissions	records
 *	directory	its order			place of an extension	how many, their bytes,
 *															places of chunks
 *	extension	0					the one before it		places of chunks
 *	chunk		0					-						records, continued
 *	taken		what is below was	-						-
 *				taken, and of that
 *				itself so many: link
 *	header		how often that was	the transaction that	spans of what was
 *				done				emptied the partition	removed: see rotation.c
 *
 * The partitions are materialized views that are never populated.  That is a heap
 * as any other to this code, and nobody else can read, write, rewrite or publish it.
 * Above all pg_dump cannot lock it: of an extension it locks every table for as
 * long as it runs, so that none could be emptied for hours.  It gets what waits
 * through the table seq_inbox.
 */
#ifndef CALVIN_LOG_INBOX_H
#define CALVIN_LOG_INBOX_H

#include "compat.h"

#include "access/htup_details.h"
#include "log/table.h"
#include "nodes/primnodes.h"
#include "storage/buf.h"
#include "utils/snapshot.h"

#define INBOX_PARTITIONS 8

#define INBOX_KIND_PACKET 'p'
#define INBOX_KIND_DIRECTORY 'd'
#define INBOX_KIND_EXTENSION 'e'
#define INBOX_KIND_CHUNK 'c'
#define INBOX_KIND_TAKEN 't'
#define INBOX_KIND_HEADER 'h'

/* Bytes of data that a row takes, so that one fits on a page. */
#define INBOX_ROW_BYTES 8000

/* Bytes of a directory's data before the places: how many submissions, and theirs. */
#define INBOX_DIRECTORY_HEAD 16

/* A row's place: its partition, block and line pointer.  0 is none. */
typedef uint64 InboxPlace;

#define INBOX_NOWHERE ((InboxPlace) 0)

static inline uint32
inbox_place_partition(InboxPlace place)
{
	return (uint32) (place >> 48) - 1;
}

/* A row, as it lies on its page: valid while the page is pinned. */
typedef struct InboxRow
{
	char		kind;
	uint64		stamp;
	int64		at; /* a TimestampTz: when it was written */
	uint64		link;
	const char *data;
	uint32		len;
	InboxPlace	place;
	HeapTupleData tuple;
	Buffer		pin;
} InboxRow;

/*
 * Open a partition, with a lock that lasts as long as the transaction if it is
 * one to write with.  An error if the extension is gone, or is another one than
 * "extension", unless that is InvalidOid.
 */
extern Relation inbox_open(uint32 partition, Oid extension, LOCKMODE mode);

/* All of them, to be read. */
extern void inbox_open_all(Relation *partitions);
extern void inbox_close_all(Relation *partitions);

/*
 * What is committed now, or what the running statement sees; to be given back with
 * UnregisterSnapshot().  Nobody but the sequencer gives a partition other storage, so
 * it does not matter to him which is first, the snapshot or the partition; a dump
 * has all of them open first.
 */
extern Snapshot inbox_latest_snapshot(void);
extern Snapshot inbox_statement_snapshot(void);

/*
 * An error if a REFRESH is about to put a row of its query in the place of all that
 * waits in a partition.
 */
extern void inbox_check_refresh(const RangeVar *view);

/* To empty it; NULL if others are in the way. */
extern Relation inbox_try_open_alone(uint32 partition);

/* Insert a row into a partition that is open; returns its place. */
extern InboxPlace inbox_insert(Relation rel, uint32 partition, char kind,
							   uint64 stamp, int64 at, uint64 link,
							   const void *data, uint32 len, int options);

/*
 * The row at a place, if the snapshot sees it and it lies within the first nblocks
 * blocks.  Pins its page, to be released with inbox_release().
 */
extern bool inbox_fetch(Relation rel, uint32 partition, BlockNumber nblocks,
						InboxPlace place, Snapshot snapshot, InboxRow *row);
extern void inbox_release(InboxRow *row);

/*
 * Go through all rows of a partition that a snapshot sees.  The row is the caller's
 * for the call; false ends it.
 */
typedef bool (*InboxVisit) (void *context, const InboxRow *row);
extern void inbox_scan(Relation rel, uint32 partition, Snapshot snapshot,
					   InboxVisit visit, void *context);

/* Is it the last row of a packet, by which the packet is known? */
static inline bool
inbox_is_packet(const InboxRow *row)
{
	return row->kind == INBOX_KIND_PACKET || row->kind == INBOX_KIND_DIRECTORY;
}

#endif							/* CALVIN_LOG_INBOX_H */
