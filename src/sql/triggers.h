/*
 * triggers.h
 *	  What the extension's trigger functions have in common.
 */
#ifndef CALVIN_SQL_TRIGGERS_H
#define CALVIN_SQL_TRIGGERS_H

#include "compat.h"

#include "commands/trigger.h"
#include "fmgr.h"

/* An error unless a function of that name runs BEFORE INSERT FOR EACH ROW. */
extern void trigger_require_before_insert(FunctionCallInfo fcinfo,
										  const char *function);

#endif							/* CALVIN_SQL_TRIGGERS_H */
