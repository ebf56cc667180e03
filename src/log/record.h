/*
 * record.h
 *	  One submission within a packet: a head, and its TxClass after it.
 *
 * Packets lie in tables from one version of the server to the next, but not from one
 * machine to another: the byte order is the machine's.
 */
#ifndef CALVIN_LOG_RECORD_H
#define CALVIN_LOG_RECORD_H

#include "compat.h"

#define RECORD_COUNTED 1 /* reserved for its tenant: shared/admission.h */

typedef struct RecordHead
{
	uint64		number; /* of the submission */
	uint32		size;	/* bytes of TxClass */
	uint32		plans;	/* of those, bytes of plans */
	uint32		flags;
	uint32		unused; /* 0 */
} RecordHead;

#endif							/* CALVIN_LOG_RECORD_H */
