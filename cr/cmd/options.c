/*
 * Options: CRIU's names and meanings (docs/criu-compat.md lists what is not supported). An
 * option that is known but not supported is refused, never ignored, when ignoring it would
 * change the result.
 *
 * There is one way from an option to the engine: the command line, configuration files and
 * requests (rpc_opts.c) all come as words of a command line, through this table.
 */
#include <fcntl.h>
#include <getopt.h>
#include <stdarg.h>
#include <string.h>

#include "cmd/cmd.h"
#include "cmd/option_numbers.h"
#include "util/io.h"

#define SWITCH(name, number)				\
	{ name, no_argument, NULL, number },		\
	{ "no-" name, no_argument, NULL, (number) | OPT_NOT }
#define REFUSED_SWITCH(name)				\
	{ name, no_argument, NULL, OPT_REFUSED },	\
	{ "no-" name, no_argument, NULL, OPT_IGNORED }

static const struct option long_options[] = {
	{ "tree", required_argument, NULL, 't' },
	{ "images-dir", required_argument, NULL, 'D' },
	{ "work-dir", required_argument, NULL, 'W' },
	{ "log-file", required_argument, NULL, 'o' },
	{ "verbosity", optional_argument, NULL, OPT_VERBOSITY },
	{ "pidfile", required_argument, NULL, OPT_PIDFILE },
	{ "timeout", required_argument, NULL, OPT_TIMEOUT },
	SWITCH("leave-running", 'R'),
	SWITCH("leave-stopped", 's'),
	SWITCH("restore-detached", 'd'),
	SWITCH("daemon", 'd'),
	SWITCH("restore-sibling", 'S'),
	SWITCH("tcp-established", OPT_TCP_ESTABLISHED),
	SWITCH("tcp-close", OPT_TCP_CLOSE),
	SWITCH("skip-in-flight", OPT_SKIP_IN_FLIGHT),
	SWITCH("shell-job", 'j'),
	{ "ext-unix-sk", optional_argument, NULL, 'x' },
	{ "no-ext-unix-sk", no_argument, NULL, 'x' | OPT_NOT },
	{ "external", required_argument, NULL, OPT_EXTERNAL },
	{ "ext-mount-map", required_argument, NULL, 'M' },
	{ "veth-pair", required_argument, NULL, OPT_VETH_PAIR },
	{ "inherit-fd", required_argument, NULL, OPT_INHERIT_FD },
	SWITCH("file-locks", 'l'),
	SWITCH("link-remap", OPT_LINK_REMAP),
	{ "ghost-limit", required_argument, NULL, OPT_GHOST_LIMIT },
	{ "manage-cgroups", optional_argument, NULL, OPT_MANAGE_CGROUPS },
	{ "cgroup-root", required_argument, NULL, OPT_CGROUP_ROOT },
	{ "root", required_argument, NULL, 'r' },
	{ "action-script", required_argument, NULL, OPT_ACTION_SCRIPT },
	{ "config", required_argument, NULL, OPT_CONFIG },
	{ "no-default-config", no_argument, NULL, OPT_NO_DEFAULT_CONFIG },
	{ "pre-dump-mode", required_argument, NULL, OPT_PRE_DUMP_MODE },
	{ "file-validation", required_argument, NULL, OPT_FILE_VALIDATION },
	SWITCH("skip-file-rwx-check", OPT_SKIP_MODE_CHECK),
	SWITCH("track-mem", OPT_TRACK_MEM),
	{ "prev-images-dir", required_argument, NULL, OPT_PREV_IMAGES_DIR },
	SWITCH("auto-dedup", OPT_AUTO_DEDUP),
	SWITCH("display-stats", OPT_DISPLAY_STATS),
	{ "network-lock", required_argument, NULL, OPT_NETWORK_LOCK },
	{ "lsm-profile", required_argument, NULL, OPT_LSM_PROFILE },
	{ "empty-ns", required_argument, NULL, OPT_EMPTY_NS },
	{ "cpu-cap", optional_argument, NULL, OPT_CPU_CAP },
	{ "feature", required_argument, NULL, OPT_FEATURE },
	{ "freeze-cgroup", required_argument, NULL, OPT_FREEZE_CGROUP },
	{ "exec-cmd", no_argument, NULL, OPT_EXEC_CMD },
	{ "address", required_argument, NULL, OPT_ADDRESS },
	{ "status-fd", required_argument, NULL, OPT_STATUS_FD },
	{ "close", required_argument, NULL, OPT_CLOSE },
	{ "extra", no_argument, NULL, OPT_EXTRA },
	{ "all", no_argument, NULL, OPT_ALL },
	{ "experimental", no_argument, NULL, OPT_ALL },
	{ "json", no_argument, NULL, OPT_JSON },
	SWITCH("keep-outer-pids", OPT_KEEP_OUTER_PIDS),
	{ "no-time-namespace", no_argument, NULL, OPT_NO_TIME_NS },
	{ "clock-advance", required_argument, NULL, OPT_CLOCK_ADVANCE },
	{ "help", no_argument, NULL, 'h' },
	{ "version", no_argument, NULL, 'V' },
	/* No effect here, each for a reason that docs/criu-compat.md gives. */
	SWITCH("evasive-devices", OPT_IGNORED),
	SWITCH("force-irmap", OPT_IGNORED),
	{ "irmap-scan-path", required_argument, NULL, OPT_IGNORED },
	SWITCH("log-pid", OPT_IGNORED),
	SWITCH("deprecated", OPT_IGNORED),
	SWITCH("ghost-fiemap", OPT_IGNORED),
	SWITCH("unprivileged", OPT_IGNORED),
	SWITCH("weak-sysctls", OPT_IGNORED),
	SWITCH("mntns-compat-mode", OPT_IGNORED),
	SWITCH("enable-external-sharing", OPT_IGNORED),
	SWITCH("enable-external-masters", OPT_IGNORED),
	{ "enable-fs", required_argument, NULL, OPT_IGNORED },
	{ "libdir", required_argument, NULL, 'L' },
	/* option_values.c has the reasons. */
	REFUSED_SWITCH("page-server"),
	REFUSED_SWITCH("lazy-pages"),
	{ "port", required_argument, NULL, OPT_REFUSED },
	{ "ps-socket", required_argument, NULL, OPT_REFUSED },
	REFUSED_SWITCH("tls"),
	{ "tls-cacert", required_argument, NULL, OPT_REFUSED },
	{ "tls-cacrl", required_argument, NULL, OPT_REFUSED },
	{ "tls-cert", required_argument, NULL, OPT_REFUSED },
	{ "tls-key", required_argument, NULL, OPT_REFUSED },
	REFUSED_SWITCH("tls-no-cn-verify"),
	REFUSED_SWITCH("stream"),
	REFUSED_SWITCH("allow-uprobes"),
	{ "join-ns", required_argument, NULL, OPT_REFUSED },
	{ "skip-mnt", required_argument, NULL, OPT_REFUSED },
	{ "lsm-mount-context", required_argument, NULL, OPT_REFUSED },
	{ "cgroup-props", required_argument, NULL, OPT_REFUSED },
	{ "cgroup-props-file", required_argument, NULL, OPT_REFUSED },
	{ "cgroup-dump-controller", required_argument, NULL, OPT_REFUSED },
	{ "cgroup-yard", required_argument, NULL, OPT_REFUSED },
	{ NULL, 0, NULL, 0 },
};

#define SHORT_OPTIONS "t:D:W:o:v::RsdSjlx::r:J:L:M:hV"

int option_wrong(const struct cmd_opts *o, int r, const char *fmt, ...)
{
	char what[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	if (o->rpc)
		return log_fail(r, "%s%s%s", o->config_file ? o->config_file : "",
				o->config_file ? ": " : "", what);
	fprintf(stderr, "cr: %s%s%s\n", o->config_file ? o->config_file : "",
		o->config_file ? ": " : "", what);
	return r;
}

/* How many options begin with this, up to a '=', and the first two. One alone is no abbreviation but that option. */
static size_t names_of(const char *begin, const char *ret[2])
{
	size_t bytes = strcspn(begin, "="), n = 0;

	for (const struct option *l = long_options; l->name; l++)
		if (!strncmp(l->name, begin, bytes) && n++ < 2)
			ret[n - 1] = l->name;
	return n > 1 ? n : 0;
}

/* --NAME=VALUE of a switch that has a letter, too. */
static bool is_long_of(const char *word, int letter)
{
	const size_t bytes = strcspn(word, "=");

	for (const struct option *l = long_options; l->name && word[bytes] && bytes > 2; l++)
		if (l->val == letter && !strncmp(l->name, word + 2, bytes - 2))
			return true;
	return false;
}

/* getopt's own complaints would go past a request's log. */
static int not_understood(const struct cmd_opts *o, int c, const char *word)
{
	int r = o->source == FROM_RPC ? -EBADRQC : -EINVAL;
	const char *names[2];
	size_t n;

	if (c == ':')
		return option_wrong(o, r, "option \"%s\" needs a value", word);
	/* A letter that is none, perhaps among others. */
	if (optopt > 0 && optopt < 256 && !is_long_of(word, optopt))
		return option_wrong(o, r, "unrecognized option \"-%c\"; try 'cr --help'", optopt);
	if (!optopt && !strncmp(word, "--", 2) && word[2] && (n = names_of(word + 2, names)) > 0)
		return option_wrong(o, r, "option \"%s\" could be --%s or --%s%s", word, names[0], names[1],
				    n > ARRAY_SIZE(names) ? " or others" : "");
	return option_wrong(o, r, "%s option \"%s\"; try 'cr --help'",
			    optopt ? "no value goes with" : "unrecognized", word);
}

int cmd_take(struct cmd_opts *o, int argc, char **argv)
{
	int c, r, at;

	optind = 0;
	opterr = 0;
	while (at = -1, (c = getopt_long(argc, argv, ":" SHORT_OPTIONS, long_options, &at)) != -1) {
		if (c == '?' || c == ':')
			return not_understood(o, c, argv[optind - 1]);
		r = option_take(o, c, at >= 0 ? long_options[at].name : NULL, optarg);
		if (r)
			return r;
	}
	return 0;
}

void cmd_opts_init(struct cmd_opts *o)
{
	*o = (struct cmd_opts){ .images_dir = ".", .level = LOGLEVEL_WARN, .images_fd = -EBADF,
				.work_fd = -EBADF, .log_fd = -EBADF, .status_fd = -1,
				.address = "criu_service.socket" };
	o->cr.cgroup_mode = -1;
	o->cr.time_namespace = true;
	o->cr.share_pages = true;
	arena_init(&o->arena);
}

void cmd_opts_done(struct cmd_opts *o)
{
	cmd_close(o);
	arena_done(&o->arena);
}

/*
 * These two must be known before the first file is read, and the files before the other options.
 * In a copy: the words are put in another order, and one that has no value would find one there.
 */
static int find_config(struct cmd_opts *o, int argc, char **argv, const char **ret_file, bool *ret_none)
{
	char **words = arena_memdup(&o->arena, argv, ((size_t)argc + 1) * sizeof(*argv));
	int c;

	optind = 0;
	opterr = 0;
	*ret_file = NULL;
	*ret_none = false;
	if (!words)
		return -ENOMEM;
	while ((c = getopt_long(argc, words, ":" SHORT_OPTIONS, long_options, NULL)) != -1) {
		if (c == OPT_CONFIG)
			*ret_file = optarg;
		if (c == OPT_NO_DEFAULT_CONFIG)
			*ret_none = true;
	}
	return 0;
}

int cmd_parse(int argc, char **argv, struct cmd_opts *o)
{
	const char *config;
	bool none;
	int r;

	cmd_opts_init(o);
	o->source = FROM_FILE;
	r = find_config(o, argc, argv, &config, &none);
	if (r >= 0)
		r = config_take_defaults(o, config, none);
	o->source = FROM_ARGV;
	if (r >= 0)
		r = cmd_take(o, argc, argv);
	if (r)
		return r;
	if (optind >= argc)
		return option_wrong(o, -EINVAL, "no command given; try 'cr --help'");
	o->verb = argv[optind++];
	o->words = argv + optind;
	o->n_words = argc - optind;
	return 0;
}

static int open_dir(const struct cmd_opts *o, const char *what, const char *path, int *ret)
{
	*ret = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (*ret < 0)
		return option_wrong(o, neg_errno(), "cannot open %s directory %s: %m", what, path);
	return 0;
}

int cmd_open_log(struct cmd_opts *o)
{
	close_fdp(&o->log_fd);
	o->log_fd = -EBADF;
	if (o->log_file) {
		o->log_fd = openat(o->work_fd, o->log_file,
				   O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
		if (o->log_fd < 0)
			return option_wrong(o, neg_errno(), "cannot open log file %s: %m",
					    o->log_file);
	}
	log_init(o->level, o->log_fd);
	return 0;
}

int cmd_open(struct cmd_opts *o)
{
	int r = open_dir(o, "images", o->images_dir, &o->images_fd);

	if (r >= 0)
		r = open_dir(o, "work", o->work_dir ? o->work_dir : o->images_dir, &o->work_fd);
	if (r < 0)
		return r;
	if (fchdir(o->work_fd) < 0)
		return neg_errno();
	o->cr.work_dir_fd = o->work_fd;
	o->cr.notify = cmd_notify;
	o->cr.notify_arg = o;
	return cmd_open_log(o);
}

void cmd_close(struct cmd_opts *o)
{
	log_init(o->level, -1);
	close_fdp(&o->images_fd);
	close_fdp(&o->work_fd);
	close_fdp(&o->log_fd);
	o->images_fd = o->work_fd = o->log_fd = -EBADF;
}
