/*
 * json.h
 *	  Plans as JSON.
 */
#ifndef CALVIN_SQL_JSON_H
#define CALVIN_SQL_JSON_H

#include "compat.h"

#include "wire/wire.h"

/* The jsonb of plans that are JSON text in UTF-8, or an error. */
extern Datum json_of_plans(WireSlice plans);

#endif							/* CALVIN_SQL_JSON_H */
