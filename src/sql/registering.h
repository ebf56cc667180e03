/*
 * registering.h
 *	  What seq_register and seq_create_group have in common.
 */
#ifndef CALVIN_SQL_REGISTERING_H
#define CALVIN_SQL_REGISTERING_H

#include "compat.h"

#include "log/registry.h"
#include "utils/array.h"

/* An error on a standby, or in a read-only transaction. */
extern void registering_refuse(const char *function);

/* The different vshards of an int[], ascending. */
extern uint16 *registering_vshards(ArrayType *array, int *n);

/*
 * Where a consumer begins: at an epoch that is in the log, or is to come next; or, with
 * NULL, at the log's end.  What it needs is not truncated from then on.
 */
extern uint64 registering_start(const Datum *from_epoch, const char *name);

/*
 * May the present user use that name for a stream of these vshards?  NULL for the
 * vshards: of any.  An error if not; what is registered under it, or NULL.
 */
extern Registration *registering_check_stream(const char *name, int n,
											  const uint16 *vshards);

#endif							/* CALVIN_SQL_REGISTERING_H */
