/*
 * yield.h
 *	  Interrupting the loops over what an entry may have millions of.
 *
 * An entry of 256 MB takes seconds to read, to sort and to write anew.  So each
 * of the loops that can be long calls whoever has asked for it: often enough
 * that no more than some milliseconds pass, seldom enough to cost nothing.
 */
#ifndef CALVIN_WIRE_YIELD_H
#define CALVIN_WIRE_YIELD_H

#include <stddef.h>
#include <stdint.h>

/* Between two calls: bytes read or written, steps of a sort. */
#define WIRE_YIELD_BYTES ((size_t) 128 * 1024)
#define WIRE_YIELD_STEPS 64

/* The same where bytes are only copied, or added up. */
#define WIRE_YIELD_COPIED ((size_t) 1024 * 1024)

/*
 * NULL, or called in the middle of everything; set once, before any other call.
 * It may return, or never (longjmp).  Decoders and buffers then hold nothing of
 * use, and can be used again; sets are left to the memory they came from, see
 * WireBuffer.
 */
extern void (*wire_yield) (void);

static inline void
wire_yield_now(void)
{
	if (wire_yield != NULL)
		wire_yield();
}

/* In a loop that counts down: now and then, never for small counts. */
static inline void
wire_yield_at(uint32_t left)
{
	if (left % WIRE_YIELD_BYTES == 0)
		wire_yield_now();
}

#endif							/* CALVIN_WIRE_YIELD_H */
