/*
 * errand.h
 *	  A connection to a source for one question, beside the one that the log comes by.
 *
 *	   begun --> settling --> (errand_ask) asking --> answered, and closed
 */
#ifndef CALVIN_PROCESS_ERRAND_H
#define CALVIN_PROCESS_ERRAND_H

#include "compat.h"

#include "machine/machine.h"
#include "process/source.h"

typedef enum ErrandPhase
{
	ERRAND_NONE,
	ERRAND_CONNECTING,
	ERRAND_SETTLING,
	ERRAND_ASKING
} ErrandPhase;

/* All zeros: none is under way. */
typedef struct Errand
{
	Source		source;
	ErrandPhase phase;
	bool		ready; /* the socket is, for who connects */
} Errand;

typedef enum ErrandNext
{
	ERRAND_WAITS,
	ERRAND_AGAIN,	 /* there is more to do at once */
	ERRAND_ARRIVED,	 /* to be asked something, by errand_ask() */
	ERRAND_ANSWERED, /* with rows, the caller's to clear; it is over */
	ERRAND_FAILED	 /* it is over */
} ErrandNext;

/* Its source has begun to connect, or not: source_start() says. */
extern void errand_begin(Errand *errand);

/*
 * Do what can be done now.  The text, palloc'd, is the extension's schema there, quoted, for
 * who has arrived, and why, for who has failed.
 */
extern ErrandNext errand_some(Errand *errand, PGresult **answer, char **text,
							  SourceWait *wait);

/*
 * Ask for something, in terms of SQL: there is no row unless the log there has the same
 * digest as the one here, of which "here" is the state.
 */
extern void errand_ask(Errand *errand, const char *schema, const char *what,
					   const MachineState *here);

/* What was waited for has come. */
extern void errand_ready(Errand *errand, int events);

extern void errand_end(Errand *errand);

#endif							/* CALVIN_PROCESS_ERRAND_H */
