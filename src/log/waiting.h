/*
 * waiting.h
 *	  What waits in the inbox, found by looking through it.
 */
#ifndef CALVIN_LOG_WAITING_H
#define CALVIN_LOG_WAITING_H

#include "compat.h"

#include "log/inbox.h"
#include "log/packet.h"

/* How far the inbox was put into the log: all before this. */
typedef struct InboxTaken
{
	uint64		stamp;
	uint64		ordinal; /* of that packet, so many submissions */
} InboxTaken;

static inline bool
taken_precedes(InboxTaken a, InboxTaken b)
{
	return a.stamp < b.stamp || (a.stamp == b.stamp && a.ordinal < b.ordinal);
}

typedef struct WaitingPacket
{
	uint64		stamp;
	InboxPlace	place;
} WaitingPacket;

/* Packets from "from" on, below a limit, in order. */
typedef struct WaitingList
{
	WaitingPacket *packets;
	int			n;
	uint64		end; /* all packets below this stamp are in it */
} WaitingList;

/*
 * Where the tables say that the sequencer is; and the highest stamp in them, 0 for
 * none.
 */
extern void waiting_find_taken(Relation *partitions, Snapshot snapshot,
							   InboxTaken *taken, uint64 *highest);

/* Submissions and their bytes from "from" on, in packets below "below". */
extern void waiting_count(Relation *partitions, Snapshot snapshot,
						  InboxTaken from, uint64 below, uint64 *rows,
						  uint64 *bytes);

/*
 * So many wait now, as the tables say.  The caller holds the append lock, which who
 * takes some of them has until he commits.
 */
extern uint64 waiting_now(void);

/*
 * The packets with stamps from "from" to below "limit"; the first ones, if they
 * are very many.  The list is palloc'd.
 */
extern void waiting_list(Relation *partitions, Snapshot snapshot, uint64 from,
						 uint64 limit, WaitingList *list);

/*
 * Does a partition hold a packet from that stamp on?  If not, *empty: nor any other
 * row but its header; *end: stamps of its packets, and of notes of how far was taken,
 * lie below.
 */
extern bool waiting_in_partition(Relation partition, uint32 number,
								 Snapshot snapshot, uint64 from, bool *empty,
								 uint64 *end);

#endif							/* CALVIN_LOG_WAITING_H */
