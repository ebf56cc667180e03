/*
 * registering.c
 *	  What seq_register and seq_create_group have in common.
 */
#include "compat.h"

#include "access/xlog.h"
#include "log/begin_at_end.h"
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
registering_start(const Datum *from_epoch, const char *name)
{
	uint64		start;
	uint64		next;

	if (from_epoch == NULL)
		return log_next_epoch();
	start = arg_epoch(DatumGetInt64(*from_epoch));
	/* who truncates waits for the end of this transaction, and sees it then */
	log_lock_for_transaction(LOG_LOCK_TRUNCATION, ShareLock);
	next = log_next_epoch();
	if (start > next)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("from_epoch " UINT64_FORMAT " is beyond the end of the log", start),
				 errdetail("The next epoch of the log is " UINT64_FORMAT ".", next),
				 errhint("Leave from_epoch out to begin at the end of the log.")));
	needs_require(start, name);
	return start;
}

static bool
has_vshard(const Registration *registration, uint16 vshard)
{
	for (int i = 0; i < registration->nvshards; i++)
		if (registration->vshards[i] == vshard)
			return true;
	return false;
}

Registration *
registering_check_stream(const char *name, int n, const uint16 *vshards)
{
	Registration *registration = registry_find(name);

	if (registration == NULL)
		return NULL;
	registration = registry_require(name, REGISTRATION_STREAM);
	for (int i = 0; vshards != NULL && i < n; i++)
		if (!has_vshard(registration, vshards[i]))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("consumer \"%s\" is not registered for vshard %u", name,
							(unsigned) vshards[i]),
					 errhint("Register another consumer for it, or this one anew for all of its vshards.")));
	return registration;
}
