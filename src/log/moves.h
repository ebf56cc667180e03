/*
 * moves.h
 *	  Vshards of groups that have moved from or to this server: the table
 *	  seq_vshard_moves.
 */
#ifndef CALVIN_LOG_MOVES_H
#define CALVIN_LOG_MOVES_H

#include "compat.h"

#include "utils/jsonb.h"
#include "utils/uuid.h"

typedef enum MoveState
{
	MOVE_REQUESTED, /* by this server, which has not got them */
	MOVE_RELEASED,	/* this server has them no more */
	MOVE_TAKEN		/* this server has got them */
} MoveState;

typedef struct Move
{
	pg_uuid_t	move;
	MoveState	state;
	NameData	name;		/* of the group */
	NameData	role_name;	/* of its owner */
	int			nvshards;
	uint16	   *vshards;	/* ascending */
	Jsonb	   *handover;	/* of what was released, else NULL */
	bool		by_self;	/* this transaction has stored it */
} Move;

/*
 * Nobody else changes one from here on, to the end of the (sub)transaction.
 */
extern void moves_lock(void);

/* As committed now and by this transaction, palloc'd; false if there is none. */
extern bool moves_find(const pg_uuid_t *move, Move *found);

/* Put it in the place of the one that there may be. */
extern void moves_put(const Move *move);

/* False if there is none. */
extern bool moves_remove(const pg_uuid_t *move);

/* An error unless the present user has the rights of whose group it was about. */
extern void moves_require_owner(const Move *move);

#endif							/* CALVIN_LOG_MOVES_H */
