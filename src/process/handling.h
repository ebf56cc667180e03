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
 * depend on, may have changed.  Outside of transactions.  True: it has looked, and what
 * came meanwhile is to be served, since waiting for a lock may have taken the latch's
 * news.
 */
extern bool handling_look(DatabaseSlot *slot);

#endif							/* CALVIN_PROCESS_HANDLING_H */
