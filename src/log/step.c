/*
 * step.c
 *	  From a row of the log to the state machine's input.
 */
#include "compat.h"

#include "log/step.h"
#include "port/pg_crc32c.h"

void
step_input(const LogRow *row, WireDecoder *decoder, MachineInput *input)
{
	pg_crc32c	crc;

	INIT_CRC32C(crc);
	COMP_CRC32C(crc, row->entry, row->entry_len);
	FIN_CRC32C(crc);

	input->log_index = row->log_index;
	input->length = row->entry_len;
	input->crc32c = crc;
	input->epoch = 0;
	if (!wire_decode(decoder, row->entry, row->entry_len))
		input->kind = MACHINE_IN_UNDECODABLE;
	else if (decoder->entry.kind == WIRE_EPOCH_BATCH)
	{
		input->kind = MACHINE_IN_BATCH;
		input->epoch = decoder->entry.epoch;
	}
	else if (decoder->entry.kind == WIRE_COMPLETION_ACK)
		input->kind = MACHINE_IN_ACK;
	else
		input->kind = MACHINE_IN_NOOP;
}
