#include <signal.h>
#include <string.h>

#include "cmd/cmd.h"
#include "cmd/show.h"

static const struct {
	const char *verb;
	int (*run)(struct cmd_opts *o);
	bool needs_dirs;
	int max_words;
} verbs[] = {
	{ "dump",	cmd_dump,	true,	0 },
	{ "pre-dump",	cmd_pre_dump,	true,	0 },
	{ "restore",	cmd_restore,	true,	0 },
	{ "dedup",	cmd_dedup,	true,	0 },
	{ "cpuinfo",	cmd_cpuinfo,	true,	1 },
	{ "check",	cmd_check,	false,	0 },
	{ "service",	cmd_service,	false,	0 },
	{ "swrk",	cmd_swrk,	false,	1 },
};

/* CRIU's, or not where it may stand. */
static const struct {
	const char *verb, *why_not;
} others[] = {
	{ "page-server",	"is not supported: pages are written to a directory only" },
	{ "lazy-pages",		"is not supported: pages are restored before the tree runs" },
	{ "show",		"must be the first word: cr show [--json] FILE|DIR..." },
};

static int run_verb(struct cmd_opts *o)
{
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
		if (strcmp(o->verb, verbs[i].verb))
			continue;
		if (o->n_words > verbs[i].max_words && !o->exec_cmd) {
			fprintf(stderr, "cr: unexpected argument \"%s\"\n",
				o->words[verbs[i].max_words]);
			return 1;
		}
		if (o->exec_cmd && strcmp(o->verb, "restore")) {
			fprintf(stderr, "cr: --exec-cmd is for restore only\n");
			return 1;
		}
		log_init(o->level, -1);
		if (verbs[i].needs_dirs && cmd_open(o) < 0)
			return 1;
		return verbs[i].run(o);
	}
	for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
		if (strcmp(o->verb, others[i].verb))
			continue;
		fprintf(stderr, "cr: %s %s\n", o->verb, others[i].why_not);
		return 1;
	}
	fprintf(stderr, "cr: \"%s\" is not a command; try 'cr --help'\n", o->verb);
	return 1;
}

int main(int argc, char **argv)
{
	struct cmd_opts o;
	int r;

	/* Whoever calls us may ignore it, which we would inherit: then no child can be waited for. */
	signal(SIGCHLD, SIG_DFL);
	if (argc > 1 && !strcmp(argv[1], "show"))
		return cmd_show(argc - 1, argv + 1);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	r = cmd_parse(argc, argv, &o);
	r = r ? r < 0 : run_verb(&o);
	cmd_opts_done(&o);
	return r;
}
