/*
 * handling.h
 *	  What a handler worker does in its transactions: fetch, call, move the position; or
 *	  take note of what has failed.
 */
#ifndef CALVIN_PROCESS_HANDLING_H
#define CALVIN_PROCESS_HANDLING_H

#include "compat.h"

#include "shared/handler_slot.h"

typedef enum HandlingNext
{
	HANDLING_AGAIN, /* something was done */
	HANDLING_WAIT,	/* there is nothing */
	HANDLING_GONE	/* the worker is not wanted any more, or may not run */
} HandlingNext;

/* This process does a task, outside of any transaction from here on. */
extern void handling_begin(HandlerSlot *slot, const HandlerTask *task);

/* Look, and handle what there is. */
extern HandlingNext handling_round(void);

/*
 * Before the process sleeps it has to be among those that wait; false if it was not, or
 * has been woken in the meantime, so that it is to look once more.
 */
extern bool handling_wait_begin(void);

/* How many ms until something is to be tried again; -1: nothing is. */
extern long handling_retry_ms(void);

/*
 * After an error, outside of a transaction: take note of it.  True if it was that of a
 * call, or of two transactions in each other's way; else the worker should rest.
 */
extern bool handling_failed(const ErrorData *error);

/* The process ends: others may have what it attempted. */
extern void handling_let_go(void);

#endif							/* CALVIN_PROCESS_HANDLING_H */
