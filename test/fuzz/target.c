/*
 * target.c
 *	  A fuzzer for libFuzzer: CHECK is the function, ENTRIES is defined if its
 *	  input is an entry.
 */
#include <stdio.h>
#include <stdlib.h>

#include "fuzz.h"

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	const char *wrong = CHECK(data, len);

	if (wrong != NULL)
	{
		fprintf(stderr, "found: %s\n", wrong);
		abort();
	}
	return 0;
}

#ifdef ENTRIES
extern size_t LLVMFuzzerMutate(uint8_t *data, size_t len, size_t most);
extern size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t len, size_t most,
									  unsigned seed);

size_t
LLVMFuzzerCustomMutator(uint8_t *data, size_t len, size_t most, unsigned seed)
{
	size_t		changed = 0;

	if (seed % 4 != 0)
		changed = entry_mutate(data, len, most, seed / 4);
	return changed > 0 ? changed : LLVMFuzzerMutate(data, len, most);
}
#endif
