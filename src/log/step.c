/*
 * step.c
 *	  From a row of the log to the state machine's input.
 */
#include "compat.h"

#include "log/step.h"
#include "miscadmin.h"
#include "port/pg_crc32c.h"

/* Bytes that are added up between two looks for interrupts. */
#define SUMMED_BYTES ((uint32) 1024 * 1024)

uint64
step_entry_check(const LogRow *row)
{
	pg_crc32c	crc;

	INIT_CRC32C(crc);
	for (uint32 done = 0; done < row->entry_len; done += SUMMED_BYTES)
	{
		CHECK_FOR_INTERRUPTS();
		COMP_CRC32C(crc, row->entry + done, Min(row->entry_len - done, SUMMED_BYTES));
	}
	FIN_CRC32C(crc);
	return (uint64) row->entry_len << 32 | crc;
}

bool
log_has_entry(const LogAccess *access, uint64 log_index, uint64 check)
{
	LogReader	reader;
	LogRow		row;
	bool		found;

	log_reader_begin_by_index(&reader, access, (int64) log_index,
							  (int64) log_index);
	found = log_reader_next(&reader, &row) && step_entry_check(&row) == check;
	log_reader_end(&reader);
	return found;
}

void
step_input(const LogRow *row, WireDecoder *decoder, MachineInput *input)
{
	input->log_index = row->log_index;
	input->length = row->entry_len;
	input->crc32c = (uint32) step_entry_check(row);
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
