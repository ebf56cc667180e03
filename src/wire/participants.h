/*
 * participants.h
 *	  The vshards of one transaction, collected ascending without repeats.
 *
 * Nearly every transaction has a handful, so they are kept sorted by
 * insertion where they are wanted; only beyond that a bitmap is set up.
 */
#ifndef CALVIN_WIRE_PARTICIPANTS_H
#define CALVIN_WIRE_PARTICIPANTS_H

#include "wire/wire.h"

#define WIRE_FEW_VSHARDS 24
#define WIRE_VSHARD_WORDS (WIRE_VSHARDS / 64)

typedef struct WireParticipants
{
	uint16_t   *list; /* room for WIRE_VSHARDS */
	uint32_t	count;
	bool		many; /* "set" holds them, the list is stale */
	uint64_t	set[WIRE_VSHARD_WORDS];
} WireParticipants;

static inline void
wire_participants_begin(WireParticipants *participants, uint16_t *list)
{
	participants->list = list;
	participants->count = 0;
	participants->many = false;
}

/* Not inline: out of the way of the common case. */
extern void wire_participants_spread(WireParticipants *participants);
extern void wire_participants_gather(WireParticipants *participants);

static inline void
wire_participants_add(WireParticipants *participants, uint32_t vshard)
{
	uint16_t   *list = participants->list;
	uint32_t	i = participants->count;

	if (participants->many)
	{
		participants->set[vshard / 64] |= UINT64_C(1) << (vshard % 64);
		return;
	}

	while (i > 0 && list[i - 1] > vshard)
		i--;
	if (i > 0 && list[i - 1] == vshard)
		return;
	for (uint32_t j = participants->count; j > i; j--)
		list[j] = list[j - 1];
	list[i] = (uint16_t) vshard;
	if (++participants->count > WIRE_FEW_VSHARDS)
		wire_participants_spread(participants);
}

/* The list is complete: returns how many there are. */
static inline uint32_t
wire_participants_end(WireParticipants *participants)
{
	if (participants->many)
		wire_participants_gather(participants);
	return participants->count;
}

#endif							/* CALVIN_WIRE_PARTICIPANTS_H */
