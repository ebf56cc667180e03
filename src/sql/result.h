/*
 * result.h
 *	  The rows that functions return: their types are compared before they are
 *	  filled.
 *
 * What a function returns is in the catalogs, where an owner can alter a type, or
 * give a table more columns.  Filled in regardless, numbers would be taken for
 * pointers.  So nobody else asks for a function's row type (make lint).
 */
#ifndef CALVIN_SQL_RESULT_H
#define CALVIN_SQL_RESULT_H

#include "compat.h"

#include "access/tupdesc.h"
#include "fmgr.h"
#include "funcapi.h"

/* The row that a function returns, which has to have these columns. */
extern TupleDesc result_row(FunctionCallInfo fcinfo, int n, const Oid *types);

/* The set of such rows, to be filled. */
extern ReturnSetInfo *result_rows(FunctionCallInfo fcinfo, int n, const Oid *types);

#endif							/* CALVIN_SQL_RESULT_H */
