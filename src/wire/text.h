/*
 * text.h
 *	  One pass over a collection name: its hash, and whether it is ASCII.
 */
#ifndef CALVIN_WIRE_TEXT_H
#define CALVIN_WIRE_TEXT_H

#include "wire/bytes.h"
#include "wire/wire.h"
#include "wire/yield.h"

#define WIRE_NOT_ASCII UINT64_C(0x8080808080808080)

/*
 * The hash h = h * 31 + byte over eight bytes in memory order, from zero.
 * Neighbours are combined lane by lane: 16 bits hold 32 * 255, 32 bits hold
 * 962 times that.  Leading zero bytes leave the hash at zero, which is what
 * lets a shorter text be padded in front.
 */
static inline uint32_t
wire_fold_word(uint64_t word)
{
	const uint64_t bytes = UINT64_C(0x00ff00ff00ff00ff);
	const uint64_t pairs = UINT64_C(0x0000ffff0000ffff);

	word = (word & bytes) * 31 + ((word >> 8) & bytes);
	word = (word & pairs) * (31 * 31) + ((word >> 16) & pairs);
	return (uint32_t) word * UINT32_C(923521) + (uint32_t) (word >> 32);
}

/*
 * Hash of a text.  *not_ascii becomes non-zero if a byte has its high bit
 * set.  Bytes up to "end" may be looked at, so that a short text is one load.
 */
static inline uint32_t
wire_fold_text(const uint8_t *text, size_t len, const uint8_t *end,
			   uint64_t *not_ascii)
{
	const uint32_t step = UINT32_C(923521) * UINT32_C(923521);	/* 31^8 */
	size_t		head = len % 8;
	uint32_t	hash = 0;
	uint64_t	seen = 0;

	if (head > 0)
	{
		uint64_t	word = 0;

		if (end - text >= 8)
			word = wire_load_le64(text) << (64 - 8 * head);
		else
		{
			for (size_t i = 0; i < head; i++)
				word |= (uint64_t) text[i] << (64 - 8 * head + 8 * i);
		}
		hash = wire_fold_word(word);
		seen = word;
		text += head;
	}
	for (size_t i = len / 8; i > 0; i--)
	{
		uint64_t	word = wire_load_le64(text);

		hash = hash * step + wire_fold_word(word);
		seen |= word;
		text += 8;
		/* never for names of usual length */
		if (i % WIRE_YIELD_COPIED == 0)
			wire_yield_now();
	}
	*not_ascii = seen & WIRE_NOT_ASCII;
	return hash;
}

#endif							/* CALVIN_WIRE_TEXT_H */
