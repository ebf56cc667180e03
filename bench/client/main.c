/*
 * main.c
 *	  The benchmark's client: calvin_bench SECTION.
 *
 * It connects as the PG* variables say, and writes one line "name value" a
 * figure and repetition.
 */
#include "bench.h"

#include <string.h>

static const struct
{
	const char *name;
	void		(*run) (void);
}			sections[] = {
	{"delivery", section_delivery},
	{"peers", section_peers},
	{"end_to_end", section_end_to_end},
	{"latency", section_latency},
	{"append", section_append},
	{"replay", section_replay},
	{"growth", section_growth},
	{"memory", section_memory},
	{"publish", section_publish},
	{"publish_latency", section_publish_latency},
	{"publish_held", section_publish_held},
	{"publish_drain", section_publish_drain},
	{"handler_latency", section_handler_latency},
};

int
main(int argc, char **argv)
{
	bench_read_settings();
	if (argc == 3 && strcmp(argv[1], "catchup_prepare") == 0)
	{
		catchup_prepare(argv[2]);
		return 0;
	}
	if (argc == 3 && strcmp(argv[1], "catchup_release") == 0)
	{
		catchup_release(argv[2]);
		return 0;
	}
	if (argc == 2 && strcmp(argv[1], "catchup_done") == 0)
	{
		catchup_done();
		return 0;
	}
	if (argc > 1 && strcmp(argv[1], "publish_ratio") == 0)
	{
		publish_ratio(argc - 2, argv + 2);
		return 0;
	}
	if (argc > 1 && strncmp(argv[1], "follow_", 7) == 0)
	{
		follow(argc - 1, argv + 1);
		return 0;
	}
	for (int i = 0; argc == 2 && i < lengthof(sections); i++)
	{
		if (strcmp(argv[1], sections[i].name) == 0)
		{
			sections[i].run();
			return 0;
		}
	}
	die("no such section");
}
