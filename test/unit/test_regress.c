/*
 * test_regress.c
 *	  Inputs that once made a fuzzer's check fail, or that were written because
 *	  they might: test/fuzz/regress/<check>/.
 */
#include <glob.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "support.h"
#include "tap.h"

static void
test_directory(const char *name, FuzzCheck check)
{
	const char *dir = getenv("REGRESS");
	char		pattern[1024];
	glob_t		found = {0};

	snprintf(pattern, sizeof(pattern), "%s/%s/*",
			 dir != NULL ? dir : "../fuzz/regress", name);
	ok(glob(pattern, 0, NULL, &found) == 0, "there are inputs for %s", name);
	for (size_t i = 0; i < found.gl_pathc; i++)
	{
		size_t		len;
		uint8_t    *data = read_file(found.gl_pathv[i], &len);
		const char *wrong = check(data, len);

		if (!ok(wrong == NULL, "%s: %s", name,
				strrchr(found.gl_pathv[i], '/') + 1))
			diag("%s", wrong);
		free(data);
	}
	globfree(&found);
}

int
main(void)
{
	test_directory("codec", codec_check);
	test_directory("machine", machine_check);
	return done();
}
