/*
 * schema.c
 *	  Fields of key sets as errors call them.
 */
#include "wire/schema.h"

const WireSetFields wire_read_set_fields =
WIRE_SET_FIELDS("txns.tx_class.read_set");

const WireSetFields wire_write_set_fields =
WIRE_SET_FIELDS("txns.tx_class.write_set");

const WireSetFields wire_dependent_fields =
WIRE_SET_FIELDS("txns.tx_class.dependent_reads");
