/*
 * conninfo.h
 *	  Where a source is, as libpq takes it.
 */
#ifndef CALVIN_PROCESS_CONNINFO_H
#define CALVIN_PROCESS_CONNINFO_H

#include "compat.h"

/*
 * An error unless it is a connection string, and one without secrets: those are for
 * a password or a service file.
 */
extern void conninfo_check(const char *conninfo);

/* The same for people: database, hosts and ports, as far as they are said. */
extern char *conninfo_describe(const char *conninfo);

typedef struct ConninfoParams
{
	const char **keywords; /* both end with NULL */
	const char **values;
} ConninfoParams;

/*
 * For PQconnectStartParams(), with what followers set themselves.  Of several hosts, be
 * they in a service file, the first "turn" come last, and no more than "most" are taken;
 * INT_MAX: all.  "primary": only one that is no standby will do.
 */
extern void conninfo_params(const char *conninfo, int turn, int most, bool primary,
							ConninfoParams *params);

/* How many hosts it leads to, by a service file too. */
extern int	conninfo_hosts(const char *conninfo);

/* A number among its options, or the default. */
extern int	conninfo_number(const char *conninfo, const char *keyword, int otherwise);

#endif							/* CALVIN_PROCESS_CONNINFO_H */
