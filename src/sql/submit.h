/*
 * submit.h
 *	  A collection and a payload on their way to the inbox.
 */
#ifndef CALVIN_SQL_SUBMIT_H
#define CALVIN_SQL_SUBMIT_H

#include "compat.h"

/*
 * Submit a write of Document "collection", in this transaction; returns the
 * submission's number.  Both are in the database's encoding, the payload unless
 * it is_bytes; after submission_begin().
 */
extern int64 submit_document(char *collection, Size collection_len,
							 char *payload, Size payload_len, bool is_bytes,
							 uint64 tenant_id);

#endif							/* CALVIN_SQL_SUBMIT_H */
