/* Phases and the undo log: whatever fails, exactly what ran is undone, in reverse. */
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>

#include "crkexec/phase.h"
#include "crkexec/undo.h"
#include "unit.h"
#include "util/io.h"
#include "util/log.h"

struct trace {
	char text[200];
	int fail_at, fail_with, bad_undo, stop_before;
};

static void note(struct trace *t, char what, int n)
{
	size_t used = strlen(t->text);

	snprintf(t->text + used, sizeof(t->text) - used, "%c%d ", what, n);
}

static int run(struct trace *t, int n)
{
	note(t, 'r', n);
	return t->fail_at == n ? t->fail_with : 0;
}

static int undo(struct trace *t, int n)
{
	note(t, 'u', n);
	return t->bad_undo == n ? -EIO : 0;
}

#define PHASE_FNS(n)					\
	static int run##n(void *t) { return run(t, n); }	\
	static int undo##n(void *t) { return undo(t, n); }
PHASE_FNS(1)
PHASE_FNS(2)
PHASE_FNS(4)
static int run3(void *t) { return run(t, 3); }

static const struct phase table[] = {
	{ "one", "", run1, undo1 },
	{ "two", "", run2, undo2 },
	{ "three", "", run3, NULL },
	{ "four", "", run4, undo4 },
};

static int before(void *arg, const struct phase *p)
{
	struct trace *t = arg;

	return t->stop_before && p == &table[t->stop_before - 1] ? -ECANCELED : 0;
}

static const struct phase_hooks hooks = { .before = before };

static int go(struct trace *t, int *ret_undo)
{
	t->text[0] = '\0';
	return phases_run(table, 4, &hooks, t, ret_undo);
}

TEST("phases that all succeed are not undone")
{
	struct trace t = { .fail_at = 0 };
	int u;

	ASSERT_EQ(go(&t, &u), 0);
	ASSERT_STREQ(t.text, "r1 r2 r3 r4 ");
	ASSERT_EQ(u, 0);
}

TEST("every point of failure undoes exactly what ran, the failing phase included, in reverse")
{
	static const char *const want[] = {
		"r1 u1 ", "r1 r2 u2 u1 ", "r1 r2 r3 u2 u1 ", "r1 r2 r3 r4 u4 u2 u1 ",
	};

	for (int i = 1; i <= 4; i++) {
		struct trace t = { .fail_at = i, .fail_with = -ENOMEM };
		int u;

		ASSERT_EQ(go(&t, &u), -ENOMEM);
		ASSERT_STREQ(t.text, want[i - 1]);
		ASSERT_EQ(u, 0);
	}
}

TEST("a wish to stop before a phase undoes those before it")
{
	static const char *const want[] = { "", "r1 u1 ", "r1 r2 u2 u1 ", "r1 r2 r3 u2 u1 " };

	for (int i = 1; i <= 4; i++) {
		struct trace t = { .stop_before = i };
		int u;

		ASSERT_EQ(go(&t, &u), -ECANCELED);
		ASSERT_STREQ(t.text, want[i - 1]);
	}
}

TEST("a phase that says stop ends a dry run without an error, undone")
{
	struct trace t = { .fail_at = 3, .fail_with = PHASE_STOP };
	int u;

	ASSERT_EQ(go(&t, &u), 0);
	ASSERT_STREQ(t.text, "r1 r2 r3 u2 u1 ");
}

TEST("an undo that fails does not keep the others from being undone, and is told")
{
	struct trace t = { .fail_at = 4, .fail_with = -EIO, .bad_undo = 4 };
	int u;

	ASSERT_EQ(go(&t, &u), -EIO);
	ASSERT_STREQ(t.text, "r1 r2 r3 r4 u4 u2 u1 ");
	ASSERT_EQ(u, -EIO);
}

static char undone[200];

static int take(const char *arg)
{
	size_t used = strlen(undone);

	snprintf(undone + used, sizeof(undone) - used, "%s;", arg);
	return strcmp(arg, "bad") ? 0 : -EIO;
}

static const struct undo_kind kinds[] = { { "take", "take", take }, { NULL, NULL, NULL } };

static int open_log(struct undo_log *log)
{
	int dirfd = open(unit_tmpdir(), O_RDONLY | O_DIRECTORY);

	log_init(LOGLEVEL_NONE, -1);
	ASSERT(dirfd >= 0);
	return undo_open(log, dirfd, true);
}

TEST("the undo log is taken back from its end to a mark")
{
	struct undo_log log;
	off_t mark;

	ASSERT_EQ(open_log(&log), 0);
	ASSERT_EQ(undo_push(&log, "take", "a b"), 0);
	mark = undo_mark(&log);
	ASSERT_EQ(undo_push(&log, "take", "c"), 0);
	ASSERT_EQ(undo_push(&log, "take", "d"), 0);
	ASSERT_EQ(undo_rewind(&log, mark, kinds), 0);
	ASSERT_STREQ(undone, "d;c;");
	ASSERT_EQ(undo_rewind(&log, mark, kinds), 0);
	ASSERT_STREQ(undone, "d;c;");
	ASSERT_EQ(undo_rewind(&log, 0, kinds), 0);
	ASSERT_STREQ(undone, "d;c;a b;");
}

TEST("another process undoes what a killed one has written down")
{
	struct undo_log log, other;

	ASSERT_EQ(open_log(&log), 0);
	ASSERT_EQ(undo_push(&log, "take", "x"), 0);
	ASSERT_EQ(undo_push(&log, "take", "y"), 0);
	ASSERT_EQ(open_log(&other), 0);
	ASSERT_EQ(undo_rewind(&other, 0, kinds), 0);
	ASSERT_STREQ(undone, "y;x;");
	ASSERT_EQ(lseek(log.fd, 0, SEEK_END), 0);
}

TEST("a step that cannot be undone is told and kept, the others are undone")
{
	struct undo_log log;

	ASSERT_EQ(open_log(&log), 0);
	ASSERT_EQ(undo_push(&log, "take", "first"), 0);
	ASSERT_EQ(undo_push(&log, "take", "bad"), 0);
	ASSERT_EQ(undo_push(&log, "take", "last"), 0);
	ASSERT_EQ(undo_rewind(&log, 0, kinds), -EIO);
	ASSERT_STREQ(undone, "last;bad;first;");
	ASSERT_EQ(undo_push(&log, "take", "later"), 0);
	undone[0] = '\0';
	/* Whoever tries next finds just that. */
	ASSERT_EQ(undo_rewind(&log, 0, kinds), -EIO);
	ASSERT_STREQ(undone, "later;bad;");
	ASSERT_EQ(undo_mark(&log), (off_t)strlen("take bad\n"));
}

TEST("a damaged undo log neither crashes nor runs what it does not know")
{
	static const char text[] = "\n\ntake\nrm -rf /\ntake ok\ntake cut of";
	struct undo_log log;

	ASSERT_EQ(open_log(&log), 0);
	ASSERT_EQ(pwrite_full(log.fd, text, sizeof(text) - 1, 0), 0);
	log.end = sizeof(text) - 1;
	ASSERT_EQ(undo_rewind(&log, 0, kinds), 0);
	ASSERT_STREQ(undone, "ok;");
	ASSERT_EQ(undo_push(&log, "take", "two\nlines"), -EINVAL);
}

TEST("recovery knows every kind of step that phases write down")
{
	static const char *const used[] = { "unload", "umount", "thaw", "fsthaw", "start", "settle",
		"started" };

	for (size_t i = 0; i < sizeof(used) / sizeof(used[0]); i++) {
		bool found = false;

		for (const struct undo_kind *k = undo_kinds; k->name; k++)
			found |= !strcmp(k->name, used[i]);
		ASSERT(found);
	}
}

static int option(int fd, int level, int name)
{
	int v = -1;
	socklen_t len = sizeof(v);

	return getsockopt(fd, level, name, &v, &len) < 0 ? -1 : v;
}

/* A network namespace of our own: how the machine's is set up does not matter. */
static void loopback_only(void)
{
	struct ifreq lo = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	_cleanup_close_ int fd = -EBADF;

	ASSERT_OK(unshare(CLONE_NEWNET));
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	ASSERT_OK(ioctl(fd, SIOCSIFFLAGS, &lo));
}

/* A connection over loopback, one end in repair mode; both ends are close-on-exec. */
static void connection(int ret[2])
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	socklen_t len = sizeof(a);
	_cleanup_close_ int l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int on = 1;

	ret[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ASSERT_OK(setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)));
	ASSERT_OK(bind(l, (struct sockaddr *)&a, sizeof(a)));
	ASSERT_OK(listen(l, 1));
	ASSERT_OK(getsockname(l, (struct sockaddr *)&a, &len));
	ASSERT_OK(connect(ret[0], (struct sockaddr *)&a, sizeof(a)));
	ret[1] = accept(l, NULL, NULL);
	ASSERT_OK(setsockopt(ret[1], SOL_TCP, TCP_REPAIR, &on, sizeof(on)));
}

/* A group of the unified hierarchy with a process that has our descriptors; 0 where there is none mounted. */
static pid_t frozen_group(char *path, size_t room)
{
	static const char *const roots[] = { "/sys/fs/cgroup/unified", "/sys/fs/cgroup" };
	struct statfs fs;
	pid_t child;

	for (size_t i = 0; i < 2; i++) {
		char text[16];
		int dir;

		if (statfs(roots[i], &fs) < 0 || fs.f_type != 0x63677270 /* CGROUP2_SUPER_MAGIC */)
			continue;
		snprintf(path, room, "%s/crk-unit-%d", roots[i], getpid());
		ASSERT_OK(mkdir(path, 0755));
		child = fork();
		ASSERT_OK(child);
		if (!child)
			for (;;)
				pause();
		snprintf(text, sizeof(text), "%d", child);
		dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
		ASSERT_OK(write_file_at(dir, "cgroup.procs", text));
		close(dir);
		return child;
	}
	return 0;
}

static int undo_one(const char *name, const char *arg)
{
	for (const struct undo_kind *k = undo_kinds; k->name; k++)
		if (!strcmp(k->name, name))
			return k->run(arg);
	return -ENOENT;
}

TEST("a connection left in repair mode by a killed dump works again, SO_REUSEADDR included")
{
	const int was[] = { 1, 0, 2 };	/* 2: killed before the dump could say */

	loopback_only();
	for (size_t i = 0; i < 3; i++) {
		char path[64];
		int ends[2], v = was[i], r, repair, reuse;
		pid_t child;

		connection(ends);
		if (v < 2)
			ASSERT_EQ(setsockopt(ends[1], SOL_SOCKET, SO_REUSEADDR, &v, sizeof(v)), 0);
		child = frozen_group(path, sizeof(path));
		if (!child)
			unit_skip("no cgroup2 mounted at /sys/fs/cgroup or /sys/fs/cgroup/unified");
		r = undo_one("thaw", path);
		repair = option(ends[1], SOL_TCP, TCP_REPAIR);
		reuse = option(ends[1], SOL_SOCKET, SO_REUSEADDR);
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
		for (int try = 0; try < 200 && rmdir(path) < 0; try++)
			usleep(5000);
		close(ends[0]);
		close(ends[1]);
		ASSERT_EQ(r, 0);
		ASSERT_EQ(repair, 0);
		ASSERT_EQ(reuse, v > 0);
	}
}
