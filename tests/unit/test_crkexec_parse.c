/* Small parsers of the orchestrator, on what kernels print and on what nobody should. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "crkexec/clock.h"
#include "crkexec/keep.h"
#include "crkexec/lock.h"
#include "crkexec/machine.h"
#include "crkexec/memory.h"
#include "crkexec/options.h"
#include "crkexec/phases.h"
#include "crkexec/sockets.h"
#include "crkexec/tree.h"
#include "crkexec/unit.h"
#include "unit.h"

TEST("the parent in /proc/PID/stat is found behind any name")
{
	pid_t p = 0;

	ASSERT_EQ(stat_parse_ppid("5 (a) S 17 5 5 0 -1", &p), 0);
	ASSERT_EQ(p, 17);
	ASSERT_EQ(stat_parse_ppid("5 (x) R 1 (y)) S 0 5", &p), 0);
	ASSERT_EQ(p, 0);
	ASSERT_EQ(stat_parse_ppid("", &p), -EBADMSG);
	ASSERT_EQ(stat_parse_ppid("5 (a", &p), -EBADMSG);
	ASSERT_EQ(stat_parse_ppid("5 (a)", &p), -EBADMSG);
	ASSERT_EQ(stat_parse_ppid("5 (a) S", &p), -EBADMSG);
	ASSERT_EQ(stat_parse_ppid("5 (a) S x", &p), -EBADMSG);
	ASSERT_EQ(stat_parse_ppid("5 (a) S -4", &p), -EBADMSG);
}

/* A group of two daemons whose parent is not in it, and a child of the second one. */
static void write_group(const char *dir, const pid_t pids[3])
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s/cgroup.procs", dir);
	f = fopen(path, "w");
	ASSERT(f);
	for (int i = 0; i < 3; i++)
		fprintf(f, "%d\n", pids[i]);
	/* One that has ended meanwhile. */
	fprintf(f, "%d\n", INT32_MAX);
	fclose(f);
}

/* An upgrade of one unit, which has these processes. */
struct one_unit {
	struct options opt;
	struct unit un, *units;
	struct manifest_unit mu;
	struct manifest m;
	struct upgrade u;
};

static void one_unit_init(struct one_unit *o, const pid_t pids[3])
{
	*o = (struct one_unit){ .opt = { .json = true } };
	o->un = (struct unit){ .name = (char *)"a.service", .cgroup_dir = (char *)unit_tmpdir(),
			       .main_pid = pids[0] };
	o->units = &o->un;
	o->m = (struct manifest){ .units = &o->mu, .n_units = 1 };
	o->u = (struct upgrade){ .opt = &o->opt, .m = &o->m, .units = &o->units, .n_units = 1 };
	write_group(o->un.cgroup_dir, pids);
}

static void one_unit_done(struct one_unit *o)
{
	for (size_t i = 0; i < o->u.n_obstacles; i++) {
		free(o->u.obstacles[i].unit);
		free(o->u.obstacles[i].what);
		free(o->u.obstacles[i].remedy);
	}
	free(o->u.obstacles);
	free(o->mu.streams);
	tree_done(&o->un.tree);
}

TEST("a unit whose main process was replaced since it was planned is refused")
{
	pid_t pids[3] = { getpid(), getppid(), getpid() };
	struct one_unit o;

	one_unit_init(&o, pids);
	ASSERT_OK(upgrade_look(&o.u, 0));
	ASSERT_EQ(o.u.n_obstacles, 0);
	o.un.main_pid = INT32_MAX;
	ASSERT_EQ(upgrade_look(&o.u, 0), -ESRCH);
	ASSERT_EQ(o.u.n_obstacles, 1);
	ASSERT_CONTAINS(o.u.obstacles[0].what, "its main process 2147483647 has ended");
	one_unit_done(&o);
}

/* The first process of a PID namespace, a child of ours; 0: we may not make one. */
static pid_t start_first(void)
{
	int said[2];
	pid_t maker, pid = 0;

	ASSERT_EQ(pipe(said), 0);
	maker = fork();
	if (!maker) {
		if (unshare(CLONE_NEWPID) == 0)
			pid = (pid_t)syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0);
		if (!pid)
			for (;;)
				pause();
		_exit(write(said[1], &pid, sizeof(pid)) != sizeof(pid));
	}
	close(said[1]);
	if (read(said[0], &pid, sizeof(pid)) != sizeof(pid))
		pid = 0;
	close(said[0]);
	kill(maker, SIGKILL);
	ASSERT_EQ(waitpid(maker, NULL, 0), maker);
	return MAX(pid, 0);
}

TEST("a unit with a PID namespace of its own is carried: its main process is known by the pid outside")
{
	pid_t first = start_first(), pids[3] = { first, first, first };
	struct one_unit o;
	int r;

	if (!first)
		unit_skip("no right to make a PID namespace");
	one_unit_init(&o, pids);
	r = upgrade_look(&o.u, 0);
	kill(first, SIGKILL);
	ASSERT_EQ(waitpid(first, NULL, 0), first);
	ASSERT_OK(r);
	ASSERT_EQ(o.u.n_obstacles, 0);
	ASSERT_EQ(o.un.tree.pids[0], first);
	one_unit_done(&o);
}

TEST("all roots of a control group are one tree, roots first")
{
	struct unit_tree t;
	pid_t pids[3];
	int p[2];

	ASSERT_EQ(pipe(p), 0);
	pids[0] = fork();
	if (!pids[0])
		for (;;)
			pause();
	pids[1] = fork();
	if (!pids[1]) {
		pid_t child = fork();

		if (child && write(p[1], &child, sizeof(child)) < 0)
			_exit(1);
		for (;;)
			pause();
	}
	ASSERT_EQ(read(p[0], &pids[2], sizeof(pids[2])), (ssize_t)sizeof(pids[2]));
	write_group(unit_tmpdir(), pids);
	ASSERT_EQ(tree_find(unit_tmpdir(), &t), 0);
	ASSERT_EQ(t.n_pids, 3u);
	ASSERT_EQ(t.n_roots, 2u);
	ASSERT(t.root == t.pids[0] && (t.root == pids[0] || t.root == pids[1]));
	ASSERT_EQ(t.pids[0] + t.pids[1], pids[0] + pids[1]);
	ASSERT_EQ(t.pids[2], pids[2]);
	tree_done(&t);
	for (int i = 2; i >= 0; i--)
		kill(pids[i], SIGKILL);
}

TEST("a descriptor's link tells a socket's inode, and nothing that only looks like one does")
{
	static const char *const others[] = {
		"", "socket:[", "socket:[]", "socket:[12", "socket:[x]", "socket:[12] ", "/socket:[12]", "pipe:[12]",
	};
	uint64_t ino = 0;

	ASSERT_EQ(socket_inode("socket:[18446744073709551615]", &ino), 0);
	ASSERT(ino == UINT64_MAX);
	for (size_t i = 0; i < ARRAY_SIZE(others); i++)
		ASSERT_EQ(socket_inode(others[i], &ino), -ENOENT);
}

TEST("a control group names the outermost unit")
{
	ASSERT_STREQ(cgroup_text_unit("0::/system.slice/ssh.service\n"), "ssh.service");
	ASSERT_STREQ(cgroup_text_unit("1:name=systemd:/x\n0::/user.slice/user-0.slice/session-3.scope\n"),
		     "session-3.scope");
	ASSERT_STREQ(cgroup_text_unit("0::/user.slice/user@0.service/app.slice/x.service\n"),
		     "user@0.service");
	ASSERT(!cgroup_text_unit("0::/\n"));
	ASSERT(!cgroup_text_unit("0::/init.scop\n"));
	ASSERT(!cgroup_text_unit("1:cpu:/a.service\n"));
	ASSERT(!cgroup_text_unit(""));
	ASSERT(!cgroup_text_unit("0::/.service\n"));
}

TEST("services that the way out needs are kept by name")
{
	ASSERT(keep_by_name("systemd-journald.service"));
	ASSERT(keep_by_name("systemd-journald@x.service"));
	ASSERT(keep_by_name("ifup@eth0.service"));
	ASSERT(keep_by_name("crkexec-guard-0123456789abcdef.service"));
	ASSERT(!keep_by_name("nginx.service"));
	ASSERT(!keep_by_name("not-ssh.service"));
}

TEST("names of units are completed, what cannot be one is refused")
{
	ASSERT_STREQ(unit_name_full("nginx"), "nginx.service");
	ASSERT_STREQ(unit_name_full("nginx.service"), "nginx.service");
	ASSERT_STREQ(unit_name_full("a.b"), "a.b.service");
	ASSERT_STREQ(unit_name_full("ssh.socket"), "ssh.socket");
	ASSERT_STREQ(unit_name_full(".service.service") ? "x" : "refused", "refused");
	ASSERT(!unit_name_full(""));
	ASSERT(!unit_name_full("a/b"));
	ASSERT(!unit_name_full("a b"));
	ASSERT(!unit_name_full("-x"));
	ASSERT(!unit_name_full("a\n"));
}

TEST("memory figures are read by their whole name")
{
	static const char text[] = "MemTotal:  10 kB\nXMemFree: 3 kB\nMemFree:   7 kB\nBad: x kB\n";
	uint64_t v;

	ASSERT_EQ(meminfo_value(text, "MemFree", &v), 0);
	ASSERT_EQ(v, 7168u);
	ASSERT_EQ(meminfo_value(text, "MemTotal", &v), 0);
	ASSERT_EQ(meminfo_value(text, "Mem", &v), -ENOENT);
	ASSERT_EQ(meminfo_value(text, "Bad", &v), -EBADMSG);
	ASSERT_EQ(meminfo_value("", "MemFree", &v), -ENOENT);
	ASSERT_EQ(meminfo_value("A: 99999999999999999999 kB", "A", &v), -EBADMSG);
}

TEST("only a time stamp counter with both flags is believed")
{
	ASSERT(cpuinfo_tsc_is_invariant("x : y\nflags\t: fpu constant_tsc x nonstop_tsc\n\n"));
	ASSERT(!cpuinfo_tsc_is_invariant("x : y\nflags\t: fpu constant_tsc tsc\nbugs : nonstop_tsc\n"));
	ASSERT(!cpuinfo_tsc_is_invariant("\nflags : nonconstant_tsc nonstop_tsc_s3\n"));
	ASSERT(!cpuinfo_tsc_is_invariant(""));
}

TEST("the clocks are read together")
{
	struct manifest_clock a, b;

	clock_read(&a, 5);
	clock_read(&b, 5);
	ASSERT_EQ(a.tsc_khz, 5u);
	ASSERT(b.monotonic_nsec >= a.monotonic_nsec);
	ASSERT(b.boottime_nsec >= b.monotonic_nsec);
	ASSERT(b.tsc > a.tsc);
}

TEST("ids of upgrades are sixteen hexadecimal digits")
{
	ASSERT(lock_id_is_valid("0123456789abcdef"));
	ASSERT(!lock_id_is_valid("0123456789abcde"));
	ASSERT(!lock_id_is_valid("0123456789abcdef0"));
	ASSERT(!lock_id_is_valid("0123456789abcdeF"));
	ASSERT(!lock_id_is_valid("../../../../etc/"));
}

static int parse(struct options *opt, char **argv)
{
	int argc = 0;

	while (argv[argc])
		argc++;
	ASSERT(freopen("/dev/null", "w", stderr));
	return options_parse(argc, argv, opt);
}

#define ARGV(...)	((char *[]){ (char *)"crkexec", ##__VA_ARGS__, NULL })

TEST("options are understood wherever they stand")
{
	struct options o;

	ASSERT_EQ(parse(&o, ARGV("--services", "a,b", "--store=pmem", "-n", "-s", "c")), 0);
	ASSERT_EQ(o.verb, VERB_UPGRADE);
	ASSERT_STREQ(strv_text(&o.services), "a, b, c");
	ASSERT_EQ(o.store, CHOOSE_PMEM);
	ASSERT(o.dry_run);
	ASSERT_EQ(parse(&o, ARGV("check", "--json", "--services", "x", "--kernel", "7.2")), 0);
	ASSERT_EQ(o.verb, VERB_CHECK);
	ASSERT_STREQ(o.kernel, "7.2");
	ASSERT_EQ(parse(&o, ARGV("--services", "x", "check")), 0);
	ASSERT_EQ(o.verb, VERB_CHECK);
	ASSERT_EQ(parse(&o, ARGV("recover", "--guard", "0123456789abcdef")), 0);
	ASSERT(o.guard);
}

TEST("wrong usage is refused")
{
	struct options o;

	ASSERT_EQ(parse(&o, ARGV(NULL)), -EINVAL);
	ASSERT_EQ(parse(&o, ARGV("--services", "")), -EINVAL);
	ASSERT_EQ(parse(&o, ARGV("--services", ",,")), -EINVAL);
	ASSERT_EQ(parse(&o, ARGV("fly")), -EINVAL);
	ASSERT_EQ(parse(&o, ARGV("status", "more")), -EINVAL);
	ASSERT_EQ(parse(&o, ARGV("--services", "a", "--store", "disk")), -EINVAL);
	ASSERT_EQ(parse(&o, ARGV("--services", "a", "--append", "a\nb")), -EINVAL);
	ASSERT_EQ(parse(&o, ARGV("--services")), -EINVAL);
	ASSERT_EQ(parse(&o, ARGV("--nonsense")), -EINVAL);
}

static const char *setting_of(const struct manifest *m, const char *name)
{
	for (size_t i = 0; i < m->n_sysctls; i++)
		if (!strncmp(m->sysctls[i], name, strlen(name)) && m->sysctls[i][strlen(name)] == '=')
			return m->sysctls[i] + strlen(name) + 1;
	return "";
}

TEST("settings travel with their values: the machine's name, ranges as they are written, none that is empty")
{
	_cleanup_(manifest_freep) struct manifest *m = manifest_new();
	unsigned int from, to;
	char host[256] = "";

	ASSERT_OK(gethostname(host, sizeof(host) - 1));
	ASSERT_OK(sysctls_read(m));
	ASSERT_STREQ(setting_of(m, "kernel.hostname"), host);
	ASSERT_EQ(sscanf(setting_of(m, "net.ipv4.ip_local_port_range"), "%u %u", &from, &to), 2);
	for (size_t i = 0; i < m->n_sysctls; i++) {
		const char *value = strchr(m->sysctls[i], '=');

		ASSERT(value && value[1] && !strchr(value, '\t'));
	}
}

static bool profile_is(const char *label, const char *wanted)
{
	_cleanup_free_ char *profile = NULL;
	int r = apparmor_profile_of(label, &profile);

	return wanted ? r == 0 && !strcmp(profile, wanted) : r == -EINVAL;
}

TEST("the AppArmor profile of a label, without its mode and its child")
{
	ASSERT(profile_is("mysqld (enforce)", "mysqld"));
	ASSERT(profile_is("/usr/sbin/named (complain)", "/usr/sbin/named"));
	ASSERT(profile_is("a b (c) (enforce)", "a b (c)"));
	ASSERT(profile_is("plain", "plain"));
	ASSERT(profile_is("libvirtd//qemu_bridge_helper (enforce)", "libvirtd"));
	ASSERT(profile_is("one//&two (enforce)", NULL));
	ASSERT(profile_is(":lxc://inside (enforce)", NULL));
	ASSERT(profile_is("(enforce)", "(enforce)"));
	ASSERT(profile_is("", ""));
}
