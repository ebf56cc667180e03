/*
 * calling.h
 *	  Calling a handler's function with what was fetched.
 */
#ifndef CALVIN_PROCESS_CALLING_H
#define CALVIN_PROCESS_CALLING_H

#include "compat.h"

#include "log/delivery.h"
#include "log/handlers.h"

typedef struct Calling Calling;

/* In the current memory context. */
extern Calling *calling_begin(Oid function, HandlerForm form);

/* One more transaction, which is copied. */
extern void calling_add(Calling *calling, const Delivery *delivery);

/* Call the function: with each, or with all of them.  As statements, with timeouts. */
extern void calling_call(Calling *calling);

/* The last error, in TopMemoryContext, until it was dealt with. */
extern void calling_failed(ErrorData *error);
extern const ErrorData *calling_error(void);
extern void calling_forget_error(void);

#endif							/* CALVIN_PROCESS_CALLING_H */
