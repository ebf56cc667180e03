/*
 * fuzz.h
 *	  What is fuzzed: functions that tell of any bytes whether all is well.
 *
 * They are called by libFuzzer (target.c), and without it by the unit tests
 * and by drive.c.
 */
#ifndef CALVIN_FUZZ_H
#define CALVIN_FUZZ_H

#include <stddef.h>
#include <stdint.h>

/* NULL, or what is wrong. */
typedef const char *(*FuzzCheck) (const uint8_t *data, size_t len);

/* The bytes are an entry: src/wire against the model of model.h. */
extern const char *codec_check(const uint8_t *data, size_t len);

/* The bytes are a program that makes a log: src/machine against a model of its own. */
extern const char *machine_check(const uint8_t *data, size_t len);

/*
 * Change an entry so that it mostly stays MessagePack: numbers, forms and
 * elements rather than bytes.  Returns the new length, or 0 if there is
 * nothing to begin with or no room.
 */
extern size_t entry_mutate(uint8_t *data, size_t len, size_t most,
						   uint64_t seed);

#endif							/* CALVIN_FUZZ_H */
