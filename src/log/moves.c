/*
 * moves.c
 *	  Vshards of groups that have moved from or to this server: the table
 *	  seq_vshard_moves.
 *
 *	   at the new owner:  (none) --request--> requested --take--> taken
 *	   at the old owner:  (none) --release--> released --forced take--> taken
 *
 * Each is the state of one row, under the move's number, which is the same on both
 * servers; forgetting it ends any of them.  Whoever changes a row holds the lock.
 */
#include "compat.h"

#include "access/xact.h"
#include "catalog/pg_type_d.h"
#include "log/insert.h"
#include "log/locks.h"
#include "log/moves.h"
#include "log/newest.h"
#include "log/owner.h"
#include "log/remove.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/timestamp.h"

static const char *const state_names[] = {
	[MOVE_REQUESTED] = MOVE_STATE_REQUESTED,
	[MOVE_RELEASED] = MOVE_STATE_RELEASED,
	[MOVE_TAKEN] = MOVE_STATE_TAKEN
};

static MoveState
state_of(const char *name)
{
	if (strcmp(name, MOVE_STATE_REQUESTED) == 0)
		return MOVE_REQUESTED;
	return strcmp(name, MOVE_STATE_RELEASED) == 0 ? MOVE_RELEASED : MOVE_TAKEN;
}

static void
read_vshards(Datum datum, Move *move)
{
	Datum	   *elements;

	deconstruct_array(DatumGetArrayTypeP(datum), INT4OID, sizeof(int32), true,
					  TYPALIGN_INT, &elements, NULL, &move->nvshards);
	move->vshards = palloc(sizeof(uint16) * Max(move->nvshards, 1));
	for (int i = 0; i < move->nvshards; i++)
		move->vshards[i] = (uint16) DatumGetInt32(elements[i]);
}

static void
read_row(TupleTableSlot *slot, Move *move)
{
	const Datum *values = slot->tts_values;
	bool		isnull;

	slot_getallattrs(slot);
	move->move = *DatumGetUUIDP(values[MOVE_ATTR_MOVE - 1]);
	move->state = state_of(TextDatumGetCString(values[MOVE_ATTR_STATE - 1]));
	move->name = *DatumGetName(values[MOVE_ATTR_NAME - 1]);
	move->role_name = *DatumGetName(values[MOVE_ATTR_ROLE_NAME - 1]);
	read_vshards(values[MOVE_ATTR_VSHARDS - 1], move);
	move->handover = slot->tts_isnull[MOVE_ATTR_HANDOVER - 1] ? NULL :
		DatumGetJsonbPCopy(values[MOVE_ATTR_HANDOVER - 1]);
	move->by_self =
		TransactionIdIsCurrentTransactionId(DatumGetTransactionId(slot_getsysattr(slot,
																				 MinTransactionIdAttributeNumber,
																				 &isnull)));
}

static bool
scan_move(NewestScan *scan, const pg_uuid_t *move)
{
	ScanKeyData key;

	ScanKeyInit(&key, MOVE_ATTR_MOVE, BTEqualStrategyNumber, F_UUID_EQ,
				UUIDPGetDatum(move));
	return newest_find(scan, &key);
}

void
moves_lock(void)
{
	(void) log_lock_object_for_transaction(log_side_table(log_table_require(), SIDE_MOVES),
										   InvalidOid, 0, ExclusiveLock, true);
}

bool
moves_find(const pg_uuid_t *move, Move *found)
{
	NewestScan	scan;
	bool		there;

	newest_begin(&scan, SIDE_MOVES, AccessShareLock, ACCESS_LATEST, 1);
	there = scan_move(&scan, move);
	if (there)
		read_row(scan.slot, found);
	newest_end(&scan);
	return there;
}

static void
fill_in(TupleTableSlot *slot, const Move *move)
{
	Datum	   *elements = palloc(sizeof(Datum) * Max(move->nvshards, 1));

	for (int i = 0; i < move->nvshards; i++)
		elements[i] = Int32GetDatum(move->vshards[i]);
	insert_put(slot, MOVE_ATTR_MOVE, UUIDPGetDatum(&move->move));
	insert_put(slot, MOVE_ATTR_STATE, CStringGetTextDatum(state_names[move->state]));
	insert_put(slot, MOVE_ATTR_NAME, NameGetDatum(&move->name));
	insert_put(slot, MOVE_ATTR_ROLE_NAME, NameGetDatum(&move->role_name));
	insert_put(slot, MOVE_ATTR_VSHARDS,
		PointerGetDatum(construct_array(elements, move->nvshards, INT4OID, sizeof(int32),
										true, TYPALIGN_INT)));
	if (move->handover != NULL)
		insert_put(slot, MOVE_ATTR_HANDOVER, JsonbPGetDatum(move->handover));
	insert_put(slot, MOVE_ATTR_CHANGED_AT, TimestampTzGetDatum(GetCurrentTimestamp()));
}

/* "move" in the place of the row of that number, or none with NULL; was there one? */
static bool
change(const pg_uuid_t *number, const Move *move)
{
	LogIdentity self = log_become_side_owner(log_table_require(), SIDE_MOVES);
	NewestScan	scan;
	Insert		insert;
	bool		found;

	newest_begin(&scan, SIDE_MOVES, RowExclusiveLock, ACCESS_LATEST, 1);
	insert_begin(&insert, RelationGetRelid(scan.access.rel));
	found = scan_move(&scan, number);
	if (found &&
		remove_row(&insert, scan.slot, scan.access.snapshot) != REMOVAL_DONE)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("the move was changed by another transaction"),
				 errhint("Run the transaction again.")));
	if (move != NULL)
	{
		fill_in(insert.slot, move);
		if (!insert_row(&insert))
			ereport(ERROR,
					(errcode(ERRCODE_TRIGGERED_ACTION_EXCEPTION),
					 errmsg("a trigger on %s keeps rows out", MOVES_NAME)));
	}
	insert_end(&insert);
	newest_end(&scan);
	log_become_self(&self);
	return found;
}

void
moves_put(const Move *move)
{
	(void) change(&move->move, move);
}

bool
moves_remove(const pg_uuid_t *move)
{
	return change(move, NULL);
}

void
moves_require_owner(const Move *move)
{
	Oid			role = get_role_oid(NameStr(move->role_name), true);

	if (OidIsValid(role) ? has_privs_of_role(GetUserId(), role) : superuser())
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied for a move of group \"%s\"", NameStr(move->name)),
			 errdetail("The group belonged to the role \"%s\".", NameStr(move->role_name))));
}
