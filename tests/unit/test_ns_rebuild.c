/* cr/ns: a sandboxed process's namespaces, saved and built again on this machine. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/utsname.h>
#include <time.h>

#define NS_MUST(cond)								\
	do {									\
		if (!(cond))							\
			unit_fail(__FILE__, __LINE__, "%s: %s", #cond, strerror(errno)); \
	} while (0)

#include "ns_fixture.h"
#include "ns/state.h"
#include "tests/live/make/ns_sandbox.h"

struct rebuilt {
	pid_t sandbox;
	struct fixture images;
	struct dump_ctx dump;
	struct dump_process p, *procs[1];
	struct cr_opts opts;
	struct restore_ctx restore;
	struct restore_process rp;
};

static void own_mounts(void)
{
	ASSERT_EQ(geteuid(), 0);
	/* Ours alone, but with the host's propagation: what systemd has made of "/". */
	NS_MUST(unshare(CLONE_NEWNS) == 0);
	NS_MUST(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
	NS_MUST(mount(NULL, "/", NULL, MS_REC | MS_SHARED, NULL) == 0);
}

/* A child for which setup is done, and which then sleeps until it is killed. */
static pid_t start(void (*setup)(const char *base))
{
	static char base[128];
	int ready[2];
	pid_t pid;
	char byte;

	snprintf(base, sizeof(base), "%s/base", unit_tmpdir());
	NS_MUST(pipe2(ready, O_CLOEXEC) == 0);
	pid = fork();
	NS_MUST(pid >= 0);
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		setup(base);
		NS_MUST(write(ready[1], "r", 1) == 1);
		for (;;)
			pause();
	}
	close(ready[1]);
	NS_MUST(read(ready[0], &byte, 1) == 1);
	close(ready[0]);
	return pid;
}

static void setup_sandbox(const char *base)
{
	struct sandbox s;

	sandbox_host_side(&s, base);
	sandbox_mounts_build(&s);
	sandbox_user();
}

static struct dump_process process_of(pid_t pid)
{
	struct dump_process p = { .pid = pid, .life = TASK_ALIVE };
	char path[32];

	snprintf(path, sizeof(path), "/proc/%d", pid);
	p.proc_fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	ASSERT_OK(p.proc_fd);
	return p;
}

static void begin(struct rebuilt *t, void (*setup)(const char *base), enum carrier carrier)
{
	memset(t, 0, sizeof(*t));
	t->sandbox = start(setup);
	t->images = fixture_begin(carrier, 4u << 20);
	if (getenv("NS_TEST_LOG"))
		log_init(LOGLEVEL_DEBUG, -1);
	t->p = process_of(t->sandbox);
	t->procs[0] = &t->p;
	arena_init(&t->dump.arena);
	t->opts = (struct cr_opts){ .cgroup_mode = -1 };
	t->dump.opts = &t->opts;
	t->dump.store = t->images.store;
	t->dump.procs = t->procs;
	t->dump.n_procs = 1;
	t->dump.inventory = ARENA_MSG(&t->dump.arena, InventoryEntry, inventory_entry);
}

static void save(struct rebuilt *t)
{
	ASSERT_OK(ns_dump_ids(&t->dump, &t->p));
	ASSERT_OK(ns_dump_collect(&t->dump));
	ASSERT_OK(ns_dump_all(&t->dump));
	t->dump.inventory->root_ids = t->dump.root_ids;
	fixture_reopen(&t->images);
}

static int rebuild(struct rebuilt *t)
{
	arena_init(&t->restore.arena);
	t->restore.opts = &t->opts;
	t->restore.store = t->images.store;
	t->restore.inventory = t->dump.inventory;
	t->restore.procs = &t->rp;
	t->restore.n_procs = 1;
	t->rp.ids = t->p.ids;
	return prepare_all(&t->restore);
}

static void end(struct rebuilt *t)
{
	kill(t->sandbox, SIGKILL);
	waitpid(t->sandbox, NULL, 0);
	close(t->p.proc_fd);
	ns_restore_done(&t->restore);
	map_done(&t->dump.ns_by_key);
	arena_done(&t->dump.arena);
	arena_done(&t->restore.arena);
	fixture_end(&t->images);
}

/* What a process sees that enters the rebuilt namespaces the way a restored task does. */
struct view {
	char mounts[1 << 17];
	struct utsname uts;
	char uid_map[256], gid_map[256], setgroups[16];
	char error[256];
};

static void read_into(int dirfd, const char *name, char *buf, size_t size)
{
	int fd = openat(dirfd, name, O_RDONLY);
	ssize_t n = read(fd, buf, size - 1);

	buf[n > 0 ? n : 0] = '\0';
	close(fd);
}

static void look(struct view *v, int proc)
{
	char *text = sandbox_mounts_text(proc);

	snprintf(v->mounts, sizeof(v->mounts), "%s", text);
	free(text);
	uname(&v->uts);
	read_into(proc, "uid_map", v->uid_map, sizeof(v->uid_map));
	read_into(proc, "gid_map", v->gid_map, sizeof(v->gid_map));
	read_into(proc, "setgroups", v->setgroups, sizeof(v->setgroups));
}

static struct view *look_from(const struct restore_ctx *ctx, void (*also)(void))
{
	const struct ns_restore *ns = ctx->ns_state;
	int uts_fd = ns_restore_fd(ns, NS_UTS, ns_own_id(ctx->inventory, ctx->procs[0].ids, NS_UTS));
	struct view *v = mmap(NULL, sizeof(*v), PROT_READ | PROT_WRITE,
			      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t pid;
	int status;

	NS_MUST(v != MAP_FAILED);
	pid = fork();
	if (!pid) {
		int proc = open("/proc", O_PATH | O_DIRECTORY);
		char self[16];

		snprintf(self, sizeof(self), "%d", getpid());
		NS_MUST(setns(ns->mntns[0].fd, CLONE_NEWNS) == 0);
		if (uts_fd >= 0)
			NS_MUST(setns(uts_fd, CLONE_NEWUTS) == 0);
		if (ns->user_fd >= 0)
			NS_MUST(setns(ns->user_fd, CLONE_NEWUSER) == 0);
		look(v, openat(proc, self, O_PATH | O_DIRECTORY));
		if (also)
			also();
		_exit(0);
	}
	NS_MUST(waitpid(pid, &status, 0) == pid);
	ASSERT_EQ(status, 0);
	return v;
}

static void look_at_original(struct rebuilt *t, struct view *v)
{
	int uts = openat(t->p.proc_fd, "ns/uts", O_RDONLY);
	pid_t pid = fork();

	if (!pid) {
		NS_MUST(setns(uts, CLONE_NEWUTS) == 0);
		look(v, t->p.proc_fd);
		_exit(0);
	}
	close(uts);
	NS_MUST(waitpid(pid, NULL, 0) == pid);
}

static struct view *original_view(struct rebuilt *t)
{
	struct view *v = mmap(NULL, sizeof(*v), PROT_READ | PROT_WRITE,
			      MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	NS_MUST(v != MAP_FAILED);
	look_at_original(t, v);
	return v;
}

/* The first line that differs, so that a failure says which mount. */
static void same_lines(const char *is, const char *should)
{
	while (*is || *should) {
		size_t n = strcspn(is, "\n"), k = strcspn(should, "\n");

		if (n != k || strncmp(is, should, n))
			unit_fail(__FILE__, __LINE__, "mount is\n#   %.*s\n# not\n#   %.*s",
				  (int)n, is, (int)k, should);
		is += n + (is[n] == '\n');
		should += k + (should[k] == '\n');
	}
}

static void read_mountinfo(char *buf, size_t size)
{
	int fd = open("/proc/self/mountinfo", O_RDONLY);
	size_t len = 0;

	for (ssize_t n; (n = read(fd, buf + len, size - 1 - len)) > 0;)
		len += (size_t)n;
	buf[len] = '\0';
	close(fd);
}

/* As in a distribution's initramfs: the new root is not yet the namespace's. */
static void go_below(void)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/sysroot", unit_tmpdir());
	NS_MUST(mkdir(path, 0700) == 0 && mount("/", path, NULL, MS_BIND | MS_REC, NULL) == 0);
	NS_MUST(chdir(path) == 0 && chroot(".") == 0);
}

static void rebuilds_equal(enum carrier carrier, bool below)
{
	static char before[1 << 16], after[1 << 16];
	struct view *was, *is;
	struct rebuilt t;

	begin(&t, setup_sandbox, carrier);
	save(&t);
	was = original_view(&t);
	if (below)
		go_below();
	read_mountinfo(before, sizeof(before));
	ASSERT_CONTAINS(was->mounts, "hidepid=invisible");
	ASSERT_CONTAINS(was->mounts, " slave");
	ASSERT_OK(rebuild(&t));
	is = look_from(&t.restore, NULL);
	same_lines(is->mounts, was->mounts);
	ASSERT_STREQ(is->uts.nodename, "sandboxed");
	ASSERT_STREQ(is->uts.domainname, "inside");
	/* Blanks differ by the reader. */
	ASSERT_EQ(strtol(strchr(is->uid_map, '\n') + 1, NULL, 10), SANDBOX_UID);
	ASSERT_EQ(strtol(strchr(is->gid_map, '\n') + 1, NULL, 10), SANDBOX_GID);
	ASSERT_STREQ(is->setgroups, "deny\n");
	/* Nothing of it reached the host, whose mounts all propagate. */
	read_mountinfo(after, sizeof(after));
	ASSERT_STREQ(after, before);
	end(&t);
}

TEST("a sandbox of forty mounts is rebuilt equal from a directory, the host untouched")
{
	own_mounts();
	rebuilds_equal(DIRECTORY, false);
}

TEST("a sandbox of forty mounts is rebuilt equal from a bundle, the host untouched")
{
	own_mounts();
	rebuilds_equal(BUNDLE, false);
}

TEST("a sandbox is rebuilt equal by a restorer that is chrooted below shared mounts")
{
	own_mounts();
	rebuilds_equal(DIRECTORY, true);
}

static void check_dev(void)
{
	char value[8];
	struct stat st, st2;

	NS_MUST(stat("/dev/null", &st) == 0 && S_ISCHR(st.st_mode));
	NS_MUST(st.st_rdev == makedev(1, 3) && (st.st_mode & 07777) == 0666);
	NS_MUST(lstat("/dev/sock", &st) == 0 && S_ISSOCK(st.st_mode));
	NS_MUST(lstat("/dev/pipe", &st) == 0 && S_ISFIFO(st.st_mode));
	NS_MUST((st.st_mode & 07777) == 0620);
	NS_MUST(readlink("/dev/ptmx", value, sizeof(value)) == 8 && !memcmp(value, "pts/ptmx", 8));
	NS_MUST(stat("/dev/char/text", &st) == 0 && st.st_uid == SANDBOX_UID);
	NS_MUST(st.st_gid == SANDBOX_GID && (st.st_mode & 07777) == 0640 && st.st_nlink == 2);
	NS_MUST(stat("/dev/linked", &st2) == 0 && st2.st_ino == st.st_ino);
	NS_MUST(stat("/dev/sparse", &st) == 0 && st.st_size == (3 << 20) + 3);
	NS_MUST(st.st_blocks < 64);
	NS_MUST(open("/dev/new", O_CREAT | O_WRONLY, 0600) < 0 && errno == EROFS);
	NS_MUST(open("/new", O_CREAT | O_WRONLY, 0600) < 0 && errno == EROFS);
	NS_MUST(open("/dev/null", O_RDWR) >= 0);
	NS_MUST(access("/tmp/mine", F_OK) == 0);
}

TEST("a rebuilt private /dev has every node, owner, link and hole, and is read-only")
{
	char value[8];
	struct rebuilt t;
	int fd;

	own_mounts();
	begin(&t, setup_sandbox, DIRECTORY);
	save(&t);
	ASSERT_OK(rebuild(&t));
	look_from(&t.restore, check_dev);
	/* trusted.* is only for the initial user namespace. */
	fd = ns_open_path(&t.restore, "/dev/char/text", 0, O_RDONLY);
	ASSERT_OK(fd);
	ASSERT_EQ(fgetxattr(fd, "trusted.kept", value, sizeof(value)), 3);
	ASSERT_MEM_EQ(value, "a\0b", 3);
	close(fd);
	end(&t);
}

static const struct mount *mount_at(struct rebuilt *t, const char *point, const char *root)
{
	struct ns_dump *ns = t->dump.ns_state;

	for (size_t i = 0; i < ns->mntns[0].table.n; i++) {
		const struct mount *m = &ns->mntns[0].table.mounts[i];

		if (!strcmp(m->mountpoint, point) && strstr(m->root, root))
			return m;
	}
	unit_fail(__FILE__, __LINE__, "no mount at %s", point);
}

TEST("files are opened by their mount, also where another one covers it")
{
	char path[200], text[16] = "";
	const struct mount *m;
	struct rebuilt t;
	int fd;

	own_mounts();
	begin(&t, setup_sandbox, DIRECTORY);
	save(&t);
	ASSERT_OK(rebuild(&t));
	snprintf(path, sizeof(path), "%s/base/covered/below", unit_tmpdir());
	m = mount_at(&t, path, "/base/data");
	strcat(path, "/dump.rdb");
	fd = ns_open_path(&t.restore, path, m->id, O_RDONLY);
	ASSERT_OK(fd);
	ASSERT_EQ(read(fd, text, sizeof(text)), 9);
	ASSERT_STREQ(text, "REDIS0011");
	close(fd);
	/* By the path alone it cannot be seen any more. */
	ASSERT_EQ(ns_open_path(&t.restore, path, 0, O_RDONLY), -ENOENT);
	/* One file that is a mount itself. */
	m = mount_at(&t, "/etc/shadow", "/base/nothing.file");
	fd = ns_open_path(&t.restore, "/etc/shadow", m->id, O_RDONLY);
	ASSERT_OK(fd);
	close(fd);
	/* Out of the mount, or by a link: no. */
	ASSERT_EQ(ns_open_path(&t.restore, "/etc/hostname", m->id, O_RDONLY), -EBADMSG);
	m = mount_at(&t, "/dev", "/");
	ASSERT_OK(m->id);
	end(&t);
}

TEST("a mount id that is not the tree's means the host's file")
{
	struct rebuilt t;
	struct stat st;
	int fd;

	own_mounts();
	begin(&t, setup_sandbox, DIRECTORY);
	save(&t);
	ASSERT_OK(rebuild(&t));
	fd = ns_open_path(&t.restore, "/dev/null", 0x7ffffff0, O_RDWR);
	ASSERT_OK(fd);
	ASSERT_EQ(fstat(fd, &st), 0);
	close(fd);
	ASSERT_EQ(stat("/dev/null", &(struct stat){ 0 }), 0);
	ASSERT_EQ(st.st_rdev, makedev(1, 3));
	end(&t);
}

TEST("the engine enters the tree's mount namespace and comes back to where it was")
{
	char before[400], after[400];
	struct rebuilt t;

	own_mounts();
	begin(&t, setup_sandbox, DIRECTORY);
	save(&t);
	ASSERT_OK(rebuild(&t));
	ASSERT_EQ(chdir(unit_tmpdir()), 0);
	ASSERT(getcwd(before, sizeof(before)));
	ASSERT_OK(ns_enter_mnt(&t.restore, 0));
	ASSERT_EQ(access("/tmp/mine", F_OK), 0);
	ASSERT_OK(ns_leave_mnt(&t.restore));
	ASSERT(getcwd(after, sizeof(after)));
	ASSERT_STREQ(after, before);
	ASSERT_NE(access("/tmp/mine", F_OK), 0);
	end(&t);
}

TEST("ids outside the map of a user namespace keep their number, inside ones are translated")
{
	struct rebuilt t;

	own_mounts();
	begin(&t, setup_sandbox, DIRECTORY);
	ASSERT_OK(ns_dump_ids(&t.dump, &t.p));
	ASSERT_OK(ns_dump_collect(&t.dump));
	ASSERT_EQ(dump_uid(&t.dump, 0), 0);
	ASSERT_EQ(dump_uid(&t.dump, SANDBOX_UID), SANDBOX_UID);
	ASSERT_EQ(dump_uid(&t.dump, 1234), 1234);
	ASSERT_EQ(dump_gid(&t.dump, UINT32_MAX), UINT32_MAX);
	end(&t);
}

struct sources {
	const char *base;
	unsigned int binds, volatiles;
};

static int count_source(void *arg, const struct ns_host_source *src)
{
	struct sources *s = arg;

	if (strstr(src->host_path, "/base/"))
		s->binds++;
	if (src->volatile_fs && !strcmp(src->host_path, "/dev/shm"))
		s->volatiles++;
	return 0;
}

TEST("host paths that a sandbox is bound from are listed")
{
	struct sources s = { 0 };
	pid_t pid;

	own_mounts();
	log_init(LOGLEVEL_NONE, -1);
	pid = start(setup_sandbox);
	ASSERT_OK(ns_list_host_sources_of(pid, count_source, &s));
	ASSERT_GE(s.binds, 8);
	ASSERT_GE(s.volatiles, 1);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static char obstacle[512];

static void keep_obstacle(void *arg, const char *scope, const char *what, const char *remedy)
{
	(void)arg;
	(void)scope;
	snprintf(obstacle, sizeof(obstacle), "%s (%s)", what, remedy);
}

static void refused(void (*setup)(const char *base), const char *text)
{
	struct rebuilt t;
	int r;

	begin(&t, setup, DIRECTORY);
	log_obstacles_set(keep_obstacle, NULL);
	r = ns_dump_ids(&t.dump, &t.p);
	if (r >= 0)
		r = ns_dump_collect(&t.dump);
	ASSERT_EQ(r, -EOPNOTSUPP);
	ASSERT_CONTAINS(obstacle, text);
	end(&t);
}

static void setup_foreign_cgroup(const char *base)
{
	(void)base;
	sandbox_user();
	NS_MUST(unshare(CLONE_NEWCGROUP) == 0);
}

static void setup_foreign_ipc(const char *base)
{
	(void)base;
	sandbox_user();
	NS_MUST(unshare(CLONE_NEWIPC) == 0);
}

static void setup_user_first(const char *base)
{
	(void)base;
	sandbox_user();
	NS_MUST(unshare(CLONE_NEWNS) == 0);
}

static void setup_both_ways(const char *base)
{
	(void)base;
	NS_MUST(unshare(CLONE_NEWNS) == 0);
}

static void setup_deleted(const char *base)
{
	struct sandbox s;
	char path[300];

	sandbox_host_side(&s, base);
	NS_MUST(unshare(CLONE_NEWNS) == 0);
	NS_MUST(mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) == 0);
	sandbox_bind_in(&s, "secret", "/etc/shadow", 0);
	snprintf(path, sizeof(path), "%s/secret", base);
	NS_MUST(unlink(path) == 0);
}

TEST("what cannot be rebuilt is refused by name: cgroup, foreign owners, shared, deleted")
{
	own_mounts();
	refused(setup_foreign_cgroup, "cgroup namespace belongs to another user namespace");
	refused(setup_foreign_ipc, "ipc namespace belongs to another user namespace");
	refused(setup_user_first, "belongs to another user namespace");
	refused(setup_both_ways, "share mount events with the host");
	refused(setup_deleted, "has been removed");
}

TEST("a bind source that is missing on the host is named")
{
	char path[200];
	struct rebuilt t;

	own_mounts();
	begin(&t, setup_sandbox, DIRECTORY);
	save(&t);
	snprintf(path, sizeof(path), "%s/base/secret", unit_tmpdir());
	ASSERT_EQ(unlink(path), 0);
	ASSERT_EQ(rebuild(&t), -ENOENT);
	t.restore.ns_state = NULL;
	end(&t);
}

/* The monotonic clock in a child, in this time namespace or (-1) in ours. */
static time_t clock_of_child(int time_fd)
{
	struct timespec ts = { 0 };
	int gate[2], status;
	pid_t pid;

	NS_MUST(pipe(gate) == 0);
	pid = fork();
	if (!pid) {
		if (time_fd >= 0 && setns(time_fd, CLONE_NEWTIME) < 0)
			_exit(1);
		clock_gettime(CLOCK_MONOTONIC, &ts);
		_exit(write(gate[1], &ts, sizeof(ts)) != sizeof(ts));
	}
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	ASSERT_EQ(status, 0);
	ASSERT_EQ(read(gate[0], &ts, sizeof(ts)), sizeof(ts));
	close(gate[0]);
	close(gate[1]);
	return ts.tv_sec;
}

TEST("clocks go on: in the tree's time namespace are the image's clock and the time since, ours are untouched")
{
	struct timespec before;
	struct rebuilt t;
	time_t inside;

	own_mounts();
	begin(&t, setup_sandbox, DIRECTORY);
	save(&t);
	clock_gettime(CLOCK_MONOTONIC, &before);
	t.opts.time_namespace = true;
	t.opts.clock_advance_nsec = 5000ll * 1000000000;
	ASSERT_OK(rebuild(&t));
	inside = clock_of_child(((struct ns_restore *)t.restore.ns_state)->time_fd);
	ASSERT_GE(inside, before.tv_sec + 4990);
	ASSERT_LT(inside, before.tv_sec + 5030);
	ASSERT_LT(clock_of_child(-1), before.tv_sec + 100);
	end(&t);
}
