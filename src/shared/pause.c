/*
 * pause.c
 *	  Named points at which a test can stop a process, to make a race happen.
 *
 * Everything is polled: a process that has stopped may hold any lock, so it
 * can rely on none.
 */
#include "compat.h"

#ifdef CALVIN_PAUSE_POINTS

#include "postmaster/postmaster.h"
#include "shared/pause.h"
#include "storage/ipc.h"
#include "storage/pmsignal.h"
#include "storage/shmem.h"
#include "storage/spin.h"
#include "utils/builtins.h"

#define MAX_POINTS 16
#define POLL_US 500

typedef struct PausePoint
{
	char		name[NAMEDATALEN]; /* empty: not armed */
	int			only;	 /* stops this pid, 0: anybody */
	int			skip;	 /* so many pass before one stops */
	int			stopped; /* pid of who stands here, 0: nobody */
} PausePoint;

typedef struct PausePoints
{
	slock_t		mutex;
	pg_atomic_uint32 armed; /* how many, so that the others cost nothing */
	PausePoint	points[MAX_POINTS];
} PausePoints;

static PausePoints *Pause = NULL;

CALVIN_FUNCTION(calvin_pause_arm);
CALVIN_FUNCTION(calvin_pause_wait);
CALVIN_FUNCTION(calvin_pause_release);

Size
pause_shmem_size(void)
{
	return sizeof(PausePoints);
}

void
pause_shmem_init(void)
{
	bool		found;

	Pause = ShmemInitStruct("calvin_seq pause points", sizeof(PausePoints), &found);
	if (found)
		return;
	memset(Pause, 0, sizeof(PausePoints));
	SpinLockInit(&Pause->mutex);
	pg_atomic_init_u32(&Pause->armed, 0);
}

/* The point of a name, or with NULL a free one; the mutex is held. */
static PausePoint *
find_point(const char *name)
{
	for (int i = 0; i < MAX_POINTS; i++)
		if (strcmp(Pause->points[i].name, name == NULL ? "" : name) == 0)
			return &Pause->points[i];
	return NULL;
}

/* Does this process have to stop there? */
static bool
must_stop(const char *name, bool arriving)
{
	PausePoint *point;
	bool		stop = false;

	SpinLockAcquire(&Pause->mutex);
	point = find_point(name);
	if (point != NULL && (point->only == 0 || point->only == MyProcPid) &&
		(point->stopped == 0 || point->stopped == MyProcPid))
	{
		if (arriving && point->skip > 0)
			point->skip--;
		else
		{
			point->stopped = MyProcPid;
			stop = true;
		}
	}
	SpinLockRelease(&Pause->mutex);
	return stop;
}

void
pause_point(const char *name)
{
	bool		arriving = true;

	if (Pause == NULL || pg_atomic_read_u32(&Pause->armed) == 0)
		return;
	while (must_stop(name, arriving))
	{
		arriving = false;
		pg_usleep(POLL_US);
		if (!PostmasterIsAlive())
			proc_exit(1);
		if (InterruptHoldoffCount == 0 && CritSectionCount == 0)
			CHECK_FOR_INTERRUPTS();
	}
}

static void
require_points(void)
{
	if (Pause == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("calvin_seq is not in shared_preload_libraries")));
}

/* calvin_pause_arm(name text, pid int, skip int): 0 is any process */
Datum
calvin_pause_arm(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	PausePoint *point;

	require_points();
	SpinLockAcquire(&Pause->mutex);
	point = find_point(name);
	if (point == NULL)
	{
		point = find_point(NULL);
		if (point != NULL)
			pg_atomic_fetch_add_u32(&Pause->armed, 1);
	}
	if (point != NULL)
	{
		strlcpy(point->name, name, sizeof(point->name));
		point->only = PG_GETARG_INT32(1);
		point->skip = PG_GETARG_INT32(2);
		point->stopped = 0;
	}
	SpinLockRelease(&Pause->mutex);
	if (point == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("too many pause points are armed")));
	PG_RETURN_VOID();
}

/* calvin_pause_wait(name text, timeout_ms int) -> pid of who stands there, null: nobody came */
Datum
calvin_pause_wait(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	int64		left = (int64) PG_GETARG_INT32(1) * 1000;

	require_points();
	for (; left > 0; left -= POLL_US)
	{
		PausePoint *point;
		int			pid;

		SpinLockAcquire(&Pause->mutex);
		point = find_point(name);
		pid = point == NULL ? 0 : point->stopped;
		SpinLockRelease(&Pause->mutex);
		if (pid != 0)
			PG_RETURN_INT32(pid);
		pg_usleep(POLL_US);
		CHECK_FOR_INTERRUPTS();
	}
	PG_RETURN_NULL();
}

/* calvin_pause_release(name text): nobody stops there any more */
Datum
calvin_pause_release(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	PausePoint *point;

	require_points();
	SpinLockAcquire(&Pause->mutex);
	point = find_point(name);
	if (point != NULL)
	{
		memset(point, 0, sizeof(*point));
		pg_atomic_fetch_sub_u32(&Pause->armed, 1);
	}
	SpinLockRelease(&Pause->mutex);
	PG_RETURN_BOOL(point != NULL);
}

#endif
