/*
 * write_set.h
 *	  The collections that a transaction writes, as its TxClass names them.
 */
#ifndef CALVIN_WIRE_WRITE_SET_H
#define CALVIN_WIRE_WRITE_SET_H

#include "wire/reader.h"

/* A walk over the write set; its reader holds the error if there is one. */
typedef struct WireWriteSet
{
	WireReader	reader;
	uint32_t	left; /* key sets to come */
} WireWriteSet;

/* Of a TxClass that was accepted by the strict reader, if there are to be no errors. */
extern void wire_write_set_begin(WireWriteSet *set, WireSlice tx_class);

/* The collection of the next key set, which may repeat; false at the end or an error. */
extern bool wire_write_set_next(WireWriteSet *set, WireSlice *name);

#endif							/* CALVIN_WIRE_WRITE_SET_H */
