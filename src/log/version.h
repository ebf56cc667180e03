/*
 * version.h
 *	  Versions of the extension's SQL objects that this library serves.
 *
 * The library in memory and the objects in a database can differ: a server
 * that was restarted with a new library before ALTER EXTENSION UPDATE, or a
 * database that came from a server with another one.
 */
#ifndef CALVIN_LOG_VERSION_H
#define CALVIN_LOG_VERSION_H

/* Its own, which is default_version of the control file: the Makefile says it. */
#ifndef CALVIN_SEQ_VERSION
#error "CALVIN_SEQ_VERSION is not defined: build with the Makefile"
#endif

/* An earlier one whose tables and functions are still what it expects. */
#ifndef CALVIN_SEQ_SERVES_TOO
#define CALVIN_SEQ_SERVES_TOO CALVIN_SEQ_VERSION
#endif

#endif							/* CALVIN_LOG_VERSION_H */
