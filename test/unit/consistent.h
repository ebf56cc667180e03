/*
 * consistent.h
 *	  What must be true of the reader and the canonicaliser for any bytes.
 */
#ifndef CALVIN_TEST_CONSISTENT_H
#define CALVIN_TEST_CONSISTENT_H

#include "support.h"

/*
 * "data" should be memory of exactly "len" bytes.  NULL if all is well, else
 * what is not; *accepted is the reader's verdict.
 */
extern const char *consistent(const uint8_t *data, size_t len,
							  bool *accepted);

/* Equal in everything but the length of the bytes they came from. */
extern bool same_entry(const WireEntry *a, const WireEntry *b);

#endif							/* CALVIN_TEST_CONSISTENT_H */
