/*
 * standbys.c
 *	  How far the standbys connected to this server have replayed.
 *
 * Read from the walsenders' shared memory: pg_stat_replication shows it only
 * to the privileged.
 */
#include "compat.h"

#include "access/xlogdefs.h"
#include "log/standbys.h"
#include "replication/walsender.h"
#include "replication/walsender_private.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/spin.h"

/* A walsender that decodes for a logical subscriber is in a database. */
static bool
sends_to_standby(pid_t pid)
{
	PGPROC	   *proc = BackendPidGetProc(pid);

	return proc != NULL && !OidIsValid(proc->databaseId);
}

int
standbys_behind(XLogRecPtr lsn, StandbyBehind *furthest)
{
	int			n = 0;

	for (int i = 0; i < max_wal_senders; i++)
	{
		WalSnd	   *sender = &WalSndCtl->walsnds[i];
		pid_t		pid;
		WalSndState state;
		XLogRecPtr	replayed;

		SpinLockAcquire(&sender->mutex);
		pid = sender->pid;
		state = sender->state;
		replayed = sender->apply;
		SpinLockRelease(&sender->mutex);

		/* what only receives WAL, or copies a backup, never says "replayed" */
		if (pid == 0 || state < WALSNDSTATE_CATCHUP ||
			XLogRecPtrIsInvalid(replayed) || replayed >= lsn ||
			!sends_to_standby(pid))
			continue;
		if (n++ == 0 || replayed < furthest->replayed)
		{
			furthest->pid = pid;
			furthest->replayed = replayed;
		}
	}
	return n;
}
