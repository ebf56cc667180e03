/*
 * replayed.c
 *	  Which entries of the log the connected standbys have replayed.
 *
 * The page that an entry is on tells: nothing on it is behind the page's LSN in WAL.  But
 * who has just removed the entries in front of it has changed that page.  So where the
 * log ended at an LSN is remembered in passing, and counts once the standbys are there;
 * for who comes back again and again, that is what he goes by.
 */
#include "compat.h"

#include "access/xlog.h"
#include "log/append.h"
#include "log/replayed.h"
#include "log/standbys.h"
#include "log/table.h"

/* Entries up to one were in WAL before an LSN; 0: nothing is known. */
typedef struct Mark
{
	uint64		index;
	XLogRecPtr	lsn;
} Mark;

static Oid	marked_log = InvalidOid;
static Mark known;				/* one that standbys have passed, or might have */
static Mark pending;			/* a later one */

void
replayed_look(Replayed *replayed)
{
	StandbyBehind standby;
	Oid			log = log_table_require()->log;

	if (log != marked_log)
		known = pending = (Mark) {0, InvalidXLogRecPtr};
	marked_log = log;
	replayed->lsn = InvalidXLogRecPtr;
	replayed->index = 0;
	if (standbys_behind((XLogRecPtr) PG_UINT64_MAX, &standby) == 0)
		return;
	replayed->lsn = standby.replayed;
	if (pending.index > 0 && pending.lsn <= replayed->lsn)
	{
		replayed_note(pending.index, pending.lsn);
		pending.index = 0;
	}
	if (pending.index == 0)
	{
		/* first the end, which is committed: whatever is in WAL then has it */
		pending.index = (uint64) append_committed_end();
		pending.lsn = GetXLogInsertRecPtr();
	}
	if (known.index > 0 && known.lsn <= replayed->lsn)
		replayed->index = known.index;
}

void
replayed_note(uint64 log_index, XLogRecPtr lsn)
{
	if (log_index > known.index)
		known = (Mark) {log_index, lsn};
}

XLogRecPtr
replayed_lsn(uint64 log_index, XLogRecPtr page)
{
	return log_index <= known.index ? Min(known.lsn, page) : page;
}
