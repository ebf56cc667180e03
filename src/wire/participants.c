/*
 * participants.c
 *	  Transactions with many participants.
 */
#include "wire/participants.h"

#include <string.h>

/* From the list to the bitmap. */
void
wire_participants_spread(WireParticipants *participants)
{
	memset(participants->set, 0, sizeof(participants->set));
	for (uint32_t i = 0; i < participants->count; i++)
	{
		uint32_t	vshard = participants->list[i];

		participants->set[vshard / 64] |= UINT64_C(1) << (vshard % 64);
	}
	participants->many = true;
}

/* From the bitmap to the list. */
void
wire_participants_gather(WireParticipants *participants)
{
	uint32_t	count = 0;

	for (uint32_t i = 0; i < WIRE_VSHARD_WORDS; i++)
	{
		for (uint64_t word = participants->set[i]; word != 0; word &= word - 1)
			participants->list[count++] =
				(uint16_t) (i * 64 + (uint32_t) __builtin_ctzll(word));
	}
	participants->count = count;
	participants->many = false;
}
