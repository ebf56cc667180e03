/*
 * move.c
 *	  Vshards of a group that move from one server to another: seq_request_vshards,
 *	  seq_release_vshards, seq_handover, seq_take_vshards and seq_drop_move.
 *
 *	   new owner						 old owner
 *	   request: notes the move --------> release: has them no more, and notes where
 *										   it stood
 *	   take: has them from there <------ handover: what was noted, once it is durable
 *
 * Each step is a transaction of one server, and may be called again: so between any two of
 * them whoever ends, and whatever is lost on the way, the vshards are the old owner's, or
 * for a while nobody's, but never those of both.  A handover is for the server that has
 * asked for it, and has not taken it yet: for one server at most.  Where that server has
 * another log, or another history than the old owner had, it is refused.
 */
#include "compat.h"

#include "access/xact.h"
#include "consumer/backlog.h"
#include "consumer/group.h"
#include "consumer/moving.h"
#include "log/attach.h"
#include "log/identity.h"
#include "log/locks.h"
#include "log/moves.h"
#include "log/needs.h"
#include "log/parked.h"
#include "log/snapshots.h"
#include "log/states.h"
#include "miscadmin.h"
#include "process/durable.h"
#include "shared/database.h"
#include "shared/pause.h"
#include "sql/args.h"
#include "sql/move_text.h"
#include "sql/registering.h"
#include "sql/state.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

CALVIN_FUNCTION(seq_request_vshards);
CALVIN_FUNCTION(seq_release_vshards);
CALVIN_FUNCTION(seq_handover);
CALVIN_FUNCTION(seq_take_vshards);
CALVIN_FUNCTION(seq_drop_move);

static pg_uuid_t
require_identity(void)
{
	pg_uuid_t	identity;

	if (!identity_now(&identity))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the log here is empty, and does not know yet which one it is"),
				 errhint("Wait until it has an entry.")));
	return identity;
}

static void
require_same_log(const MoveText *text)
{
	pg_uuid_t	identity = require_identity();

	if (memcmp(&identity, &text->log, sizeof(identity)) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the other server has another log"),
				 errdetail("Its identity is %s, and that of the log here %s.",
						   identity_text(&text->log), identity_text(&identity))));
}

/* The place of a vshard in a holding, or -1. */
static int
place_of(const GroupHolding *holding, uint16 vshard)
{
	for (int i = 0; i < holding->n; i++)
		if (holding->keys[i].vshard == vshard)
			return i;
	return -1;
}

static void
refuse_held(const MoveText *text, const GroupHolding *holding)
{
	for (int i = 0; i < text->n; i++)
		if (place_of(holding, text->keys[i].vshard) >= 0)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("group \"%s\" has vshard %u here already", text->group,
							(unsigned) text->keys[i].vshard)));
}

/* What is noted of a move, whose vshards are in "text". */
static void
put_move(const MoveText *text, MoveState state, Oid owner, Jsonb *handover)
{
	Move		move = {.move = text->move, .state = state, .nvshards = text->n,
	.handover = handover};

	namestrcpy(&move.name, text->group);
	namestrcpy(&move.role_name, GetUserNameFromId(owner, false));
	move.vshards = palloc(sizeof(uint16) * text->n);
	for (int i = 0; i < text->n; i++)
		move.vshards[i] = text->keys[i].vshard;
	moves_put(&move);
	/* the other server goes by it: it is not to be lost in a crash, whatever is set */
	ForceSyncCommit();
}

/* seq_request_vshards(name, vshards) -> request */
Datum
seq_request_vshards(PG_FUNCTION_ARGS)
{
	MoveText	asked = {0};
	uint16	   *vshards;
	Registration *registration;
	GroupHolding *holding;
	Oid			owner = GetUserId();

	registering_refuse("seq_request_vshards()");
	asked.group = arg_name(PG_GETARG_TEXT_PP(0), "group");
	vshards = registering_vshards(PG_GETARG_ARRAYTYPE_P(1), &asked.n);
	asked.keys = palloc0(sizeof(GroupKey) * asked.n);
	for (int i = 0; i < asked.n; i++)
		asked.keys[i].vshard = vshards[i];
	asked.log = require_identity();
	asked.begins = backlog_kept();
	registration = registry_find(asked.group);
	if (registration != NULL)
	{
		registry_require_kind(registration, REGISTRATION_GROUP);
		registry_require_owner(registration);
		group_require_kept(group_open(registration));
		holding = palloc(sizeof(GroupHolding));
		moving_read(registration, holding);
		refuse_held(&asked, holding);
		asked.knows_collections = true;
		asked.ncollections = registration->ncollections;
		asked.collections = registration->collections;
		owner = registration->owner;
	}
	asked.move = *DatumGetUUIDP(DirectFunctionCall1(gen_random_uuid, (Datum) 0));
	put_move(&asked, MOVE_REQUESTED, owner, NULL);
	PG_RETURN_JSONB_P(move_text_request(&asked));
}

static bool
same_collections(const MoveText *text, const Registration *registration)
{
	if (text->collections == NULL || registration->collections == NULL)
		return text->collections == NULL && registration->collections == NULL;
	if (text->ncollections != registration->ncollections)
		return false;
	for (int i = 0; i < text->ncollections; i++)
		if (strcmp(text->collections[i], registration->collections[i]) != 0)
			return false;
	return true;
}

static void
require_same_collections(const MoveText *text, const Registration *registration)
{
	if (text->knows_collections && !same_collections(text, registration))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("group \"%s\" gets other collections on the other server", text->group),
				 errhint("Create it with the same ones, in the same order.")));
}

/* What waits to be retried, or to be passed over, is not handed over. */
static void
refuse_parked(const Registration *registration, const MoveText *text,
			  const GroupHolding *moved)
{
	ParkedKey  *parked;
	int			n = parked_list(registration->id, (GroupKey){0, 0, 0}, PG_INT64_MAX, &parked);

	for (int i = 0; i < n; i++)
	{
		GroupKey	key = parked[i].key;
		int			place = place_of(moved, key.vshard);

		if (place < 0)
			continue;
		if (parked[i].settled && group_key_less(key, moved->keys[place]))
			parked_forget(registration->id, key);
		else
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("group \"%s\" has set transaction (" UINT64_FORMAT ", %u) of vshard %u aside",
							text->group, key.epoch, key.position, (unsigned) key.vshard),
					 parked[i].settled ?
					 errhint("It was retried or dropped ahead of its turn: let the group fetch past it first.") :
					 errhint("Use seq_retry() or seq_drop_parked() first.")));
	}
}

/* Divide what the group has into what moves and what stays. */
static void
divide(const MoveText *text, const GroupHolding *all, GroupHolding *moved, GroupHolding *rest)
{
	*rest = *all;
	rest->n = 0;
	memset(moved, 0, sizeof(*moved));
	for (int i = 0; i < text->n; i++)
	{
		int			place = place_of(all, text->keys[i].vshard);

		if (place < 0)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("group \"%s\" does not have vshard %u here", text->group,
							(unsigned) text->keys[i].vshard),
					 errhint("Release vshards where seq_consumers shows that the group has them.")));
		moved->keys[moved->n++] = all->keys[place];
	}
	for (int i = 0; i < all->n; i++)
		if (place_of(moved, all->keys[i].vshard) < 0)
			rest->keys[rest->n++] = all->keys[i];
}

/* The new owner has to have what comes. */
static void
require_begins(const MoveText *text, const GroupHolding *moved)
{
	for (int i = 0; i < moved->n; i++)
		if (moved->keys[i].epoch < text->begins)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("the new owner has truncated what comes next for vshard %u",
							(unsigned) moved->keys[i].vshard),
					 errdetail("Its log begins at epoch " UINT64_FORMAT ", and the vshard is at epoch " UINT64_FORMAT ".",
							   text->begins, moved->keys[i].epoch),
					 errhint("Let the group catch up here, and request the vshards anew.")));
}

static void
release(MoveText *text)
{
	Registration *registration = moving_lock(text->group);
	GroupHolding *all = palloc(sizeof(GroupHolding) * 3);
	GroupHolding *moved = all + 1;
	GroupHolding *rest = all + 2;
	PublishedState published;

	if (registration == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("there is no group \"%s\"", text->group)));
	require_same_collections(text, registration);
	moving_read(registration, all);
	divide(text, all, moved, rest);
	refuse_parked(registration, text, moved);
	require_begins(text, moved);
	if (rest->n > 0)
		moving_replace(registration, rest, registration->partitions);
	else
		moving_end(registration);
	/* behind the positions: whatever was processed is applied */
	database_read(attach_database(), &published);
	text->keys = moved->keys;
	text->knows_collections = true;
	text->ncollections = registration->ncollections;
	text->collections = registration->collections;
	text->partitions = registration->partitions;
	text->log_index = published.machine.last_applied_index;
	text->digest = published.machine.digest;
	put_move(text, MOVE_RELEASED, registration->owner, move_text_handover(text));
}

/* seq_release_vshards(request) -> move */
Datum
seq_release_vshards(PG_FUNCTION_ARGS)
{
	MoveText	text;
	Move		before;

	shmem_require();
	registering_refuse("seq_release_vshards()");
	move_text_read_request(PG_GETARG_JSONB_P(0), &text);
	require_same_log(&text);
	moves_lock();
	if (!moves_find(&text.move, &before))
		release(&text);
	else if (before.state != MOVE_RELEASED)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the vshards were requested by this server itself"),
				 errhint("Call this on the server whose group has them.")));
	else
		moves_require_owner(&before);
	PAUSE_POINT("move: released");
	PG_RETURN_UUID_P(memcpy(palloc(sizeof(pg_uuid_t)), &text.move, sizeof(pg_uuid_t)));
}

static void
require_move(const pg_uuid_t *move, Move *found)
{
	if (!moves_find(move, found))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("there is no move %s here", identity_text(move)),
				 errhint("See seq_moves.")));
	moves_require_owner(found);
}

/* seq_handover(move) -> handover */
Datum
seq_handover(PG_FUNCTION_ARGS)
{
	Move		move;

	registering_refuse("seq_handover()");
	require_move(PG_GETARG_UUID_P(0), &move);
	if (move.state != MOVE_RELEASED)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("move %s released no vshards here", identity_text(&move.move))));
	if (move.by_self)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the release is not committed"),
				 errhint("Commit, and ask for the handover then.")));
	durable_wait_in_session(durable_wal_end());
	PG_RETURN_JSONB_P(move.handover);
}

/* Is this server the one that has asked for it?  False: it has taken it already. */
static bool
is_for_us(const MoveText *text, bool force)
{
	Move		move;
	bool		same;

	if (!moves_find(&text->move, &move))
	{
		if (force)
			return true;
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("these vshards were not requested by this server"),
				 errdetail("They are to be taken by the one whose seq_moves has %s as requested.",
						   identity_text(&text->move)),
				 errhint("If it is lost, and never takes them, use force.")));
	}
	moves_require_owner(&move);
	if (move.state == MOVE_TAKEN)
		return false;
	same = strcmp(NameStr(move.name), text->group) == 0 && move.nvshards == text->n;
	for (int i = 0; same && i < text->n; i++)
		same = move.vshards[i] == text->keys[i].vshard;
	if (!same)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the handover is not for what was requested")));
	if (move.state == MOVE_RELEASED && !force)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the vshards were released by this server itself"),
				 errdetail("They are for the one that has requested them."),
				 errhint("If it is lost, and never takes them, use force.")));
	return true;
}

/* What the old owner has processed is what is here. */
static void
require_same_history(const MoveText *text, int64 deadline)
{
	DatabaseSlot *slot = attach_database();
	PublishedState published;
	LogAccess	access;
	MachineState state;

	if (!state_wait_for_index(text->log_index, deadline))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the log is not applied here as far as it was at the old owner"),
				 errdetail("That was log_index " UINT64_FORMAT ".", text->log_index),
				 errhint("Call this again when this server has caught up.")));
	database_read(slot, &published);
	log_access_begin(&access, ACCESS_SNAPSHOTS | ACCESS_IDENTITY, ACCESS_LATEST);
	if (snapshots_base(&access, &state) && text->log_index < state.last_applied_index)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("what follows log_index " UINT64_FORMAT " was truncated here",
						text->log_index),
				 errhint("Have the old owner take the vshards back, with force.")));
	states_find(&access, text->log_index, &published.machine, &state);
	log_access_end(&access);
	if (state.last_applied_index != text->log_index || state.digest != text->digest)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the old owner has another history"),
				 errdetail("At log_index " UINT64_FORMAT " its digest is %016llx, and here it is %016llx, of log_index " UINT64_FORMAT ".",
						   text->log_index, (unsigned long long) text->digest,
						   (unsigned long long) state.digest, state.last_applied_index)));
}

/* A group that there was not. */
static Oid
take_as_new(const MoveText *text, const GroupHolding *holding)
{
	Registration registration = {0};

	namestrcpy(&registration.name, text->group);
	registration.kind = REGISTRATION_GROUP;
	registration.owner = GetUserId();
	registration.ncollections = text->ncollections;
	registration.collections = text->collections;
	moving_describe(&registration, holding, text->partitions);
	registering_add(&registration);
	moving_begin(&registration, holding);
	return registration.owner;
}

static int
compare_vshards(const void *a, const void *b)
{
	return (int) ((const GroupKey *) a)->vshard - (int) ((const GroupKey *) b)->vshard;
}

/* Returns whose the group is. */
static Oid
take(const MoveText *text)
{
	Registration *registration = moving_lock(text->group);
	GroupHolding *holding = palloc0(sizeof(GroupHolding));

	for (int i = 0; i < text->n; i++)
		needs_require(text->keys[i].epoch, NULL);
	if (registration != NULL)
	{
		require_same_collections(text, registration);
		moving_read(registration, holding);
		refuse_held(text, holding);
	}
	for (int i = 0; i < text->n; i++)
		holding->keys[holding->n++] = text->keys[i];
	qsort(holding->keys, holding->n, sizeof(GroupKey), compare_vshards);
	if (registration == NULL)
		return take_as_new(text, holding);
	moving_replace(registration, holding,
				   Max(registration->partitions, text->partitions));
	return registration->owner;
}

/* seq_take_vshards(handover, timeout, force) -> was it not taken before? */
Datum
seq_take_vshards(PG_FUNCTION_ARGS)
{
	int64		deadline = arg_deadline(PG_GETARG_INTERVAL_P(1));
	bool		force = PG_GETARG_BOOL(2);
	MoveText	text;

	shmem_require();
	registering_refuse("seq_take_vshards()");
	move_text_read_handover(PG_GETARG_JSONB_P(0), &text);
	require_same_log(&text);
	require_same_history(&text, deadline);
	moves_lock();
	if (!is_for_us(&text, force))
		PG_RETURN_BOOL(false);
	put_move(&text, MOVE_TAKEN, take(&text), NULL);
	PAUSE_POINT("move: taken");
	PG_RETURN_BOOL(true);
}

/* seq_drop_move(move) */
Datum
seq_drop_move(PG_FUNCTION_ARGS)
{
	const pg_uuid_t *number = PG_GETARG_UUID_P(0);
	Move		move;

	registering_refuse("seq_drop_move()");
	moves_lock();
	require_move(number, &move);
	(void) moves_remove(number);
	PG_RETURN_VOID();
}
