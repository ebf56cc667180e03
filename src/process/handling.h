/*
 * handling.h
 *	  Which workers for handlers are to run in this database.
 */
#ifndef CALVIN_PROCESS_HANDLING_H
#define CALVIN_PROCESS_HANDLING_H

#include "compat.h"

#include "shared/shmem.h"

/*
 * The sequencer: look at the definitions when it begins, and when they, or what they
 * depend on, may have changed.  Outside of transactions.
 */
extern void handling_look(DatabaseSlot *slot);

#endif							/* CALVIN_PROCESS_HANDLING_H */
