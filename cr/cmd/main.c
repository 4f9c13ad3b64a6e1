#include <string.h>

#include "cmd/cmd.h"
#include "cmd/show.h"

static const struct {
	const char *verb;
	int (*run)(struct cmd_opts *o);
	bool needs_dirs;
} verbs[] = {
	{ "dump",	cmd_dump,	true },
	{ "pre-dump",	cmd_pre_dump,	true },
	{ "restore",	cmd_restore,	true },
	{ "dedup",	cmd_dedup,	true },
	{ "check",	cmd_check,	false },
};

int main(int argc, char **argv)
{
	struct cmd_opts o;
	int r;

	if (argc > 1 && !strcmp(argv[1], "show"))
		return cmd_show(argc - 1, argv + 1);
	r = cmd_parse(argc, argv, &o);
	if (r)
		return r < 0;
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
		if (strcmp(o.verb, verbs[i].verb))
			continue;
		if (o.n_words) {
			fprintf(stderr, "cr: unexpected argument \"%s\"\n", o.words[0]);
			return 1;
		}
		log_init(o.level, -1);
		if (verbs[i].needs_dirs && cmd_open(&o) < 0)
			return 1;
		return verbs[i].run(&o);
	}
	fprintf(stderr, "cr: \"%s\" is not a command; try 'cr --help'\n", o.verb);
	return 1;
}
