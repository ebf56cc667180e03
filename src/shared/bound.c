/*
 * bound.c
 *	  Beyond which there is nothing in the log: a bound for who looks for its end.
 *
 *	  from -> to			 when
 *	  nobody knows -> known	 the append lock is taken, and the end was found under it
 *	  known, own above all	 a row is to go in
 *	  known, all as own		 right before that is committed
 *	  known, both as before	 it was rolled back, and the lock is still held
 *	  known -> nobody knows	 the slot is given away, or its database; or a row went in
 *							 whose place is not ours to say
 *
 * What is not known stays so until the lock is taken the next time.
 */
#include "compat.h"

#include "miscadmin.h"
#include "shared/bound.h"
#include "shared/database.h"

/* The bound of this session's database, its mutex taken; or NULL. */
static LogBound *
take(void)
{
	DatabaseSlot *slot = database_mine();

	if (slot == NULL)
		return NULL;
	SpinLockAcquire(&slot->bound.mutex);
	return &slot->bound;
}

static inline void
give_back(LogBound *bound)
{
	SpinLockRelease(&bound->mutex);
}

void
bound_init(DatabaseSlot *slot)
{
	SpinLockInit(&slot->bound.mutex);
	slot->bound.log = InvalidOid;
	slot->bound.holder = 0;
}

void
bound_reset(DatabaseSlot *slot)
{
	SpinLockAcquire(&slot->bound.mutex);
	slot->bound.log = InvalidOid;
	slot->bound.holder = 0;
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
bound_get(Oid log, BoundEnd *end)
{
	LogBound   *bound = take();
	bool		known;

	if (bound == NULL)
		return false;
	known = bound->log == log;
	*end = bound->holder == MyProcPid ? bound->own : bound->all;
	give_back(bound);
	return known;
}

void
bound_begin(Oid log, BoundEnd end)
{
	LogBound   *bound = take();

	if (bound == NULL)
		return;
	bound->log = log;
	bound->holder = MyProcPid;
	bound->all = bound->own = end;
	give_back(bound);
}

void
bound_set_own(BoundEnd end)
{
	LogBound   *bound = take();

	if (bound == NULL)
		return;
	if (bound->holder == MyProcPid)
		bound->own = end;
	give_back(bound);
}

void
bound_raise_own(BoundEnd end)
{
	LogBound   *bound = take();

	if (bound == NULL)
		return;
	if (bound->holder == MyProcPid)
	{
		bound->own.log_index = Max(bound->own.log_index, end.log_index);
		bound->own.epoch = Max(bound->own.epoch, end.epoch);
	}
	give_back(bound);
}

void
bound_publish(void)
{
	LogBound   *bound = take();

	if (bound == NULL)
		return;
	if (bound->holder == MyProcPid)
		bound->all = bound->own;
	give_back(bound);
}

void
bound_end(const BoundEnd *rolled_back_to)
{
	LogBound   *bound = take();

	if (bound == NULL)
		return;
	if (bound->holder == MyProcPid)
	{
		if (rolled_back_to != NULL)
			bound->all = *rolled_back_to;
		bound->holder = 0;
	}
	give_back(bound);
}
