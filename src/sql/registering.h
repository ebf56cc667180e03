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
extern uint64 registering_start(const Datum *from_epoch);

/*
 * Register what is filled in, as registry_add() does; an error if durable cursors were
 * stored under the name.
 */
extern void registering_add(Registration *registration);

#endif							/* CALVIN_SQL_REGISTERING_H */
