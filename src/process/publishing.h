/*
 * publishing.h
 *	  Which handlers there are in a database, for who starts their workers.
 */
#ifndef CALVIN_PROCESS_PUBLISHING_H
#define CALVIN_PROCESS_PUBLISHING_H

#include "compat.h"

#include "shared/shmem.h"

/*
 * The sequencer, between two transactions: look if it is told to, or has not yet.
 * True: it has looked, and what came meanwhile is to be served, since waiting for a lock
 * may have taken the latch's news.  Else *wait_ms is when it is to be called again, -1:
 * when it is woken.
 */
extern bool publishing_serve(DatabaseSlot *slot, long *wait_ms);

#endif							/* CALVIN_PROCESS_PUBLISHING_H */
