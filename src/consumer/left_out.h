/*
 * left_out.h
 *	  Queries that leave out rows of a receive, or of a fetch.
 */
#ifndef CALVIN_CONSUMER_LEFT_OUT_H
#define CALVIN_CONSUMER_LEFT_OUT_H

#include "compat.h"

#include "fmgr.h"

extern void left_out_init(void);

/*
 * A call has filled its result with rows that count as received: the query that
 * called it ends with 0A000 if it hands out fewer.
 */
extern void left_out_note(FunctionCallInfo fcinfo);

#endif							/* CALVIN_CONSUMER_LEFT_OUT_H */
