/*
 * pgbench.c
 *	  Runs pgbench with a script, and reads from its log what it did when.
 *
 * The log has a line a transaction, with the time at which its COMMIT was
 * answered: so a rate can leave out the warming up (hundreds of sessions that
 * fill their caches), and a delay can start at the very last commit.
 */
#include "pgbench.h"

#include <glob.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* A run that is only to work. */
#define FEW_TRANSACTIONS "20"

/* Where the files are that a run leaves. */
static const char *
directory(void)
{
	const char *dir = getenv("TMPDIR");

	return dir ? dir : "/tmp";
}

int64_t
real_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t) now.tv_sec * 1000000000 + now.tv_nsec;
}

static void
write_script(const char *path, const char *script)
{
	FILE	   *file = fopen(path, "w");

	if (file == NULL || fputs(script, file) < 0 || fclose(file) != 0)
		die("cannot write %s", path);
}

pid_t
pgbench_start(const char *script, int clients, int seconds)
{
	const char *program = getenv("BENCH_PGBENCH");
	char		path[300];
	char		prefix[330];
	char		output[300];
	char		connections[12];
	char		time[12];
	pid_t		pid;

	if (program == NULL)
		program = "pgbench";
	snprintf(path, sizeof(path), "%s/pgbench.sql", directory());
	snprintf(prefix, sizeof(prefix), "--log-prefix=%s/pgbench.log", directory());
	snprintf(output, sizeof(output), "%s/pgbench.out", directory());
	snprintf(connections, sizeof(connections), "%d", clients);
	snprintf(time, sizeof(time), "%d", seconds);
	write_script(path, script);
	fflush(stdout);
	pid = fork();
	if (pid < 0)
		die("cannot start a process");
	if (pid == 0)
	{
		if (freopen(output, "w", stdout) == NULL || dup2(1, 2) < 0)
			die("cannot write %s", output);
		execlp(program, program, "--no-vacuum", "--protocol=prepared", "--log", prefix,
			   "--client", connections, "--jobs", clients < 4 ? "1" : "2",
			   "--file", path, "--define", "n=0", seconds > 0 ? "--time" : "--transactions",
			   seconds > 0 ? time : FEW_TRANSACTIONS, "bench", NULL);
		die("cannot run %s", program);
	}
	return pid;
}

/* What it said is of use only if it failed. */
void
pgbench_wait(pid_t pid)
{
	char		path[300];
	char		line[400];
	int			status;
	FILE	   *file;

	if (waitpid(pid, &status, 0) == pid && status == 0)
		return;
	snprintf(path, sizeof(path), "%s/pgbench.out", directory());
	file = fopen(path, "r");
	while (file && fgets(line, sizeof(line), file))
		fputs(line, stderr);
	die("pgbench failed");
}

static int
compare(const void *a, const void *b)
{
	int64_t		x = *(const int64_t *) a;
	int64_t		y = *(const int64_t *) b;

	return (x > y) - (x < y);
}

/* When each transaction ended, ascending, of all threads' logs; to be freed. */
static int64_t *
read_logs(size_t *count)
{
	char		pattern[300];
	char		line[200];
	glob_t		logs;
	size_t		size = 1024;
	int64_t    *ends = malloc(size * sizeof(int64_t));

	*count = 0;
	snprintf(pattern, sizeof(pattern), "%s/pgbench.log.*", directory());
	if (ends == NULL || glob(pattern, 0, NULL, &logs) != 0)
		die("pgbench has left no log");
	for (size_t i = 0; i < logs.gl_pathc; i++)
	{
		FILE	   *file = fopen(logs.gl_pathv[i], "r");

		if (file == NULL)
			die("cannot read %s", logs.gl_pathv[i]);
		while (fgets(line, sizeof(line), file))
		{
			int64_t		seconds;
			int64_t		us;

			if (sscanf(line, "%*d %*d %*d %*d %" SCNd64 " %" SCNd64, &seconds, &us) != 2)
				die("a line of pgbench's log is not understood: %s", line);
			if (*count == size)
			{
				size *= 2;
				ends = realloc(ends, size * sizeof(int64_t));
				if (ends == NULL)
					die("out of memory");
			}
			ends[(*count)++] = seconds * 1000000000 + us * 1000;
		}
		fclose(file);
		unlink(logs.gl_pathv[i]);
	}
	globfree(&logs);
	qsort(ends, *count, sizeof(int64_t), compare);
	return ends;
}

PgbenchRun
pgbench_result(int warm_ms, int least_ms)
{
	PgbenchRun	run = {0};
	int64_t    *ends;
	size_t		count;
	size_t		first = 0;

	ends = read_logs(&count);
	if (count == 0)
	{
		free(ends);
		return run;
	}
	while (first < count - 1 && ends[first] < ends[0] + (int64_t) warm_ms * 1000000)
		first++;
	run.transactions = (int64_t) count;
	run.last_commit = ends[count - 1];
	if (run.last_commit - ends[first] >= (int64_t) least_ms * 1000000)
		run.rate = rate((double) (count - 1 - first), run.last_commit - ends[first]);
	free(ends);
	return run;
}

int
pgbench_slices(int slice_ms, double *rates, int max)
{
	int64_t		slice = (int64_t) slice_ms * 1000000;
	int64_t    *ends;
	size_t		count;
	size_t		at = 0;
	int			slices;

	ends = read_logs(&count);
	if (count == 0)
		die("pgbench has done nothing");
	/* a last slice that is not whole is none */
	slices = (int) ((ends[count - 1] - ends[0]) / slice);
	if (slices > max)
		slices = max;
	for (int i = 0; i < slices; i++)
	{
		size_t		begin = at;

		while (at < count && ends[at] < ends[0] + (i + 1) * slice)
			at++;
		rates[i] = rate((double) (at - begin), slice);
	}
	free(ends);
	return slices;
}
