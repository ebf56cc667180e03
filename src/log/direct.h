/*
 * direct.h
 *	  May rows of the extension's tables be written without the executor?
 */
#ifndef CALVIN_LOG_DIRECT_H
#define CALVIN_LOG_DIRECT_H

#include "compat.h"

/* Would an INSERT that names the extension's own columns store them, and do no more? */
extern bool direct_insert(Relation rel);

/* Would a DELETE remove rows, and do no more? */
extern bool direct_delete(Relation rel);

/* The same of seq_log as direct_insert(); nor is any code run but the extension's. */
extern bool direct_append(Relation log);

#endif							/* CALVIN_LOG_DIRECT_H */
