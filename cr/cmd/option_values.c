/* What the options' values mean, and why some are refused. */
#include <fcntl.h>
#include <string.h>

#include "cmd/cmd.h"
#include "cmd/option_numbers.h"
#include "util/io.h"

#define NO_SERVER "pages are written to a directory only"

static const struct {
	const char *option, *reason;
} refusals[] = {
	{ "page-server", NO_SERVER },
	{ "lazy-pages", NO_SERVER " and restored before the tree runs" },
	{ "port", NO_SERVER },
	{ "ps-socket", NO_SERVER },
	{ "tls", NO_SERVER },
	{ "tls-cacert", NO_SERVER },
	{ "tls-cacrl", NO_SERVER },
	{ "tls-cert", NO_SERVER },
	{ "tls-key", NO_SERVER },
	{ "tls-no-cn-verify", NO_SERVER },
	{ "stream", "images are files in a directory" },
	{ "allow-uprobes", "breakpoints of probes would stay in the saved code; remove the probes" },
	{ "join-ns", "a tree is restored into its own namespaces, or into those of cr; run cr inside (nsenter)" },
	{ "skip-mnt", "files on the mount would be lost; give it by --external mnt[PATH]:NAME" },
	{ "lsm-mount-context", "filesystems keep the options they had" },
	{ "cgroup-props", "the known properties of a group are always saved" },
	{ "cgroup-props-file", "the known properties of a group are always saved" },
	{ "cgroup-dump-controller", "all controllers are saved" },
	{ "cgroup-yard", "hierarchies must be mounted where /proc/self/mountinfo shows them" },
};

static int refuse(const struct cmd_opts *o, const char *name)
{
	const char *reason = "";

	for (size_t i = 0; i < ARRAY_SIZE(refusals); i++)
		if (!strcmp(refusals[i].option, name))
			reason = refusals[i].reason;
	return option_wrong(o, -EOPNOTSUPP, "--%s is not supported: %s", name, reason);
}

static int bad_value(const struct cmd_opts *o, const char *option, const char *value)
{
	return option_wrong(o, o->rpc ? -EBADRQC : -EINVAL, "%s: \"%s\" is not a valid value", option,
			    value);
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

static int parse_cgroup_mode(const struct cmd_opts *o, const char *s, int *ret)
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
	return bad_value(o, "--manage-cgroups", s);
}

static int parse_lock(const struct cmd_opts *o, const char *s, enum cr_network_lock *ret)
{
	if (!strcmp(s, "iptables"))
		*ret = CR_LOCK_IPTABLES;
	else if (!strcmp(s, "nftables"))
		*ret = CR_LOCK_NFTABLES;
	else if (!strcmp(s, "skip") || !strcmp(s, "none"))
		*ret = CR_LOCK_SKIP;
	else
		return bad_value(o, "--network-lock", s);
	return 0;
}

static int add_external(struct cmd_opts *o, const char *key, int fd)
{
	struct cr_external *list = (struct cr_external *)o->cr.externals, *more;

	if (!key)
		return -ENOMEM;
	more = ARENA_PUSH(&o->arena, list, o->cr.n_externals);
	if (!more)
		return -ENOMEM;
	*more = (struct cr_external){ key, fd };
	o->cr.externals = list;
	return 0;
}

/*
 * What nothing would ever ask for is a slip of the pen, and the resource would be saved as the tree's own. Programs
 * that ask by RPC may know of more kinds than we do.
 */
static int parse_external(struct cmd_opts *o, const char *s)
{
	static const char *const kinds[] = {
		"file[", "tty[", "unix[", "socket:[", "pipe[", "pipe:[", "dev[", "mnt[", "net[", "pid[",
		"uts[", "ipc[", "user[", "cgroup[", "time[", "netdev[", "veth[", "macvlan[",
	};

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (o->rpc || (!strncmp(s, kinds[i], strlen(kinds[i])) && strchr(s, ']')))
			return add_external(o, s, -1);
	return option_wrong(o, -EINVAL, "--external %s: not a resource; those are file[], tty[], unix[], pipe[], dev[], "
			    "mnt[], net[], pid[], netdev[], veth[], macvlan[]", s);
}

/* [=INODE,...]: each the same as --external unix[INODE], streams too. */
static int parse_unix(struct cmd_opts *o, const char *s)
{
	char *list = arena_strdup(&o->arena, s), *word;
	uint32_t ino;
	int r = list ? 0 : -ENOMEM;

	while (r >= 0 && (word = strsep(&list, ",")))
		r = parse_u32(word, 10, &ino) < 0 ? bad_value(o, "--ext-unix-sk", s) :
		    add_external(o, arena_printf(&o->arena, "unix[%u]", ino), -1);
	return r;
}

/* fd[N]:RES. What was inherited has no FD_CLOEXEC; all that we have opened does. */
static int parse_inherit(struct cmd_opts *o, const char *s)
{
	int fd, used = 0, flags;

	if (sscanf(s, "fd[%d]:%n", &fd, &used) != 1 || !used || fd < 0)
		return bad_value(o, "--inherit-fd", s);
	flags = fcntl(fd, F_GETFD);
	if (flags < 0 || flags & FD_CLOEXEC)
		return option_wrong(o, -EBADF, "--inherit-fd %s: %d is not a descriptor that cr has "
				    "inherited", s, fd);
	return add_external(o, s + used, fd);
}

/* KEY:VAL. What "auto" would find out is always found out. */
static int parse_mount_map(struct cmd_opts *o, const char *s)
{
	const char *colon = strchr(s, ':');

	if (!strncmp(s, "auto", 4) && (!s[4] || s[4] == ':'))
		return 0;
	if (!colon || colon == s || !colon[1])
		return bad_value(o, "--ext-mount-map", s);
	return add_external(o, arena_printf(&o->arena, "mnt[%.*s]:%s", (int)(colon - s), s,
					    colon + 1), -1);
}

/* INSIDE=OUTSIDE[@BRIDGE] */
static int parse_veth(struct cmd_opts *o, const char *s)
{
	const char *equal = strchr(s, '=');

	if (!equal || equal == s || !equal[1])
		return bad_value(o, "--veth-pair", s);
	return add_external(o, arena_printf(&o->arena, "veth[%.*s]:%s", (int)(equal - s), s,
					    equal + 1), -1);
}

/* [CTRL:]/PATH */
static int add_cgroup_root(struct cmd_opts *o, const char *s)
{
	const char **list = (const char **)o->cr.cgroup_roots, **more;
	const char *slash = strchr(s, '/');

	if (!slash || (slash > s && slash[-1] != ':'))
		return bad_value(o, "--cgroup-root", s);
	more = ARENA_PUSH(&o->arena, list, o->cr.n_cgroup_roots);
	if (!more)
		return -ENOMEM;
	*more = s;
	o->cr.cgroup_roots = list;
	return 0;
}

/* TYPE:NAME, or none. */
static int parse_lsm(struct cmd_opts *o, const char *s)
{
	if (strcmp(s, "none") && (strncmp(s, "apparmor:", 9) || !s[9]) &&
	    (strncmp(s, "selinux:", 8) || !s[8]))
		return bad_value(o, "--lsm-profile", s);
	o->cr.lsm_profile = s;
	return 0;
}

static int parse_cpu_cap(struct cmd_opts *o, const char *s)
{
	static const struct {
		const char *name;
		unsigned int caps;
	} known[] = {
		{ "fpu", CR_CPU_FPU }, { "cpu", CR_CPU_CPU }, { "ins", CR_CPU_INS }, { "none", 0 },
		{ "all", CR_CPU_FPU | CR_CPU_CPU | CR_CPU_INS },
	};
	/* What is only taken away is taken from all. */
	unsigned int caps = s && *s != '^' ? 0 : s ? known[4].caps : CR_CPU_DEFAULT;

	while (s && *s) {
		const bool not = *s == '^';
		const char *name = s + not;
		size_t n = strcspn(name, ","), i = 0;

		while (i < ARRAY_SIZE(known) && (strlen(known[i].name) != n || memcmp(known[i].name, name, n)))
			i++;
		if (i == ARRAY_SIZE(known))
			return bad_value(o, "--cpu-cap", s);
		caps = not ? caps & ~known[i].caps : caps | known[i].caps;
		s = name + n + (name[n] == ',');
	}
	o->cr.cpu_caps = caps | CR_CPU_IMAGE;
	return 0;
}

static int parse_empty_ns(struct cmd_opts *o, const char *s)
{
	if (strcmp(s, "net"))
		return bad_value(o, "--empty-ns", s);
	o->cr.empty_net = true;
	return 0;
}

static int parse_fd(struct cmd_opts *o, const char *option, const char *s, int *ret)
{
	return parse_int(s, ret) < 0 || *ret < 0 || fcntl(*ret, F_GETFD) < 0 ?
		       bad_value(o, option, s) : 0;
}

static int close_fd(struct cmd_opts *o, const char *s)
{
	int fd, r = parse_fd(o, "--close", s, &fd);

	if (r >= 0)
		close(fd);
	return r;
}

static int parse_timeout(struct cmd_opts *o, const char *s)
{
	uint32_t n;

	if (parse_u32(s, 10, &n) < 0 || !n)
		return bad_value(o, "--timeout", s);
	o->cr.timeout_usec = n * 1000000ull;
	return 0;
}

static int parse_advance(struct cmd_opts *o, const char *s)
{
	uint32_t n;

	if (parse_u32(s, 10, &n) < 0)
		return bad_value(o, "--clock-advance", s);
	o->cr.clock_advance_nsec = n * 1000000000ll;
	return 0;
}

static int one_of(const struct cmd_opts *o, const char *option, const char *s, const char *one,
		  const char *other)
{
	return strcmp(s, one) && strcmp(s, other) ? bad_value(o, option, s) : 0;
}

/* One of many. */
static int add_text(const struct cmd_opts *o, const char *option, const char **list, size_t room,
		    size_t *n, const char *s)
{
	if (*n == room)
		return option_wrong(o, -E2BIG, "%s %s: there may be %zu", option, s, room);
	list[(*n)++] = s;
	return 0;
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
	/* -verbosity=N, as scripts write it. */
	if (is_short && str_starts(arg, "erbosity="))
		arg += strlen("erbosity=");
	if (parse_u32(arg, 10, &n) < 0)
		return bad_value(o, "--verbosity", arg);
	o->level = MIN(n, (uint32_t)LOGLEVEL_DEBUG);
	return 0;
}

/* The first is the root, others are saved with it. */
static int parse_pid(struct cmd_opts *o, const char *s)
{
	pid_t *to = o->cr.pid ? &o->more_pids[o->cr.n_more_pids] : &o->cr.pid;
	int r;

	if (o->cr.n_more_pids == ROOTS_MAX)
		return bad_value(o, "--tree", s);
	o->cr.n_more_pids += to != &o->cr.pid;
	o->cr.more_pids = o->more_pids;
	r = parse_int(s, to);
	return r < 0 || *to <= 0 ? bad_value(o, "--tree", s) : 0;
}

/* Where it may stand at all. */
static int check_place(const struct cmd_opts *o, int c, const char *name)
{
	bool argv_only = c == 'h' || c == 'V' || c == OPT_CONFIG || c == OPT_NO_DEFAULT_CONFIG ||
			 c == OPT_CLOSE || c == OPT_STATUS_FD;

	if (o->source == FROM_ARGV || !(argv_only || (o->source == FROM_FILE && c == 't')))
		return 0;
	return option_wrong(o, -EINVAL, "--%s is for the command line only", name);
}

static int take_switch(struct cmd_opts *o, int c, bool on)
{
	switch (c) {
	case 'R': o->cr.final_state = on ? CR_LEAVE_RUNNING : CR_KILL; break;
	case 's':
		o->cr.final_state = on ? CR_LEAVE_STOPPED : o->cr.final_state;
		o->cr.leave_stopped = on;
		break;
	case 'd': o->cr.detached = on; break;
	case 'S': o->cr.sibling = on; break;
	case 'j': o->cr.shell_job = on; break;
	case 'l': o->cr.file_locks = on; break;
	case 'x': o->cr.ext_unix_sk = on; break;
	case OPT_TCP_ESTABLISHED: o->cr.tcp_established = on; break;
	case OPT_TCP_CLOSE: o->cr.tcp_close = on; break;
	case OPT_SKIP_IN_FLIGHT: o->cr.skip_in_flight = on; break;
	case OPT_LINK_REMAP: o->cr.link_remap = on; break;
	case OPT_SKIP_MODE_CHECK: o->cr.skip_mode_check = on; break;
	case OPT_TRACK_MEM: o->cr.track_mem = on; break;
	case OPT_AUTO_DEDUP: o->cr.auto_dedup = on; break;
	case OPT_EXEC_CMD: o->exec_cmd = on; break;
	case OPT_DISPLAY_STATS: o->display_stats = on; break;
	case OPT_NO_TIME_NS: o->cr.time_namespace = false; break;
	case OPT_KEEP_OUTER_PIDS: o->cr.keep_outer_pids = on; break;
	case OPT_EXTRA: o->extra = on; break;
	case OPT_ALL: o->all = on; break;
	case OPT_JSON: o->json = on; break;
	/* Known before everything else. */
	case OPT_CONFIG:
	case OPT_NO_DEFAULT_CONFIG:
	case OPT_IGNORED:
	case 'L':
		break;
	default:
		return -EINVAL;
	}
	return 0;
}

int option_take(struct cmd_opts *o, int number, const char *name, const char *arg)
{
	int c = number & ~OPT_NOT, r = check_place(o, c, name);

	if (r < 0)
		return r;
	switch (c) {
	case 'h':
		cmd_usage(stdout);
		return 1;
	case 'V':
		printf("Version: " CRIU_VERSION "\ncr %s (images and options of CRIU " CRIU_VERSION ")\n",
		       VERSION);
		return 1;
	case 't': return parse_pid(o, arg);
	case 'D': o->images_dir = arg; break;
	case 'W': o->work_dir = arg; break;
	case 'o': o->log_file = arg; break;
	case 'v': return parse_verbosity(o, arg, true);
	case 'r': o->cr.root = arg; break;
	case 'M': return parse_mount_map(o, arg);
	case 'J': return refuse(o, "join-ns");
	case 'x':
		r = arg ? parse_unix(o, arg) : 0;
		return r < 0 ? r : take_switch(o, c, !(number & OPT_NOT));
	case OPT_REFUSED: return refuse(o, name);
	case OPT_VERBOSITY: return parse_verbosity(o, arg, false);
	case OPT_PIDFILE: o->pidfile = arg; break;
	case OPT_TIMEOUT: return parse_timeout(o, arg);
	case OPT_GHOST_LIMIT:
		return parse_size(arg, &o->cr.ghost_limit_bytes) < 0 ?
			       bad_value(o, "--ghost-limit", arg) : 0;
	case OPT_EXTERNAL: return parse_external(o, arg);
	case OPT_INHERIT_FD: return parse_inherit(o, arg);
	case OPT_VETH_PAIR: return parse_veth(o, arg);
	case OPT_MANAGE_CGROUPS: return parse_cgroup_mode(o, arg, &o->cr.cgroup_mode);
	case OPT_CGROUP_ROOT: return add_cgroup_root(o, arg);
	case OPT_NETWORK_LOCK: return parse_lock(o, arg, &o->cr.network_lock);
	case OPT_FREEZE_CGROUP: o->cr.freeze_cgroup = arg; break;
	case OPT_LSM_PROFILE: return parse_lsm(o, arg);
	case OPT_EMPTY_NS: return parse_empty_ns(o, arg);
	case OPT_CPU_CAP: return parse_cpu_cap(o, arg);
	case OPT_PRE_DUMP_MODE: return one_of(o, "--pre-dump-mode", arg, "splice", "read");
	case OPT_FILE_VALIDATION:
		return one_of(o, "--file-validation", arg, "filesize", "buildid");
	case OPT_PREV_IMAGES_DIR: o->cr.parent_dir = arg; break;
	case OPT_CLOCK_ADVANCE: return parse_advance(o, arg);
	case OPT_ADDRESS: o->address = arg; break;
	case OPT_STATUS_FD: return parse_fd(o, "--status-fd", arg, &o->status_fd);
	case OPT_CLOSE: return close_fd(o, arg);
	case OPT_ACTION_SCRIPT:
		return add_text(o, "--action-script", o->scripts, SCRIPTS_MAX, &o->n_scripts, arg);
	case OPT_FEATURE:
		return add_text(o, "--feature", o->features, ARRAY_SIZE(o->features),
				&o->n_features, arg);
	default:
		return take_switch(o, c, !(number & OPT_NOT));
	}
	return 0;
}
