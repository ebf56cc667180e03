/*
 * yield.c
 *	  Who is to be called in the middle of long loops.
 */
#include "wire/yield.h"

void		(*wire_yield) (void) = NULL;
