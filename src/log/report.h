/*
 * report.h
 *	  What the pure layers refuse, as PostgreSQL errors.
 */
#ifndef CALVIN_LOG_REPORT_H
#define CALVIN_LOG_REPORT_H

#include "compat.h"

#include "wire/wire.h"

/* The SQLSTATE (as errcode() takes it) of a refusal by the wire layer. */
extern int	wire_sqlstate(WireStatus status);

/* Raise an error that says what was refused, where, and what was expected. */
pg_noreturn extern void wire_report(const WireError *error);

/* The same of a TxClass by itself. */
pg_noreturn extern void wire_report_tx_class(const WireError *error);

/* The same as one line of text, for a log message; palloc'd. */
extern char *wire_describe(const WireError *error);

#endif							/* CALVIN_LOG_REPORT_H */
