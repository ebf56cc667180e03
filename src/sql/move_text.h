/*
 * move_text.h
 *	  What the two owners of vshards that move tell each other, as jsonb.
 */
#ifndef CALVIN_SQL_MOVE_TEXT_H
#define CALVIN_SQL_MOVE_TEXT_H

#include "compat.h"

#include "log/group_positions.h"
#include "utils/jsonb.h"
#include "utils/uuid.h"

/* A request, and the handover that answers it. */
typedef struct MoveText
{
	pg_uuid_t	move;
	pg_uuid_t	log;		/* its identity */
	char	   *group;
	int			n;
	GroupKey   *keys;		/* of each vshard, ascending; a request has the vshards alone */
	bool		knows_collections; /* a request for a group to come does not */
	int			ncollections;
	char	  **collections; /* NULL: all */
	uint64		begins;		/* request: the first epoch that the new owner has for sure */
	int			partitions;	/* handover: of the old owner's group, */
	uint64		log_index;	/* up to where the log was applied there, at least, */
	uint64		digest;		/* and the digest there */
} MoveText;

extern Jsonb *move_text_request(const MoveText *text);
extern Jsonb *move_text_handover(const MoveText *text);

/* Errors for what the others have not made. */
extern void move_text_read_request(Jsonb *jsonb, MoveText *text);
extern void move_text_read_handover(Jsonb *jsonb, MoveText *text);

#endif							/* CALVIN_SQL_MOVE_TEXT_H */
