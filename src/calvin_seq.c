/*
 * calvin_seq.c
 *	  The library's entry point: one call for each part that has state.
 */
#include "compat.h"

#include "consumer/left_out.h"
#include "fmgr.h"
#include "log/append.h"
#include "log/memory.h"
#include "log/owner.h"
#include "log/submission.h"
#include "miscadmin.h"
#include "process/worker.h"
#include "shared/queue.h"
#include "shared/settings.h"
#include "shared/shmem.h"
#include "shared/wakeup.h"
#include "utils/guc.h"

PG_MODULE_MAGIC;

PGDLLEXPORT void _PG_init(void);

void
_PG_init(void)
{
	memory_init();
	append_init();
	owner_init();
	wakeup_init();
	applier_init();
	queue_init();
	settings_init();
	submission_init();
	left_out_init();
	if (process_shared_preload_libraries_in_progress)
	{
		shmem_init();
		hooks_init();
		/* pg_upgrade wants nobody to write, or to connect, but itself */
		if (!IsBinaryUpgrade)
			launcher_init();
		/* otherwise some settings cannot be defined, and are no mistake */
		MarkGUCPrefixReserved("calvin_seq");
	}
}
