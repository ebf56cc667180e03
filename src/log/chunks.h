/*
 * chunks.h
 *	  The chunks of entries that are stored out of line, a page at a time.
 */
#ifndef CALVIN_LOG_CHUNKS_H
#define CALVIN_LOG_CHUNKS_H

#include "compat.h"

#include "access/genam.h"
#include "executor/tuptable.h"

/* Of one table, for as long as it is being read. */
typedef struct ChunkReader
{
	Relation	table;
	Relation	chunks; /* its TOAST table; NULL until it is wanted */
	Relation   *indexes;
	int			nindexes;
	Relation	index; /* the valid one of them */
	TupleTableSlot *slot;
	BlockNumber blocks; /* of the TOAST table, as last seen */
} ChunkReader;

extern void chunk_reader_begin(ChunkReader *reader, Relation table);
extern void chunk_reader_end(ChunkReader *reader);

/*
 * As pg_detoast_datum_packed(): the value itself, or a copy of what is stored
 * elsewhere or compressed, in the current memory context.  There must be an
 * active or registered snapshot.
 */
extern struct varlena *chunk_reader_detoast(ChunkReader *reader,
											struct varlena *stored);

#endif							/* CALVIN_LOG_CHUNKS_H */
