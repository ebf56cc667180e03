/*
 * args.h
 *	  Arguments that several SQL functions take, checked.
 */
#ifndef CALVIN_SQL_ARGS_H
#define CALVIN_SQL_ARGS_H

#include "compat.h"

#include "consumer/consumer.h"
#include "datatype/timestamp.h"
#include "utils/array.h"

/* A vshard: 0 .. 1023, or an error. */
extern uint16 arg_vshard(int32 vshard);

/* An epoch that is not negative, or an error. */
extern uint64 arg_epoch(int64 epoch);

/* A log_index that is not negative, or an error. */
extern uint64 arg_log_index(int64 log_index);

/*
 * The different vshards of an int[], in a palloc'd array.  An error for NULL
 * elements, none at all, or more than one dimension.
 */
extern uint16 *arg_vshards(ArrayType *array, int *n);

/* The name of a "what": not empty, at most NAMEDATALEN - 1 bytes. */
extern char *arg_name(text *name, const char *what);

/* This session's consumer of that name, or an error. */
extern Consumer *arg_consumer(text *name);

/*
 * The end of a timeout that starts now, as clock_ms() tells time.  An error if
 * the timeout is negative; one of many years never ends.
 */
extern int64 arg_deadline(Interval *timeout);

/* Milliseconds since 1970 as a timestamptz; null where that has no such moment. */
extern Datum arg_timestamp_of_ms(int64 ms, bool *isnull);

#endif							/* CALVIN_SQL_ARGS_H */
