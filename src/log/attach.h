/*
 * attach.h
 *	  From a session to the shared memory of its database's log.
 */
#ifndef CALVIN_LOG_ATTACH_H
#define CALVIN_LOG_ATTACH_H

#include "compat.h"

#include "shared/shmem.h"

/*
 * The slot that serves the seq_log of this session's database.  Waits a
 * moment if it is about to be there (the extension was created, or created
 * anew, just now).  Raises an error if calvin_seq was not preloaded, all
 * slots are taken, or the wait was in vain.
 */
extern DatabaseSlot *attach_database(void);

#endif							/* CALVIN_LOG_ATTACH_H */
