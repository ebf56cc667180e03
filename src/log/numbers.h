/*
 * numbers.h
 *	  Submission numbers: reserved in blocks by the sequence seq_submission_numbers.
 */
#ifndef CALVIN_LOG_NUMBERS_H
#define CALVIN_LOG_NUMBERS_H

#include "compat.h"

#include "shared/shmem.h"

/* Reserve another block for a database's sessions, unless somebody just has. */
extern void numbers_reserve(DatabaseSlot *slot);

#endif							/* CALVIN_LOG_NUMBERS_H */
