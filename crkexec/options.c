#include <getopt.h>
#include <stdarg.h>
#include <string.h>

#include "crkexec/options.h"

static const char usage_text[] =
"crkexec --services A,B [OPTIONS]         replace the kernel, keep these services running\n"
"crkexec check --services A,B [OPTIONS]   say what stands in the way, change nothing\n"
"crkexec status [--json]                  the last upgrade, or the one under way\n"
"crkexec recover                          undo what an interrupted upgrade has left\n"
"\n"
"  -s, --services LIST   systemd services, separated by commas\n"
"  -k, --kernel WHICH    version or path of the new kernel; default: the newest installed\n"
"  -i, --initrd PATH     the distribution's initrd, with crkexec's dracut module, carries the\n"
"                        early program; default: an initramfs made for this upgrade\n"
"  -a, --append ARGS     added to the new kernel's command line\n"
"      --store STORE     where images live: auto (default), tmpfs, pmem\n"
"      --no-pre-dump     copy no memory while the services run, all of it in the pause\n"
"  -n, --dry-run         up to loading the kernel, which is unloaded again\n"
"  -j, --json            the result as JSON on standard output\n"
"  -v, --verbose         the log on standard error\n"
"  -h, --help            this text\n"
"  -V, --version\n"
"\n"
"Exit status: 0 done; 1 refused or failed, nothing is changed; 2 wrong usage; 3 failed and not\n"
"all of it could be undone. status: 0 all units adopted, 1 not all of them. See crkexec(8).\n";

static const struct {
	const char *name;
	enum verb verb;
} verbs[] = {
	{ "check", VERB_CHECK }, { "status", VERB_STATUS }, { "recover", VERB_RECOVER },
	{ "finish", VERB_FINISH },
};

enum { OPT_STORE = 256, OPT_GUARD, OPT_NO_PRE_DUMP };

static const struct option long_options[] = {
	{ "services", required_argument, NULL, 's' }, { "kernel", required_argument, NULL, 'k' },
	{ "initrd", required_argument, NULL, 'i' },   { "append", required_argument, NULL, 'a' },
	{ "store", required_argument, NULL, OPT_STORE },
	{ "no-pre-dump", no_argument, NULL, OPT_NO_PRE_DUMP },
	{ "guard", no_argument, NULL, OPT_GUARD },    { "dry-run", no_argument, NULL, 'n' },
	{ "json", no_argument, NULL, 'j' },	      { "verbose", no_argument, NULL, 'v' },
	{ "help", no_argument, NULL, 'h' },	      { "version", no_argument, NULL, 'V' },
	{ NULL, 0, NULL, 0 }
};

static int wrong(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static int wrong(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fputs("crkexec: ", stderr);
	vfprintf(stderr, fmt, ap);
	fputs(" (see crkexec --help)\n", stderr);
	va_end(ap);
	return -EINVAL;
}

static int add_services(struct options *opt, const char *list)
{
	_cleanup_free_ char *copy = strdup(list);
	char *save = NULL;

	if (!copy)
		return -ENOMEM;
	for (char *s = strtok_r(copy, ",", &save); s; s = strtok_r(NULL, ",", &save))
		if (strv_add(&opt->services, s) < 0)
			return -ENOMEM;
	return 0;
}

static int set_store(struct options *opt, const char *name)
{
	static const char *const names[] = { "auto", "tmpfs", "pmem" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (!strcmp(name, names[i])) {
			opt->store = (enum store_choice)i;
			return 0;
		}
	return wrong("there is no store \"%s\": auto, tmpfs or pmem", name);
}

static int parse_option(struct options *opt, int c)
{
	switch (c) {
	case 's':
		return add_services(opt, optarg);
	case 'k':
		opt->kernel = optarg;
		return 0;
	case 'i':
		opt->initrd = optarg;
		return 0;
	case 'a':
		opt->append = optarg;
		return 0;
	case OPT_STORE:
		return set_store(opt, optarg);
	case OPT_NO_PRE_DUMP:
		opt->no_pre_dump = true;
		return 0;
	case OPT_GUARD:
		opt->guard = true;
		return 0;
	case 'n':
		opt->dry_run = true;
		return 0;
	case 'j':
		opt->json = true;
		return 0;
	case 'v':
		opt->verbose = true;
		return 0;
	case 'h':
		fputs(usage_text, stdout);
		return 1;
	case 'V':
		puts("crkexec " VERSION);
		return 1;
	}
	return -EINVAL;	/* getopt has said what */
}

static int parse_rest(struct options *opt, int argc, char **argv)
{
	if (optind < argc) {
		bool found = false;

		for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
			if (!strcmp(argv[optind], verbs[i].name)) {
				opt->verb = verbs[i].verb;
				found = true;
			}
		if (!found)
			return wrong("there is no command \"%s\"", argv[optind]);
		optind++;
	}
	/* The guard names its upgrade, so that an operator sees it in the process list. */
	if (opt->verb == VERB_RECOVER && optind < argc)
		optind++;
	if (optind < argc)
		return wrong("\"%s\" is too much", argv[optind]);
	if ((opt->verb == VERB_UPGRADE || opt->verb == VERB_CHECK) && !opt->services.n)
		return wrong("which services? --services A,B");
	if (opt->append && strchr(opt->append, '\n'))
		return wrong("--append: a line break");
	return 0;
}

int options_parse(int argc, char **argv, struct options *opt)
{
	int c, r;

	*opt = (struct options){ .verb = VERB_UPGRADE };
	optind = 0;
	while ((c = getopt_long(argc, argv, "s:k:i:a:njvhV", long_options, NULL)) != -1) {
		r = parse_option(opt, c);
		if (r != 0) {
			options_done(opt);
			return r;
		}
	}
	r = parse_rest(opt, argc, argv);
	if (r != 0)
		options_done(opt);
	return r;
}

void options_done(struct options *opt)
{
	strv_done(&opt->services);
}
