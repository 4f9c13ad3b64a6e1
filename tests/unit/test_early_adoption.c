/* The hand-over to systemd: which units get a drop-in, what is in it, whom it concerns. */
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "crkexec/manifest.h"
#include "crkexec/paths.h"
#include "systemd-units/adopt.h"
#include "systemd-units/generator.h"
#include "tests/unit/unit.h"
#include "util/io.h"

/* Small things live until the test's process ends; a leak checker sees that we know them. */
static void *keep(void *p)
{
	static void *kept[128];
	static size_t n;

	ASSERT(p && n < ARRAY_SIZE(kept));
	return kept[n++] = p;
}

TEST("only a restored unit that was not adopted yet starts by adoption")
{
	struct manifest_unit u = { .name = (char *)"a.service", .type = (char *)"notify" };

	u.outcome = OUTCOME_PENDING;
	ASSERT(!generator_wants(&u, ADOPTION_NONE));
	u.outcome = OUTCOME_COLD;
	ASSERT(!generator_wants(&u, ADOPTION_NONE));
	u.outcome = OUTCOME_RESTORED;
	ASSERT(generator_wants(&u, ADOPTION_NONE));
	ASSERT(!generator_wants(&u, ADOPTION_DONE));
	ASSERT(!generator_wants(&u, ADOPTION_COLD));
}

TEST("a dbus unit keeps its drop-in after the adoption, unless it started cold")
{
	struct manifest_unit u = { .name = (char *)"a.service", .type = (char *)"dbus" };

	u.outcome = OUTCOME_ADOPTED;
	ASSERT(generator_wants(&u, ADOPTION_DONE));
	ASSERT(generator_wants(&u, ADOPTION_NONE));
	ASSERT(!generator_wants(&u, ADOPTION_COLD));
	u.outcome = OUTCOME_COLD;
	ASSERT(!generator_wants(&u, ADOPTION_DONE));
}

TEST("the helper's flag says whether it adopted")
{
	ASSERT_EQ(adoption_from_text(NULL), ADOPTION_NONE);
	ASSERT_EQ(adoption_from_text("adopted\n"), ADOPTION_DONE);
	ASSERT_EQ(adoption_from_text("cold it ended\n"), ADOPTION_COLD);
}

static char *dropin_of(const struct manifest_unit *u)
{
	char *text = NULL;
	size_t bytes;
	FILE *f = open_memstream(&text, &bytes);

	ASSERT(f);
	generator_write_dropin(f, u);
	fclose(f);
	return keep(text);
}

TEST("a drop-in replaces every command of the start by the helper's")
{
	struct manifest_unit u = { .name = (char *)"a@x\\x2dy.service" };
	char *text = dropin_of(&u);

	ASSERT(strstr(text, "\nExecStartPre=\n"));
	ASSERT(strstr(text, "\nExecStartPost=\n"));
	ASSERT(strstr(text, "\nExecCondition=\n"));
	/* The name itself would be unescaped. */
	ASSERT(strstr(text, "\nExecStart=\nExecStart=+/usr/lib/crkexec/crkexec-adopt %n\n"));
	ASSERT(!strstr(text, "x2d"));
	ASSERT(!strstr(text, "SyslogIdentifier"));
}

TEST("a per cent sign in an identifier stays one")
{
	struct manifest_unit u = { .name = (char *)"a.service", .identifier = (char *)"50%n" };

	ASSERT(strstr(dropin_of(&u), "\nSyslogIdentifier=50%%n\n"));
}

static char *finish_unit_of(const struct manifest *m)
{
	char *text = NULL;
	size_t bytes;
	FILE *f = open_memstream(&text, &bytes);

	ASSERT(f);
	generator_write_finish(f, m);
	fclose(f);
	return keep(text);
}

TEST("the last unit waits for all, and pulls in those that were restored")
{
	struct manifest_unit units[] = {
		{ .name = (char *)"a.service", .outcome = OUTCOME_RESTORED },
		{ .name = (char *)"b.service", .outcome = OUTCOME_COLD },
	};
	struct manifest m = { .units = units, .n_units = 2 };
	char *text = finish_unit_of(&m);

	ASSERT(strstr(text, "Wants=a.service\n") && !strstr(text, "Wants=b.service\n"));
	ASSERT(strstr(text, "After=a.service\n") && strstr(text, "After=b.service\n"));
	ASSERT(!strstr(text, "multi-user.target"));
}

TEST("where packet filter rules came along, the last unit waits for all that the boot starts")
{
	char *line = (char *)"table inet crkexec_a {";
	struct manifest m = { .packet_filter = &line, .n_packet_filter = 1 };

	ASSERT(strstr(finish_unit_of(&m), "\nAfter=multi-user.target default.target\n"));
}

TEST("every descriptor that leads to a file is found, with its close-on-exec flag")
{
	char *path = keep(str_fmt("%s/out", unit_tmpdir()));
	int a = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600), b = dup(a);
	int other = open(path, O_RDONLY);
	struct held_fd *fds;
	struct stat st;
	size_t n;

	ASSERT_OK(other);
	ASSERT_OK(fstat(a, &st));
	ASSERT_OK(proc_held_fds(getpid(), st.st_dev, st.st_ino, &fds, &n));
	keep(fds);
	ASSERT_EQ(n, 3);
	for (size_t i = 0; i < n; i++) {
		ASSERT(fds[i].t_fd == a || fds[i].t_fd == b || fds[i].t_fd == other);
		ASSERT_EQ(fds[i].cloexec, fds[i].t_fd == a);
	}
	ASSERT_OK(unlink(path));
}

TEST("a process that is gone is in no control group and has no threads")
{
	pid_t *tids, pid = fork();
	size_t n;

	if (pid == 0)
		_exit(0);
	waitpid(pid, NULL, 0);
	ASSERT_EQ(proc_in_cgroup(pid, "/"), 0);
	ASSERT_EQ(proc_threads(pid, &tids, &n), -ENOENT);
	ASSERT_OK(proc_threads(getpid(), &tids, &n));
	keep(tids);
	ASSERT(n == 1 && tids[0] == getpid());
}

TEST("membership of a control group is by whole names")
{
	char *text, *line, *end, *part;

	ASSERT_OK(read_file_at(AT_FDCWD, "/proc/self/cgroup", 65536, &text, NULL));
	keep(text);
	line = strncmp(text, "0::", 3) ? strstr(text, "\n0::") : text;
	if (!line)
		unit_skip("no unified control group hierarchy");
	line = strstr(line, "0::") + 3;
	end = strchr(line, '\n');
	if (end)
		*end = '\0';
	ASSERT_EQ(proc_in_cgroup(getpid(), line), 1);
	part = keep(str_fmt("%sx", line));
	ASSERT_EQ(proc_in_cgroup(getpid(), part), 0);
	ASSERT_EQ(proc_in_cgroup(getpid(), "/no-such.slice"), 0);
}

TEST("a private directory gets this boot's id; no other path is renamed")
{
	static const char id[] = "0123456789abcdef0123456789abcdef";
	static const char *const others[] = {
		"/tmp/systemd-private-short-a.service-x", "/tmp/file", "/tmp/systemd-private-",
		"/tmp/systemd-private-ffffffffffffffffffffffffffffffff-a.service-x/tmp",
		"/tmp/systemd-private-ffffffffffffffffffffffffffffffff_a.service-x",
	};
	const char *top = unit_tmpdir();
	char *from, *to;
	struct stat st;

	from = keep(str_fmt("%s/systemd-private-ffffffffffffffffffffffffffffffff-a.service-Ab12", top));
	to = keep(str_fmt("%s/systemd-private-%s-a.service-Ab12", top, id));
	ASSERT(mkdir(from, 0700) == 0);
	ASSERT_EQ(adopt_rename_private(from, id), 0);
	ASSERT(stat(from, &st) < 0 && stat(to, &st) == 0);
	/* Done already; gone. */
	ASSERT_EQ(adopt_rename_private(to, id), 0);
	ASSERT_EQ(adopt_rename_private(from, id), 0);
	/* Never onto another one. */
	ASSERT(mkdir(from, 0700) == 0);
	ASSERT_EQ(adopt_rename_private(from, id), -EEXIST);
	ASSERT(rmdir(from) == 0 && rmdir(to) == 0);
	for (size_t i = 0; i < ARRAY_SIZE(others); i++)
		ASSERT_EQ(adopt_rename_private(others[i], id), 0);
}

/* A /run of our own, and a systemctl that does nothing. */
static void own_run(void)
{
	_cleanup_free_ char *path = str_fmt("%s/systemctl", unit_tmpdir());

	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("crk-unit", "/run", "tmpfs", 0, "size=1m") < 0)
		unit_skip("no /run of its own: %s", strerror(errno));
	ASSERT_OK(symlink("/bin/true", path));
	ASSERT_OK(setenv("PATH", unit_tmpdir(), 1));
	ASSERT_OK(make_dirs(ADOPTED_DIR));
	ASSERT_OK(adopt_mark("a.service", "adopted\n"));
}

TEST("after the adoption nothing stays in /run, but images that found no place on disk")
{
	own_run();
	ASSERT_OK(adopt_cleanup());
	ASSERT_EQ(access(CRKEXEC_RUN_DIR, F_OK), -1);
	ASSERT_OK(make_dirs(ADOPTED_DIR));
	ASSERT_OK(make_dirs(CRKEXEC_RUN_DIR "/failed/0123456789abcdef/a.service"));
	ASSERT_OK(make_dirs(CRKEXEC_RUN_DIR "/other/failed"));
	ASSERT_OK(adopt_cleanup());
	ASSERT_OK(access(CRKEXEC_RUN_DIR "/failed/0123456789abcdef/a.service", F_OK));
	ASSERT_EQ(access(ADOPTED_DIR, F_OK), -1);
	ASSERT_EQ(access(CRKEXEC_RUN_DIR "/other", F_OK), -1);
}
