/*
 * tap.h
 *	  Just enough of the Test Anything Protocol.
 */
#ifndef CALVIN_TEST_TAP_H
#define CALVIN_TEST_TAP_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

static int	tap_tests = 0;
static int	tap_failures = 0;

/* One test; the rest is its name, as for printf. */
__attribute__((format(printf, 2, 3))) static inline bool
ok(bool passed, const char *format, ...)
{
	va_list		args;

	printf("%sok %d - ", passed ? "" : "not ", ++tap_tests);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
	if (!passed)
	{
		tap_failures++;
		fflush(stdout);
	}
	return passed;
}

/* A remark, usually on what a failure saw. */
__attribute__((format(printf, 1, 2))) static inline void
diag(const char *format, ...)
{
	va_list		args;

	printf("# ");
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
}

static inline bool
is_u64(unsigned long long got, unsigned long long wanted, const char *name)
{
	if (!ok(got == wanted, "%s", name))
	{
		diag("got    %llu", got);
		diag("wanted %llu", wanted);
		return false;
	}
	return true;
}

/* The plan, and what main() returns. */
static inline int
done(void)
{
	printf("1..%d\n", tap_tests);
	if (tap_failures > 0)
		diag("%d of %d failed", tap_failures, tap_tests);
	return tap_failures > 0;
}

#endif							/* CALVIN_TEST_TAP_H */
