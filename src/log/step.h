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

/*
 * Decode a row's entry and say what it is to the state machine.  The decoder
 * is then on the entry, or has its error.
 */
extern void step_input(const LogRow *row, WireDecoder *decoder,
					   MachineInput *input);

#endif							/* CALVIN_LOG_STEP_H */
