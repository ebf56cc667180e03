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
 * Returns in how many ms it is to be called again, -1: when it is woken.
 */
extern long publishing_serve(DatabaseSlot *slot);

#endif							/* CALVIN_PROCESS_PUBLISHING_H */
