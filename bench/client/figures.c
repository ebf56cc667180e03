/*
 * figures.c
 *	  What a run is to measure, time, and what becomes of the figures.
 */
#include "bench.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

BenchSize	bench_size;
int			bench_repeat;

void
die(const char *format, ...)
{
	va_list		args;

	fflush(stdout);
	fputs("calvin_bench: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	_exit(1);
}

int
by_size(int tiny, int quick, int full)
{
	return bench_size == SIZE_TINY ? tiny : bench_size == SIZE_QUICK ? quick : full;
}

int64_t
now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t) now.tv_sec * 1000000000 + now.tv_nsec;
}

void
sleep_us(int us)
{
	struct timespec time = {us / 1000000, us % 1000000 * 1000L};

	nanosleep(&time, NULL);
}

double
rate(double count, int64_t ns)
{
	return ns > 0 ? count * 1e9 / (double) ns : 0;
}

int64_t
process_figure(int pid, const char *field)
{
	size_t		len = strlen(field);
	char		path[64];
	char		line[256];
	char	   *found = NULL;
	FILE	   *file;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	file = fopen(path, "r");
	if (file == NULL)
		die("cannot read %s", path);
	while (found == NULL && fgets(line, sizeof(line), file) != NULL)
	{
		if (strncmp(line, field, len) == 0 && line[len] == ':')
			found = line + len + 1;
	}
	fclose(file);
	if (found == NULL)
		die("no %s in %s", field, path);
	return strtoll(found, NULL, 10);
}

void
figure(double value, const char *format, ...)
{
	va_list		args;

	if (!(value > 0))
		die("%s: a figure of %g", format, value);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\t%.6g\n", value);
	fflush(stdout);
}

void
bench_read_settings(void)
{
	const char *size = getenv("BENCH_SIZE");
	const char *repeat = getenv("BENCH_REPEAT");

	if (size == NULL || strcmp(size, "quick") == 0)
		bench_size = SIZE_QUICK;
	else if (strcmp(size, "tiny") == 0)
		bench_size = SIZE_TINY;
	else if (strcmp(size, "full") == 0)
		bench_size = SIZE_FULL;
	else
		die("BENCH_SIZE is tiny, quick or full, not %s", size);
	bench_repeat = repeat ? atoi(repeat) : 3;
	if (bench_repeat < 1)
		die("BENCH_REPEAT is a number above 0");
}

static int
compare(const void *a, const void *b)
{
	double		x = *(const double *) a;
	double		y = *(const double *) b;

	return (x > y) - (x < y);
}

void
figure_durations(double *us, int n, const char *what)
{
	if (n == 0)
		die("not one sample of %s", what);
	qsort(us, (size_t) n, sizeof(double), compare);
	figure(us[n / 2], "%s.p50", what);
	figure(us[n * 99 / 100], "%s.p99", what);
	figure(us[n - 1], "%s.max", what);
}
