/* cr/cmd/rpc_*, config.c, options: hostile packets, options of requests, files and command lines. */
#include <fcntl.h>
#include <sys/socket.h>

#include "cmd/rpc.h"
#include "unit.h"

struct pair {
	int ours, theirs;
	struct arena a;
};

static void pair_begin(struct pair *p)
{
	int fds[2], room = 4 << 20;

	ASSERT_OK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds));
	setsockopt(fds[0], SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room));
	p->ours = fds[0];
	p->theirs = fds[1];
	arena_init(&p->a);
}

static void pair_end(struct pair *p)
{
	close(p->ours);
	close(p->theirs);
	arena_done(&p->a);
}

static size_t pack(const CriuOpts *opts, uint8_t *buf, size_t room)
{
	CriuReq req = CRIU_REQ__INIT;

	req.type = CRIU_REQ_TYPE__DUMP;
	req.opts = (CriuOpts *)opts;
	ASSERT_GE(room, criu_req__get_packed_size(&req));
	return criu_req__pack(&req, buf);
}

TEST("a request cut anywhere is refused or another request, and nothing worse")
{
	char *external[] = { "unix[1]", "file[1:2]" };
	InheritFd fd = INHERIT_FD__INIT, *fds[] = { &fd };
	CriuOpts opts = CRIU_OPTS__INIT;
	uint8_t buf[512];
	size_t n;

	fd.key = "pipe:[1]";
	fd.fd = 7;
	opts.root = "/srv";
	opts.external = external;
	opts.n_external = 2;
	opts.inherit_fd = fds;
	opts.n_inherit_fd = 1;
	n = pack(&opts, buf, sizeof(buf));
	for (size_t cut = 1; cut <= n; cut++) {
		struct pair p;
		CriuReq *req;
		int r;

		pair_begin(&p);
		ASSERT_EQ(send(p.ours, buf, cut, 0), (ssize_t)cut);
		r = rpc_receive(p.theirs, &p.a, &req);
		/* Alone, the type is a request. */
		ASSERT_EQ(r, cut == n || cut == 2 ? 1 : -EBADMSG);
		pair_end(&p);
	}
}

TEST("random packets are no requests, or requests whose options are taken or refused")
{
	uint32_t seed = 1;

	for (int i = 0; i < 20000; i++) {
		struct rpc_session s = { .sock = -1, .peer = getpid(), .swrk = true };
		uint8_t buf[96] = { 0x08, 0x01, 0x12, 0 };	/* DUMP, opts of this length: */
		struct cmd_opts o;
		struct pair p;
		CriuReq *req;
		size_t n;

		for (size_t k = 4; k < sizeof(buf); k++) {
			seed = seed * 1664525 + 1013904223;
			buf[k] = (uint8_t)(seed >> 24);
			/* Mostly fields of few bytes. */
			if (seed >> 30)
				buf[k] &= 0x3b;
		}
		n = 4 + (seed >> 8) % (sizeof(buf) - 4);
		buf[3] = (uint8_t)(n - 4);
		pair_begin(&p);
		ASSERT_EQ(send(p.ours, buf, n, 0), (ssize_t)n);
		if (rpc_receive(p.theirs, &p.a, &req) > 0 && req->opts) {
			cmd_opts_init(&o);
			o.rpc = &s;
			if (rpc_take_options(&s, req->opts, &o) >= 0 &&
			    rpc_take_places(&s, req->opts, &o) >= 0)
				ASSERT(o.images_dir);
			cmd_opts_done(&o);
		}
		pair_end(&p);
	}
}

TEST("a packet beyond every request's size is refused before it is read")
{
	const size_t n = (1u << 20) + 1;
	uint8_t *buf = calloc(1, n);
	struct pair p;
	CriuReq *req;

	pair_begin(&p);
	if (send(p.ours, buf, n, 0) < 0)
		unit_skip("no packets of %zu bytes here: %s", n, strerror(errno));
	ASSERT_EQ(rpc_receive(p.theirs, &p.a, &req), -EBADMSG);
	ASSERT_CONTAINS(log_first_error(), "1048577 bytes");
	pair_end(&p);
	free(buf);
}

TEST("a closed connection and an empty packet are no requests")
{
	struct pair p;
	CriuReq *req;

	pair_begin(&p);
	ASSERT_OK(send(p.ours, "", 0, 0));
	ASSERT_EQ(rpc_receive(p.theirs, &p.a, &req), 0);
	shutdown(p.ours, SHUT_RDWR);
	ASSERT_EQ(rpc_receive(p.theirs, &p.a, &req), 0);
	ASSERT(!req);
	pair_end(&p);
}

static int take(CriuOpts *opts, bool swrk, struct cmd_opts *o)
{
	static struct rpc_session s;

	s = (struct rpc_session){ .sock = -1, .peer = getpid(), .swrk = swrk };
	log_init(LOGLEVEL_ERROR, -1);
	cmd_opts_init(o);
	o->rpc = &s;
	return rpc_take_options(&s, opts, o);
}

/* One field set: a switch off, a number to 1, a text, a message of empty texts. */
static void set_field(CriuOpts *opts, const ProtobufCFieldDescriptor *f)
{
	static char *texts[] = { "text" };
	uint8_t *member = (uint8_t *)opts + f->offset;

	if (f->type == PROTOBUF_C_TYPE_MESSAGE)
		return;
	if (f->type != PROTOBUF_C_TYPE_STRING)
		*(protobuf_c_boolean *)((uint8_t *)opts + f->quantifier_offset) = true;
	else if (f->label == PROTOBUF_C_LABEL_REPEATED)
		*(char ***)member = texts;
	else
		*(char **)member = texts[0];
	if (f->label == PROTOBUF_C_LABEL_REPEATED)
		*(size_t *)((uint8_t *)opts + f->quantifier_offset) = 1;
	if (f->type == PROTOBUF_C_TYPE_UINT32 || f->type == PROTOBUF_C_TYPE_INT32 ||
	    f->type == PROTOBUF_C_TYPE_ENUM)
		*(int32_t *)member = 1;
}

TEST("every option of a request has a meaning or a refusal by name, and none set to false is refused")
{
	const ProtobufCMessageDescriptor *d = &criu_opts__descriptor;

	for (unsigned int i = 0; i < d->n_fields; i++) {
		const ProtobufCFieldDescriptor *f = &d->fields[i];
		CriuOpts opts = CRIU_OPTS__INIT;
		struct cmd_opts o;
		int r;

		if (f->label == PROTOBUF_C_LABEL_REQUIRED)
			continue;
		set_field(&opts, f);
		r = take(&opts, true, &o);
		if (f->type == PROTOBUF_C_TYPE_BOOL)
			ASSERT_EQ(r, 0);
		if (r < 0) {
			ASSERT(log_first_error()[0]);
			ASSERT(!strstr(log_first_error(), "not known"));
			ASSERT(!strstr(log_first_error(), "unrecognized"));
		}
		cmd_opts_done(&o);
	}
}

TEST("options of a request reach the engine")
{
	CgroupRoot all = CGROUP_ROOT__INIT, v2 = CGROUP_ROOT__INIT, *roots[] = { &all, &v2 };
	ExtMountMap m = EXT_MOUNT_MAP__INIT, *maps[] = { &m };
	CriuVethPair v = CRIU_VETH_PAIR__INIT, *veths[] = { &v };
	UnixSk sk = UNIX_SK__INIT, *sks[] = { &sk };
	CriuOpts opts = CRIU_OPTS__INIT;
	struct cmd_opts o;

	all.path = "/all";
	v2.ctrl = "";
	v2.path = "/unified";
	m.key = "/mnt:1";
	m.val = "key";
	v.if_in = "eth0";
	v.if_out = "veth1@br0";
	sk.inode = 77;
	opts.cg_root = roots;
	opts.n_cg_root = 2;
	opts.ext_mnt = maps;
	opts.veths = veths;
	opts.unix_sk_ino = sks;
	opts.n_ext_mnt = opts.n_veths = opts.n_unix_sk_ino = 1;
	opts.has_pid = opts.has_timeout = opts.has_ghost_limit = opts.has_leave_running = true;
	opts.pid = 5;
	opts.leave_running = true;
	opts.timeout = 3;
	opts.ghost_limit = 4096;
	opts.has_manage_cgroups = opts.manage_cgroups = true;
	opts.has_manage_cgroups_mode = true;
	opts.manage_cgroups_mode = CRIU_CG_MODE__STRICT;
	opts.has_network_lock = true;
	opts.network_lock = CRIU_NETWORK_LOCK_METHOD__SKIP;
	opts.lsm_profile = "apparmor:a profile";
	ASSERT_OK(take(&opts, true, &o));
	ASSERT_EQ(o.cr.pid, 5);
	ASSERT_EQ(o.cr.final_state, CR_LEAVE_RUNNING);
	ASSERT_EQ(o.cr.timeout_usec, 3000000);
	ASSERT_EQ(o.cr.ghost_limit_bytes, 4096);
	ASSERT_EQ(o.cr.cgroup_mode, 16);
	ASSERT_EQ(o.cr.network_lock, CR_LOCK_SKIP);
	ASSERT_EQ(o.cr.n_cgroup_roots, 2);
	ASSERT_STREQ(o.cr.cgroup_roots[0], "/all");
	ASSERT_STREQ(o.cr.cgroup_roots[1], ":/unified");
	ASSERT_EQ(o.cr.n_externals, 3);
	/* In the order of the fields' numbers. */
	ASSERT_STREQ(o.cr.externals[0].key, "veth[eth0]:veth1@br0");
	ASSERT_STREQ(o.cr.externals[1].key, "mnt[/mnt:1]:key");
	ASSERT_STREQ(o.cr.externals[2].key, "unix[77]");
	ASSERT_STREQ(o.cr.lsm_profile, "apparmor:a profile");
	cmd_opts_done(&o);
}

TEST("an option of a later version is refused by its number")
{
	/* DUMP; opts: images_dir_fd 0, field 99 = 1 */
	const uint8_t bytes[] = { 8, 1, 0x12, 5, 8, 0, 0x98, 0x06, 1 };
	struct cmd_opts o;
	struct pair p;
	CriuReq *req;

	pair_begin(&p);
	ASSERT_OK(send(p.ours, bytes, sizeof(bytes), 0));
	ASSERT_EQ(rpc_receive(p.theirs, &p.a, &req), 1);
	ASSERT_EQ(take(req->opts, true, &o), -EBADRQC);
	ASSERT_CONTAINS(log_first_error(), "option 99");
	cmd_opts_done(&o);
	pair_end(&p);
}

TEST("descriptors that were not inherited are nobody's to give")
{
	InheritFd fd = INHERIT_FD__INIT, *fds[] = { &fd };
	int inherited = dup(STDERR_FILENO), own = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
	CriuOpts opts = CRIU_OPTS__INIT;
	struct cmd_opts o;

	fd.key = "key]:x";
	opts.inherit_fd = fds;
	opts.n_inherit_fd = 1;
	fd.fd = inherited;
	ASSERT_OK(take(&opts, true, &o));
	ASSERT_STREQ(o.cr.externals[0].key, "key]:x");
	ASSERT_EQ(o.cr.externals[0].fd, inherited);
	cmd_opts_done(&o);
	ASSERT_EQ(take(&opts, false, &o), -EBADRQC);
	cmd_opts_done(&o);
	fd.fd = own;
	ASSERT_EQ(take(&opts, true, &o), -EBADF);
	cmd_opts_done(&o);
	fd.fd = INT32_MAX;
	ASSERT_EQ(take(&opts, true, &o), -EBADF);
	cmd_opts_done(&o);
	fd.fd = INT32_MIN;
	ASSERT_EQ(take(&opts, true, &o), -EBADRQC);
	cmd_opts_done(&o);
}

static int places(CriuOpts *opts, pid_t peer, struct cmd_opts *o)
{
	static struct rpc_session s;

	s = (struct rpc_session){ .sock = -1, .peer = peer, .swrk = true };
	log_init(LOGLEVEL_ERROR, -1);
	cmd_opts_init(o);
	o->rpc = &s;
	return rpc_take_places(&s, opts, o);
}

TEST("directories are the peer's, the log has a plain name")
{
	static const char *const bad[] = { "/etc/passwd", "a/b", "..", "." };
	CriuOpts opts = CRIU_OPTS__INIT;
	struct cmd_opts o;

	opts.images_dir_fd = 5;
	opts.has_work_dir_fd = true;
	opts.work_dir_fd = 6;
	ASSERT_OK(places(&opts, 42, &o));
	ASSERT_STREQ(o.images_dir, "/proc/42/fd/5");
	ASSERT_STREQ(o.work_dir, "/proc/42/fd/6");
	ASSERT_STREQ(o.log_file, "criu.log");
	cmd_opts_done(&o);
	ASSERT_EQ(places(&opts, 0, &o), -EBADRQC);
	ASSERT_CONTAINS(log_first_error(), "PID namespace");
	cmd_opts_done(&o);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		opts.log_file = (char *)bad[i];
		ASSERT_EQ(places(&opts, 42, &o), -EBADRQC);
		cmd_opts_done(&o);
	}
	opts.log_file = NULL;
	opts.images_dir_fd = INT32_MIN;
	ASSERT_EQ(places(&opts, 42, &o), -EBADRQC);
	cmd_opts_done(&o);
	opts.images_dir_fd = -1;
	ASSERT_EQ(places(&opts, 42, &o), -EBADRQC);
	cmd_opts_done(&o);
	opts.images_dir = "there";
	opts.has_log_level = true;
	opts.log_level = 77;
	ASSERT_OK(places(&opts, 42, &o));
	ASSERT_STREQ(o.images_dir, "there");
	ASSERT_EQ(o.level, LOGLEVEL_DEBUG);
	cmd_opts_done(&o);
}

static int from_file(const char *text, struct cmd_opts *o)
{
	static struct rpc_session s;
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "%s/conf", unit_tmpdir());
	f = fopen(path, "w");
	ASSERT(f);
	ASSERT(fputs(text, f) >= 0);
	ASSERT_OK(fclose(f));
	log_init(LOGLEVEL_ERROR, -1);
	cmd_opts_init(o);
	o->rpc = &s;
	o->source = FROM_FILE;
	return config_take(o, path);
}

TEST("a configuration file has names, values, quotes and comments")
{
	struct cmd_opts o;

	ASSERT_OK(from_file("# first\n\ntcp-established\n \tghost-limit\t2K # two\r\n"
			    "root \"/with \\\"quotes\\\" # and more\"\nmanage-cgroups strict\n"
			    "shell-job#comment\nno-shell-job\nimages-dir \"\"", &o));
	ASSERT(o.cr.tcp_established);
	ASSERT_EQ(o.cr.ghost_limit_bytes, 2048);
	ASSERT_STREQ(o.cr.root, "/with \"quotes\" # and more");
	ASSERT_EQ(o.cr.cgroup_mode, 16);
	ASSERT(!o.cr.shell_job);
	ASSERT_STREQ(o.images_dir, "");
	cmd_opts_done(&o);
}

TEST("what a configuration file must not have is told with its name")
{
	static const struct { const char *text, *words; } bad[] = {
		{ "nonsense", "nonsense" }, { "root", "root" }, { "tcp-close yes", "tcp-close" },
		{ "root /a /b", "one value" }, { "root \"/a", "quote" }, { "root \"/a\\\"", "quote" },
		{ "help", "command line only" }, { "config x", "command line only" },
		{ "dump", "dump" }, { "stream", "--stream is not supported" }, { "-t 1", "-t" },
		{ "=", "=" }, { "\"\"", "no option" },
		{ "close 0", "command line only" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct cmd_opts o;
		int r = from_file(bad[i].text, &o);

		printf("# %s -> %d %s\n", bad[i].text, r, log_first_error());
		ASSERT_LT(r, 0);
		ASSERT_CONTAINS(log_first_error(), bad[i].words);
		ASSERT_CONTAINS(log_first_error(), "/conf: ");
		cmd_opts_done(&o);
	}
}

static int from_argv(char **argv, struct cmd_opts *o)
{
	int n = 0;

	while (argv[n])
		n++;
	unsetenv("CRIU_CONFIG_FILE");
	return cmd_parse(n, argv, o);
}

TEST("command lines: short and long names, negated switches, maps and pairs")
{
	char *dump[] = { "cr", "--no-default-config", "-vvv", "dump", "-t5", "-M", "auto:ms", "-M",
			 "/a:b", "--veth-pair", "eth0=v0", "--tcp-established",
			 "--no-tcp-established", "-R", "--enable-fs", "all", "-L", "/lib",
			 "--cgroup-root", "cpu:/x", "--file-validation", "filesize",
			 "--skip-file-rwx-check", NULL };
	char *restore[] = { "cr", "--no-default-config", "-verbosity=0", "restore", "--exec-cmd",
			    "--", "ls", "-l", NULL };
	struct cmd_opts o;

	ASSERT_EQ(from_argv(dump, &o), 0);
	ASSERT_EQ(o.level, LOGLEVEL_DEBUG);
	ASSERT_STREQ(o.verb, "dump");
	ASSERT(!o.cr.tcp_established);
	ASSERT(o.cr.skip_mode_check);
	ASSERT_EQ(o.cr.final_state, CR_LEAVE_RUNNING);
	ASSERT_EQ(o.cr.n_externals, 2);
	ASSERT_STREQ(o.cr.externals[0].key, "mnt[/a]:b");
	ASSERT_STREQ(o.cr.externals[1].key, "veth[eth0]:v0");
	ASSERT_STREQ(o.cr.cgroup_roots[0], "cpu:/x");
	cmd_opts_done(&o);
	ASSERT_EQ(from_argv(restore, &o), 0);
	ASSERT_EQ(o.level, LOGLEVEL_NONE);
	ASSERT(o.exec_cmd);
	ASSERT_EQ(o.n_words, 2);
	ASSERT_STREQ(o.words[1], "-l");
	cmd_opts_done(&o);
}

TEST("command lines that are refused")
{
	static char *const bad[][2] = {
		{ "-M", "nocolon" }, { "-M", ":x" }, { "-M", "x:" }, { "--veth-pair", "x" },
		{ "--cgroup-root", "relative" }, { "--cgroup-root", "cpu/x" }, { "--cpu-cap=in", NULL },
		{ "-J", "net:1" }, { "--close", "909" }, { "--close", "x" },
		{ "--lsm-profile", "apparmor:" }, { "--file-validation", "magic" },
		{ "--config", "/does/not/exist" }, { "--root", NULL }, { "-t", NULL },
		{ "--no-root", NULL }, { "--inherit-fd", "fd[909]:x" }, { "--empty-ns", "ipc" },
		{ "-Q", NULL },
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		char *argv[] = { "cr", "--no-default-config", "dump", bad[i][0], bad[i][1], NULL };
		struct cmd_opts o;

		ASSERT_LT(from_argv(argv, &o), 0);
		cmd_opts_done(&o);
	}
}
