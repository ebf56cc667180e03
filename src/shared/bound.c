/*
 * bound.c
 *	  Beyond which there is nothing in the log: a bound for who looks for its end.
 */
#include "compat.h"

#include "shared/bound.h"
#include "shared/database.h"

void
bound_init(DatabaseSlot *slot)
{
	SpinLockInit(&slot->bound.mutex);
	slot->bound.log = InvalidOid;
}

void
bound_reset(DatabaseSlot *slot)
{
	SpinLockAcquire(&slot->bound.mutex);
	slot->bound.log = InvalidOid;
	SpinLockRelease(&slot->bound.mutex);
}

void
bound_forget(void)
{
	DatabaseSlot *slot = database_mine();

	if (slot != NULL)
		bound_reset(slot);
}

bool
bound_get(Oid log, int64 *log_index, int64 *epoch)
{
	DatabaseSlot *slot = database_mine();
	bool		known;

	if (slot == NULL)
		return false;
	SpinLockAcquire(&slot->bound.mutex);
	known = slot->bound.log == log;
	*log_index = slot->bound.log_index;
	*epoch = slot->bound.epoch;
	SpinLockRelease(&slot->bound.mutex);
	return known;
}

void
bound_set(Oid log, int64 log_index, int64 epoch)
{
	DatabaseSlot *slot = database_mine();

	if (slot == NULL)
		return;
	SpinLockAcquire(&slot->bound.mutex);
	slot->bound.log = log;
	slot->bound.log_index = log_index;
	slot->bound.epoch = epoch;
	SpinLockRelease(&slot->bound.mutex);
}

void
bound_raise(Oid log, int64 log_index, int64 epoch)
{
	DatabaseSlot *slot = database_mine();

	if (slot == NULL)
		return;
	SpinLockAcquire(&slot->bound.mutex);
	if (slot->bound.log != log)
		slot->bound.log = InvalidOid;
	else
	{
		slot->bound.log_index = Max(slot->bound.log_index, log_index);
		slot->bound.epoch = Max(slot->bound.epoch, epoch);
	}
	SpinLockRelease(&slot->bound.mutex);
}
