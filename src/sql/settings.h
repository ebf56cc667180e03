/*
 * settings.h
 *	  The SQL layer's own settings, each defined by the file that uses it.
 */
#ifndef CALVIN_SQL_SETTINGS_H
#define CALVIN_SQL_SETTINGS_H

#include "compat.h"

/* calvin_seq.queue_size */
extern void subscribe_init(void);

#endif							/* CALVIN_SQL_SETTINGS_H */
