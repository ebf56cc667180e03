/*
 * follower.c
 *	  Of a database that follows another server's log: that it does, and how.
 *
 * The gate is one word: how often the row of seq_following may have changed, and
 * below that what is known of it.
 *
 *	   UNKNOWN --found_open--> OPEN			whoever looked at the table, unless the
 *		  ^						|			word has changed since he began to
 *		  |						|
 *		  +--- forget_gate -----+--close_gate--> CLOSING --forget_gate--> UNKNOWN
 *
 * Who changes the row holds the append lock and forgets at his commit, when others
 * see the row, or when that is rolled back, to a savepoint perhaps: in any case before
 * the lock is released.  So whoever holds that lock may rely on OPEN, and nobody opens
 * the gate that another one has closed.  A submission holds no lock: it counts itself first and looks at the gate
 * then, as seq_follow() closes the gate first and looks at the count then.
 */
#include "compat.h"

#include <limits.h>

#include "mb/pg_wchar.h"
#include "shared/database.h"
#include "shared/follower.h"
#include "utils/timestamp.h"

#define GATE_BITS 2
#define GATE_MASK ((UINT64CONST(1) << GATE_BITS) - 1)

void
follower_init(DatabaseSlot *slot)
{
	FollowerSlot *follower = &slot->follower;

	pg_atomic_init_u64(&follower->gate, GATE_UNKNOWN);
	pg_atomic_init_u32(&follower->state, FOLLOWER_NONE);
	pg_atomic_init_u64(&follower->source_index, 0);
	pg_atomic_init_u64(&follower->acks, 0);
}

void
follower_reset(DatabaseSlot *slot)
{
	FollowerSlot *follower = &slot->follower;

	follower_forget_gate(slot);
	pg_atomic_write_u32(&follower->state, FOLLOWER_NONE);
	pg_atomic_write_u64(&follower->source_index, 0);
	memset(&follower->told, 0, sizeof(follower->told));
}

FollowerGate
follower_gate(DatabaseSlot *slot, uint64 *word)
{
	*word = pg_atomic_read_u64(&slot->follower.gate);
	return (FollowerGate) (*word & GATE_MASK);
}

void
follower_found_open(DatabaseSlot *slot, uint64 word)
{
	if ((word & GATE_MASK) == GATE_UNKNOWN)
		(void) pg_atomic_compare_exchange_u64(&slot->follower.gate, &word,
											  word | GATE_OPEN);
}

static void
set_gate(DatabaseSlot *slot, FollowerGate gate)
{
	uint64		word = pg_atomic_read_u64(&slot->follower.gate);

	while (!pg_atomic_compare_exchange_u64(&slot->follower.gate, &word,
										   ((word | GATE_MASK) + 1) | gate))
		continue;
}

void
follower_close_gate(DatabaseSlot *slot)
{
	set_gate(slot, GATE_CLOSING);
}

void
follower_forget_gate(DatabaseSlot *slot)
{
	set_gate(slot, GATE_UNKNOWN);
}

void
follower_set_state(DatabaseSlot *slot, FollowerState state)
{
	pg_atomic_write_u32(&slot->follower.state, state);
}

void
follower_set_source_index(DatabaseSlot *slot, uint64 log_index)
{
	pg_atomic_write_u64(&slot->follower.source_index, log_index);
}

void
follower_set_host(DatabaseSlot *slot, const char *host)
{
	int			len = pg_mbcliplen(host, (int) Min(strlen(host), INT_MAX),
								   FOLLOWER_HOST_LEN - 1);

	LWLockAcquire(Calvin->lock, LW_EXCLUSIVE);
	memcpy(slot->follower.told.host, host, len);
	slot->follower.told.host[len] = '\0';
	LWLockRelease(Calvin->lock);
}

void
follower_set_error(DatabaseSlot *slot, const char *message)
{
	TimestampTz now = GetCurrentTimestamp();

	LWLockAcquire(Calvin->lock, LW_EXCLUSIVE);
	database_copy_error(slot->follower.told.error, message);
	slot->follower.told.error_at = now;
	LWLockRelease(Calvin->lock);
}

void
follower_set_proved(DatabaseSlot *slot, uint64 log_index)
{
	TimestampTz now = GetCurrentTimestamp();

	LWLockAcquire(Calvin->lock, LW_EXCLUSIVE);
	slot->follower.told.proved_index = log_index;
	slot->follower.told.proved_at = now;
	LWLockRelease(Calvin->lock);
}

void
follower_note_stored(DatabaseSlot *slot, uint64 rows, uint64 bytes,
					 TimestampTz appended_at)
{
	LWLockAcquire(Calvin->lock, LW_EXCLUSIVE);
	slot->follower.told.rows += rows;
	slot->follower.told.bytes += bytes;
	slot->follower.told.appended_at = appended_at;
	LWLockRelease(Calvin->lock);
}

void
follower_tell_acks(DatabaseSlot *slot)
{
	(void) pg_atomic_fetch_add_u64(&slot->follower.acks, 1);
	database_wake_sequencer(slot);
}

uint64
follower_acks(DatabaseSlot *slot)
{
	return pg_atomic_read_u64(&slot->follower.acks);
}

void
follower_view(DatabaseSlot *slot, FollowerView *view)
{
	const FollowerTold *told = &slot->follower.told;

	LWLockAcquire(Calvin->lock, LW_SHARED);
	view->state = (FollowerState) pg_atomic_read_u32(&slot->follower.state);
	view->source_index = pg_atomic_read_u64(&slot->follower.source_index);
	view->proved_index = told->proved_index;
	view->proved_at = told->proved_at;
	view->rows = told->rows;
	view->bytes = told->bytes;
	view->appended_at = told->appended_at;
	view->error_at = told->error_at;
	memcpy(view->host, told->host, sizeof(view->host));
	memcpy(view->error, told->error, sizeof(view->error));
	LWLockRelease(Calvin->lock);
}
