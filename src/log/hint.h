/*
 * hint.h
 *	  Hints that name the extension's functions and views.
 */
#ifndef CALVIN_LOG_HINT_H
#define CALVIN_LOG_HINT_H

#include "compat.h"

/*
 * To be used as errhint().  Of what the text names, "seq_..." as it is called, that
 * which the present role may not use is told behind it.
 */
extern int	errhint_for_role(const char *text);

#endif							/* CALVIN_LOG_HINT_H */
