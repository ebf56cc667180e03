/*
 * retention.h
 *	  Removing what is older than calvin_seq.retention, and needed by nobody.
 */
#ifndef CALVIN_PROCESS_RETENTION_H
#define CALVIN_PROCESS_RETENTION_H

#include "compat.h"

#include "shared/shmem.h"

/*
 * A step of it if it is due, in a transaction of its own; true if there was one.
 * *wait_ms is then, or else, when the next one is due, -1: never.  "busy": who calls has
 * other things to do as well.
 */
extern bool retention_serve(DatabaseSlot *slot, bool busy, long *wait_ms);

#endif							/* CALVIN_PROCESS_RETENTION_H */
