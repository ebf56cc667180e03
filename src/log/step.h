/*
 * step.h
 *	  From a row of the log to the state machine's input.
 */
#ifndef CALVIN_LOG_STEP_H
#define CALVIN_LOG_STEP_H

#include "compat.h"

#include "log/reader.h"
#include "machine/machine.h"
#include "wire/wire.h"

/* Is the row at a log_index there, and its entry the one of that check? */
extern bool log_has_entry(const LogAccess *access, uint64 log_index,
						  uint64 check);

/* Length << 32 | CRC-32C of a row's entry. */
extern uint64 step_entry_check(const LogRow *row);

/*
 * Decode a row's entry and say what it is to the state machine.  The decoder
 * is then on the entry, or has its error.
 */
extern void step_input(const LogRow *row, WireDecoder *decoder,
					   MachineInput *input);

#endif							/* CALVIN_LOG_STEP_H */
