/*
 * triggers.h
 *	  What the extension's trigger functions have in common.
 */
#ifndef CALVIN_SQL_TRIGGERS_H
#define CALVIN_SQL_TRIGGERS_H

#include "compat.h"

#include "commands/trigger.h"
#include "fmgr.h"
#include "log/shape.h"

/*
 * An error unless a function of that name runs BEFORE INSERT FOR EACH ROW on that
 * table, whose columns are then as it reads them.
 */
extern void trigger_require_insert_into(FunctionCallInfo fcinfo, const char *function,
										SideTable side);

#endif							/* CALVIN_SQL_TRIGGERS_H */
