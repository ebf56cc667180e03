/*
 * requests.h
 *	  What the launcher is asked to look at, and what its probes find.
 */
#ifndef CALVIN_SHARED_REQUESTS_H
#define CALVIN_SHARED_REQUESTS_H

#include "compat.h"

#include "shared/shmem.h"

/* The launcher shall look at this database (InvalidOid: at all of them). */
extern void requests_post(Oid database);

/*
 * The launcher shall look at this session's database, which it may have missed
 * because it took no connections when it looked.  Without a free slot there is
 * no use in asking.
 */
extern void requests_post_mine(void);

/*
 * The launcher takes what was posted: databases, and *all if all of them are to
 * be looked at.  Returns how many there are, CALVIN_MAX_REQUESTS at most.
 */
extern int	requests_take(Oid *databases, bool *all);

/* The launcher shall look which workers are to be started. */
extern void requests_wake_launcher(void);

/* The launcher, while it lives, is the one to be woken. */
extern void requests_begin_serving(void);
extern void requests_end_serving(void);

/* Before a probe is sent out: the token by which its answer is known. */
extern uint32 requests_begin_probe(void);

/* The probe's answer, and whether there was one that said yes. */
extern void requests_answer_probe(uint32 token, bool found);
extern bool requests_probe_found(uint32 token);

#endif							/* CALVIN_SHARED_REQUESTS_H */
