/*
 * parked.c
 *	  seq_park, seq_retry and seq_drop_parked: transactions that a group sets aside.
 */
#include "compat.h"

#include "access/htup_details.h"
#include "consumer/fetch.h"
#include "consumer/holding.h"
#include "consumer/parking.h"
#include "consumer/taken.h"
#include "funcapi.h"
#include "log/hint.h"
#include "log/parked.h"
#include "log/report.h"
#include "log/rows.h"
#include "miscadmin.h"
#include "sql/args.h"
#include "sql/result.h"
#include "utils/builtins.h"

CALVIN_FUNCTION(seq_park);
CALVIN_FUNCTION(seq_retry);
CALVIN_FUNCTION(seq_drop_parked);

/* (name, vshard, epoch, position): none may be null. */
static FetchGroup *
begin(FunctionCallInfo fcinfo, const char *function, int nargs, GroupKey *key)
{
	FetchGroup *group;
	int64		position;

	for (int i = 0; i < nargs; i++)
		if (PG_ARGISNULL(i))
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("arguments must not be null")));
	fetch_refuse(function);
	group = group_require(arg_name(PG_GETARG_TEXT_PP(0), "group"));
	key->vshard = arg_vshard(PG_GETARG_INT32(1));
	key->epoch = arg_epoch(PG_GETARG_INT64(2));
	position = PG_GETARG_INT32(3);
	if (position < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("position must not be negative")));
	key->position = (uint32) position;
	if (group->partition_of[key->vshard] < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("group \"%s\" gets nothing of vshard %u", NameStr(group->name),
						(unsigned) key->vshard)));
	return group;
}

/*
 * The attempts of a handler are those at what is next in a partition.  If it is that which
 * was parked, what is behind it has had none.  Whether it is, is not known here; better one
 * attempt too many than one too few.
 */
static void
forget_attempts(int partition, GroupKey key, GroupStore *store, GroupPosition *position)
{
	if (position->attempts == 0 || group_key_less(key, position->next))
		return;
	position->attempts = 0;
	position->retry_at = 0;
	position->error = NULL;
	group_store_write(store, partition, position);
}

/* seq_park(name, vshard, epoch, position, reason) */
Datum
seq_park(PG_FUNCTION_ARGS)
{
	GroupKey	key;
	FetchGroup *group = begin(fcinfo, "seq_park()", 5, &key);
	int			partition = group->partition_of[key.vshard];
	GroupStore	store;
	GroupPosition position;
	GroupKey	from;
	uint32		attempts;

	(void) fetch_take(group, partition, true, &store, &position);
	attempts = position.attempts;
	forget_attempts(partition, key, &store, &position);
	group_store_end(&store);
	if (group_is_before_start(group, key) ||
		(group_key_less(key, position.next) &&
		 (!taken_from(group->id, partition, &from) || group_key_less(key, from))))
	{
		parked_refuse(group->id, key);
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("group \"%s\" has processed transaction (" UINT64_FORMAT ", %u) of vshard %u already",
						NameStr(group->name), key.epoch, key.position,
						(unsigned) key.vshard),
				 errdetail("It can be parked in the transaction that has fetched it, or when that was rolled back.")));
	}
	parking_park(group, key, attempts,
				 text_to_cstring(PG_GETARG_TEXT_PP(4)));
	PG_RETURN_VOID();
}

/*
 * Take a parked transaction back.  Whether its group is still to pass over it, the
 * position says; where it is not behind that for good, the partition is taken first.
 */
static bytea *
settle(FetchGroup *group, GroupKey key, int64 *epoch_system_ms)
{
	int			partition = group->partition_of[key.vshard];
	GroupStore	store;
	GroupPosition position;
	GroupKey	from;
	bytea	   *tx_class;

	group_store_begin(&store, group->id, false);
	group_store_read(&store, partition, &position);
	group_store_end(&store);
	if (!group_key_less(key, position.next) ||
		taken_from(group->id, partition, &from))
	{
		(void) fetch_take(group, partition, true, &store, &position);
		group_store_end(&store);
	}
	if (!parked_settle(group->id, key, !group_key_less(key, position.next), &tx_class,
					   epoch_system_ms))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("group \"%s\" has no parked transaction (" UINT64_FORMAT ", %u) of vshard %u",
						NameStr(group->name), key.epoch, key.position,
						(unsigned) key.vshard),
				 errhint_for_role("See seq_parked. Another transaction may have taken it.")));
	return tx_class;
}

/* seq_retry(name, vshard, epoch, position) -> seq_txn */
Datum
seq_retry(PG_FUNCTION_ARGS)
{
	uint16		vshards[WIRE_VSHARDS];
	GroupKey	key;
	/* before anything is taken back */
	TupleDesc	desc = result_row(fcinfo, ROW_COLUMNS, row_types);
	FetchGroup *group = begin(fcinfo, "seq_retry()", 4, &key);
	Delivery	delivery = {0};
	RowMaker	maker;
	WireTxn		txn;
	WireError	error;
	bytea	   *tx_class;

	/* the row is processed with this transaction, and no other */
	holding_check(true);
	tx_class = settle(group, key, &delivery.epoch_system_ms);
	if (!wire_decode_tx_class((const uint8 *) VARDATA(tx_class),
							  VARSIZE(tx_class) - VARHDRSZ, &txn, vshards, &error))
		wire_report_tx_class(&error);
	delivery.vshard = key.vshard;
	delivery.epoch = key.epoch;
	delivery.position = key.position;
	delivery.tenant_id = txn.tenant_id;
	delivery.vshards = txn.vshards;
	delivery.vshard_count = txn.vshard_count;
	delivery.plans = txn.plans;
	delivery.tx_class = txn.tx_class;
	delivery.datum = tx_class;
	row_maker_init(&maker);
	row_make(&maker, &delivery);
	holding_note(NameStr(group->name), true);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, maker.values,
													  maker.nulls)));
}

/* seq_drop_parked(name, vshard, epoch, position) */
Datum
seq_drop_parked(PG_FUNCTION_ARGS)
{
	GroupKey	key;
	FetchGroup *group = begin(fcinfo, "seq_drop_parked()", 4, &key);
	int64		epoch_system_ms;

	(void) settle(group, key, &epoch_system_ms);
	PG_RETURN_VOID();
}
