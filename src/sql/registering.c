/*
 * registering.c
 *	  What seq_register and seq_create_group have in common.
 */
#include "compat.h"

#include "access/xlog.h"
#include "log/begin_at_end.h"
#include "log/cursors.h"
#include "log/hint.h"
#include "log/locks.h"
#include "log/needs.h"
#include "miscadmin.h"
#include "sql/args.h"
#include "sql/registering.h"

void
registering_refuse(const char *function)
{
	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("cannot execute %s during recovery", function),
				 errhint("Consumers are registered on the primary.")));
	PreventCommandIfReadOnly(function);
}

static int
compare_vshards(const void *a, const void *b)
{
	return (int) *(const uint16 *) a - (int) *(const uint16 *) b;
}

uint16 *
registering_vshards(ArrayType *array, int *n)
{
	uint16	   *vshards = arg_vshards(array, n);

	qsort(vshards, *n, sizeof(uint16), compare_vshards);
	return vshards;
}

uint64
registering_start(const Datum *from_epoch)
{
	uint64		start;
	uint64		next;

	start = from_epoch != NULL ? arg_epoch(DatumGetInt64(*from_epoch)) : 0;
	/* who truncates waits for the end of this transaction, and sees it then */
	log_lock_for_transaction(LOG_LOCK_TRUNCATION, ShareLock);
	next = log_next_epoch();
	if (from_epoch == NULL)
		return next;
	if (start > next)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("from_epoch " UINT64_FORMAT " is beyond the end of the log", start),
				 errdetail("The next epoch of the log is " UINT64_FORMAT ".", next),
				 errhint("Leave from_epoch out to begin at the end of the log.")));
	needs_require(start, NULL);
	return start;
}

/* What somebody has stored under the name would be nobody's, or this consumer's. */
static void
refuse_cursors(const char *name)
{
	StreamCursor *cursors = palloc(sizeof(StreamCursor) * WIRE_VSHARDS);
	uint16		all[WIRE_VSHARDS];
	int			n;

	for (int v = 0; v < WIRE_VSHARDS; v++)
		all[v] = (uint16) v;
	n = cursors_load(name, WIRE_VSHARDS, all, cursors);
	if (n > 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("there are durable cursors of the name \"%s\" already", name),
				 errdetail_plural("%d was stored by a consumer that is not registered.",
								  "%d were stored by a consumer that is not registered.",
								  n, n),
				 errhint_for_role("Use another name; or note where they stand (seq_cursors), forget them with seq_drop_cursor(), and pass that as from_epoch.")));
	pfree(cursors);
}

void
registering_add(Registration *registration)
{
	const char *name = NameStr(registration->name);

	registry_lock_name(name, ExclusiveLock);
	registry_add(registration);
	refuse_cursors(name);
}
