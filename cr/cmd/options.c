/*
 * Options: CRIU's names and meanings (docs/criu-compat.md lists what is not supported). An
 * option that is known but not supported is refused, never ignored, when ignoring it would
 * change the result.
 */
#include <fcntl.h>
#include <getopt.h>
#include <string.h>
#include <sys/stat.h>

#include "cmd/cmd.h"
#include "cmd/show.h"
#include "util/io.h"

enum long_only {
	OPT_PIDFILE = 256, OPT_TIMEOUT, OPT_VERBOSITY, OPT_TCP_ESTABLISHED, OPT_TCP_CLOSE,
	OPT_SKIP_IN_FLIGHT, OPT_EXTERNAL, OPT_INHERIT_FD, OPT_LINK_REMAP, OPT_GHOST_LIMIT,
	OPT_MANAGE_CGROUPS, OPT_CGROUP_ROOT, OPT_ACTION_SCRIPT, OPT_NO_DEFAULT_CONFIG,
	OPT_PRE_DUMP_MODE, OPT_NETWORK_LOCK, OPT_FEATURE, OPT_FREEZE_CGROUP, OPT_EXTRA, OPT_ALL,
	OPT_TRACK_MEM, OPT_PREV_IMAGES_DIR, OPT_AUTO_DEDUP,
	OPT_IGNORED, OPT_UNSUPPORTED, OPT_UNSUPPORTED_ARG, OPT_NO_TIME_NS, OPT_CLOCK_ADVANCE, OPT_JSON,
};

static const struct option long_options[] = {
	{ "tree", required_argument, NULL, 't' },
	{ "images-dir", required_argument, NULL, 'D' },
	{ "work-dir", required_argument, NULL, 'W' },
	{ "log-file", required_argument, NULL, 'o' },
	{ "verbosity", optional_argument, NULL, OPT_VERBOSITY },
	{ "pidfile", required_argument, NULL, OPT_PIDFILE },
	{ "timeout", required_argument, NULL, OPT_TIMEOUT },
	{ "leave-running", no_argument, NULL, 'R' },
	{ "leave-stopped", no_argument, NULL, 's' },
	{ "restore-detached", no_argument, NULL, 'd' },
	{ "daemon", no_argument, NULL, 'd' },
	{ "restore-sibling", no_argument, NULL, 'S' },
	{ "tcp-established", no_argument, NULL, OPT_TCP_ESTABLISHED },
	{ "tcp-close", no_argument, NULL, OPT_TCP_CLOSE },
	{ "skip-in-flight", no_argument, NULL, OPT_SKIP_IN_FLIGHT },
	{ "shell-job", no_argument, NULL, 'j' },
	{ "ext-unix-sk", optional_argument, NULL, 'x' },
	{ "external", required_argument, NULL, OPT_EXTERNAL },
	{ "inherit-fd", required_argument, NULL, OPT_INHERIT_FD },
	{ "file-locks", no_argument, NULL, 'l' },
	{ "link-remap", no_argument, NULL, OPT_LINK_REMAP },
	{ "ghost-limit", required_argument, NULL, OPT_GHOST_LIMIT },
	{ "manage-cgroups", optional_argument, NULL, OPT_MANAGE_CGROUPS },
	{ "cgroup-root", required_argument, NULL, OPT_CGROUP_ROOT },
	{ "root", required_argument, NULL, 'r' },
	{ "action-script", required_argument, NULL, OPT_ACTION_SCRIPT },
	{ "no-default-config", no_argument, NULL, OPT_NO_DEFAULT_CONFIG },
	{ "pre-dump-mode", required_argument, NULL, OPT_PRE_DUMP_MODE },
	{ "track-mem", no_argument, NULL, OPT_TRACK_MEM },
	{ "prev-images-dir", required_argument, NULL, OPT_PREV_IMAGES_DIR },
	{ "auto-dedup", no_argument, NULL, OPT_AUTO_DEDUP },
	{ "network-lock", required_argument, NULL, OPT_NETWORK_LOCK },
	{ "feature", required_argument, NULL, OPT_FEATURE },
	{ "freeze-cgroup", required_argument, NULL, OPT_FREEZE_CGROUP },
	{ "extra", no_argument, NULL, OPT_EXTRA },
	{ "all", no_argument, NULL, OPT_ALL },
	{ "experimental", no_argument, NULL, OPT_ALL },
	{ "json", no_argument, NULL, OPT_JSON },
	{ "no-time-namespace", no_argument, NULL, OPT_NO_TIME_NS },
	{ "clock-advance", required_argument, NULL, OPT_CLOCK_ADVANCE },
	{ "help", no_argument, NULL, 'h' },
	{ "version", no_argument, NULL, 'V' },
	/* No effect here: what they permit is always done, or cannot happen. */
	{ "evasive-devices", no_argument, NULL, OPT_IGNORED },
	{ "force-irmap", no_argument, NULL, OPT_IGNORED },
	{ "log-pid", no_argument, NULL, OPT_IGNORED },
	{ "display-stats", no_argument, NULL, OPT_IGNORED },
	{ "deprecated", no_argument, NULL, OPT_IGNORED },
	{ "ghost-fiemap", no_argument, NULL, OPT_IGNORED },
	{ "page-server", no_argument, NULL, OPT_UNSUPPORTED },
	{ "lazy-pages", no_argument, NULL, OPT_UNSUPPORTED },
	{ "stream", no_argument, NULL, OPT_UNSUPPORTED },
	{ "join-ns", required_argument, NULL, OPT_UNSUPPORTED_ARG },
	{ "empty-ns", required_argument, NULL, OPT_UNSUPPORTED_ARG },
	{ "exec-cmd", no_argument, NULL, OPT_UNSUPPORTED },
	{ "config", required_argument, NULL, OPT_UNSUPPORTED_ARG },
	{ NULL, 0, NULL, 0 },
};

void cmd_usage(FILE *to)
{
	fputs("Usage: cr dump -t PID [-D DIR] [options]\n"
	      "       cr pre-dump -t PID [-D DIR] [options]\n"
	      "       cr restore [-D DIR] [options]\n"
	      "       cr check [-t PID] [--feature NAME] [--extra] [--all]\n"
	      "       cr dedup [-D DIR]\n"
	      "       cr show [--json] FILE|DIR...\n"
	      "\n"
	      "  -t, --tree PID           root of the tree to dump or check; again: another, with it\n"
	      "  -D, --images-dir DIR     images (default: .)\n"
	      "  -W, --work-dir DIR       log and pid file (default: the images directory)\n"
	      "  -o, --log-file FILE      log, relative to the work directory (default: stderr)\n"
	      "  -v[N], --verbosity[=N]   0 none, 1 errors, 2 warnings (default), 3 info, 4 debug\n"
	      "      --pidfile FILE       write the restored root's pid\n"
	      "      --timeout SECONDS    limit for stopping the tree (default: 10)\n"
	      "\nDump:\n"
	      "  -R, --leave-running      let the tree go on afterwards\n"
	      "  -s, --leave-stopped      leave it stopped\n"
	      "      --freeze-cgroup DIR  freeze with this cgroup v2 directory\n"
	      "      --tcp-established    connected TCP sockets\n"
	      "      --skip-in-flight     drop connections nobody has accepted\n"
	      "      --network-lock M     nftables, iptables or skip\n"
	      "  -l, --file-locks         file locks\n"
	      "      --link-remap         hard links for unlinked names that live elsewhere\n"
	      "      --ghost-limit SIZE   largest unlinked file to save (default: 1M)\n"
	      "  -x, --ext-unix-sk        unix datagram sockets connected outside the tree\n"
	      "      --external RES       a resource outside the tree, e.g. unix[INODE]\n"
	      "\nDump and pre-dump, memory in several rounds:\n"
	      "      --prev-images-dir DIR  save what was written since that one (relative to -D)\n"
	      "      --track-mem          dump: the next one will refer to this one\n"
	      "      --auto-dedup         give room of superseded pages back; restore: of all used ones\n"
	      "\nRestore:\n"
	      "  -d, --restore-detached   return when the tree runs\n"
	      "  -S, --restore-sibling    the root becomes a sibling of cr (needs -d)\n"
	      "      --inherit-fd fd[N]:RES  use descriptor N for a resource\n"
	      "      --no-time-namespace  do not continue the monotonic clocks\n"
	      "      --clock-advance SEC  let clocks and timers show SEC seconds more than at the dump\n"
	      "      --manage-cgroups[=M] ignore, none, props, soft (default), full, strict\n"
	      "      --cgroup-root PATH   put the groups below PATH\n"
	      "\nBoth:\n"
	      "  -j, --shell-job          the tree belongs to an outer session\n"
	      "      --action-script FILE run at each event (CRTOOLS_SCRIPT_ACTION)\n"
	      "  -V, --version   -h, --help\n", to);
}

static int parse_size(const char *s, uint64_t *ret)
{
	char num[32];
	size_t n = strspn(s, "0123456789");
	unsigned int shift = 0;
	int r;

	if (!n || n >= sizeof(num))
		return -EINVAL;
	memcpy(num, s, n);
	num[n] = '\0';
	r = parse_u64(num, 10, ret);
	if (r < 0)
		return r;
	switch (s[n]) {
	case 'K': case 'k': shift = 10; break;
	case 'M': case 'm': shift = 20; break;
	case 'G': case 'g': shift = 30; break;
	case '\0': return 0;
	default: return -EINVAL;
	}
	if (s[n + 1] || *ret >> (64 - shift))
		return -EINVAL;
	*ret <<= shift;
	return 0;
}

static int bad_value(const char *option, const char *value)
{
	fprintf(stderr, "cr: %s: \"%s\" is not a valid value\n", option, value);
	return -EINVAL;
}

static int parse_cgroup_mode(const char *s, int *ret)
{
	static const struct { const char *name; int mode; } modes[] = {
		{ "ignore", 0 }, { "none", 1 }, { "props", 2 }, { "soft", 4 }, { "full", 8 },
		{ "strict", 16 },
	};

	if (!s) {
		*ret = 4;
		return 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(modes); i++)
		if (!strcmp(s, modes[i].name)) {
			*ret = modes[i].mode;
			return 0;
		}
	return bad_value("--manage-cgroups", s);
}

static int parse_lock(const char *s, enum cr_network_lock *ret)
{
	if (!strcmp(s, "iptables"))
		*ret = CR_LOCK_IPTABLES;
	else if (!strcmp(s, "nftables"))
		*ret = CR_LOCK_NFTABLES;
	else if (!strcmp(s, "skip") || !strcmp(s, "none"))
		*ret = CR_LOCK_SKIP;
	else
		return bad_value("--network-lock", s);
	return 0;
}

static int add_external(struct cmd_opts *o, const char *key, int fd)
{
	struct cr_external *more = realloc((void *)o->cr.externals,
					   (o->cr.n_externals + 1) * sizeof(*more));

	if (!more)
		return -ENOMEM;
	more[o->cr.n_externals++] = (struct cr_external){ key, fd };
	o->cr.externals = more;
	return 0;
}

/* fd[N]:RES */
static int parse_inherit(struct cmd_opts *o, const char *s)
{
	int fd, used = 0;

	if (sscanf(s, "fd[%d]:%n", &fd, &used) != 1 || !used || fd < 0)
		return bad_value("--inherit-fd", s);
	return add_external(o, s + used, fd);
}

static int parse_verbosity(struct cmd_opts *o, const char *arg, bool is_short)
{
	uint32_t n;

	if (!arg) {
		o->level = MIN((int)o->level + 1, (int)LOGLEVEL_DEBUG);
		return 0;
	}
	/* -vvv: each v adds one. */
	if (is_short && strspn(arg, "v") == strlen(arg)) {
		o->level = MIN(o->level + 1 + strlen(arg), (size_t)LOGLEVEL_DEBUG);
		return 0;
	}
	if (parse_u32(arg, 10, &n) < 0)
		return bad_value("--verbosity", arg);
	o->level = MIN(n, (uint32_t)LOGLEVEL_DEBUG);
	return 0;
}

/* The first is the root, others are saved with it. */
static int parse_pid(struct cmd_opts *o, const char *s)
{
	pid_t *to = o->cr.pid ? &o->more_pids[o->cr.n_more_pids] : &o->cr.pid;
	int r;

	if (o->cr.n_more_pids == ROOTS_MAX)
		return bad_value("--tree", s);
	o->cr.n_more_pids += to != &o->cr.pid;
	o->cr.more_pids = o->more_pids;
	r = parse_int(s, to);
	return r < 0 || *to <= 0 ? bad_value("--tree", s) : 0;
}

static int take_option(struct cmd_opts *o, int c, const char *name)
{
	uint32_t n;

	switch (c) {
	case 't': return parse_pid(o, optarg);
	case 'D': o->images_dir = optarg; break;
	case 'W': o->work_dir = optarg; break;
	case 'o': o->log_file = optarg; break;
	case 'v': return parse_verbosity(o, optarg, true);
	case OPT_VERBOSITY: return parse_verbosity(o, optarg, false);
	case OPT_PIDFILE: o->pidfile = optarg; break;
	case OPT_TIMEOUT:
		if (parse_u32(optarg, 10, &n) < 0 || !n)
			return bad_value("--timeout", optarg);
		o->cr.timeout_usec = n * 1000000ull;
		break;
	case 'R': o->cr.final_state = CR_LEAVE_RUNNING; break;
	case 's':
		o->cr.final_state = CR_LEAVE_STOPPED;
		o->cr.leave_stopped = true;
		break;
	case 'd': o->cr.detached = true; break;
	case 'S': o->cr.sibling = true; break;
	case 'j': o->cr.shell_job = true; break;
	case 'l': o->cr.file_locks = true; break;
	case 'x':
		o->cr.ext_unix_sk = true;
		break;
	case 'r': o->cr.root = optarg; break;
	case OPT_TCP_ESTABLISHED: o->cr.tcp_established = true; break;
	case OPT_TCP_CLOSE: o->cr.tcp_close = true; break;
	case OPT_SKIP_IN_FLIGHT: o->cr.skip_in_flight = true; break;
	case OPT_LINK_REMAP: o->cr.link_remap = true; break;
	case OPT_GHOST_LIMIT:
		return parse_size(optarg, &o->cr.ghost_limit_bytes) < 0 ?
			       bad_value("--ghost-limit", optarg) : 0;
	case OPT_EXTERNAL: return add_external(o, optarg, -1);
	case OPT_INHERIT_FD: return parse_inherit(o, optarg);
	case OPT_MANAGE_CGROUPS: return parse_cgroup_mode(optarg, &o->cr.cgroup_mode);
	case OPT_CGROUP_ROOT: o->cr.cgroup_root = optarg; break;
	case OPT_NETWORK_LOCK: return parse_lock(optarg, &o->cr.network_lock);
	case OPT_FREEZE_CGROUP: o->cr.freeze_cgroup = optarg; break;
	case OPT_ACTION_SCRIPT:
		if (o->n_scripts == SCRIPTS_MAX)
			return bad_value("--action-script (too many)", optarg);
		o->scripts[o->n_scripts++] = optarg;
		break;
	case OPT_FEATURE:
		if (o->n_features == ARRAY_SIZE(o->features))
			return bad_value("--feature (too many)", optarg);
		o->features[o->n_features++] = optarg;
		break;
	case OPT_PRE_DUMP_MODE:
		if (strcmp(optarg, "splice") && strcmp(optarg, "read"))
			return bad_value("--pre-dump-mode", optarg);
		break;
	case OPT_TRACK_MEM: o->cr.track_mem = true; break;
	case OPT_PREV_IMAGES_DIR: o->cr.parent_dir = optarg; break;
	case OPT_AUTO_DEDUP: o->cr.auto_dedup = true; break;
	case OPT_NO_TIME_NS: o->cr.time_namespace = false; break;
	case OPT_CLOCK_ADVANCE:
		if (parse_u32(optarg, 10, &n) < 0)
			return bad_value("--clock-advance", optarg);
		o->cr.clock_advance_nsec = n * 1000000000ll;
		break;
	case OPT_EXTRA: o->extra = true; break;
	case OPT_ALL: o->all = true; break;
	case OPT_JSON: o->json = true; break;
	case OPT_NO_DEFAULT_CONFIG:
	case OPT_IGNORED:
		break;
	case OPT_UNSUPPORTED:
	case OPT_UNSUPPORTED_ARG:
		fprintf(stderr, "cr: --%s is not supported\n", name);
		return -EOPNOTSUPP;
	default:
		return -EINVAL;
	}
	return 0;
}

int cmd_parse(int argc, char **argv, struct cmd_opts *o)
{
	int c, at = 0, r;

	*o = (struct cmd_opts){ .images_dir = ".", .level = LOGLEVEL_WARN, .images_fd = -EBADF,
				.work_fd = -EBADF, .log_fd = -EBADF };
	o->cr.cgroup_mode = -1;
	o->cr.time_namespace = true;
	o->cr.share_pages = true;
	while ((c = getopt_long(argc, argv, "t:D:W:o:v::RsdSjlx::r:hV", long_options, &at)) != -1) {
		if (c == 'h') {
			cmd_usage(stdout);
			return 1;
		}
		if (c == 'V') {
			printf("Version: 4.1\ncr %s (images and options of CRIU 4.1)\n", VERSION);
			return 1;
		}
		r = take_option(o, c, c >= 256 ? long_options[at].name : "");
		if (r < 0) {
			if (c == '?')
				fprintf(stderr, "Try 'cr --help'.\n");
			return r;
		}
	}
	if (optind >= argc) {
		fprintf(stderr, "cr: no command given; try 'cr --help'\n");
		return -EINVAL;
	}
	o->verb = argv[optind++];
	o->words = argv + optind;
	o->n_words = argc - optind;
	return 0;
}

int cmd_open(struct cmd_opts *o)
{
	o->images_fd = open(o->images_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (o->images_fd < 0) {
		fprintf(stderr, "cr: cannot open images directory %s: %m\n", o->images_dir);
		return neg_errno();
	}
	o->work_fd = open(o->work_dir ? o->work_dir : o->images_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (o->work_fd < 0) {
		fprintf(stderr, "cr: cannot open work directory %s: %m\n", o->work_dir);
		return neg_errno();
	}
	if (fchdir(o->work_fd) < 0)
		return neg_errno();
	if (o->log_file) {
		o->log_fd = open(o->log_file, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
		if (o->log_fd < 0) {
			fprintf(stderr, "cr: cannot open log file %s: %m\n", o->log_file);
			return neg_errno();
		}
	}
	log_init(o->level, o->log_fd);
	o->cr.work_dir_fd = o->work_fd;
	o->cr.notify = cmd_run_scripts;
	o->cr.notify_arg = o;
	return 0;
}
