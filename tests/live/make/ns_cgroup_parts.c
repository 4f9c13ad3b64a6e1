/*
 * Control group namespaces of parts of a tree, whose root is in the host's: one made in a group, one below it
 * made in a group further down, a process in the same group as the first that is not in any, and one that
 * came into the first by a descriptor. Each sees its own group under the name that its namespace gives it, and a
 * cgroup2 filesystem that it has mounted shows its namespace's groups.
 */
#define _GNU_SOURCE
#include <libgen.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>

#include "cgroup_common.h"

enum { WHOLE, UPPER, LOWER, ENTERED, MEMBERS };
static const char *const names[MEMBERS] = { "whole", "upper", "lower", "entered" };

static char unified[128], group[320], inner[330], base[200];
static struct member {
	pid_t pid;
	char sees[300];			/* its group in the unified hierarchy */
} m[MEMBERS];

static void seen_by(pid_t pid, char *ret, size_t room)
{
	char text[4096], path[64];
	int out[2], status, ns;
	ssize_t n;
	pid_t who;

	/* Whoever reads it sees it as his own namespace has it. */
	snprintf(path, sizeof(path), "/proc/%d/ns/cgroup", pid);
	MAKER_MUST(pipe(out) == 0);
	who = fork();
	MAKER_MUST(who >= 0);
	if (!who) {
		ns = open(path, O_RDONLY | O_CLOEXEC);
		MAKER_MUST(ns >= 0 && setns(ns, CLONE_NEWCGROUP) == 0);
		maker_read_proc(pid, "cgroup", text, sizeof(text));
		char *line = strstr(text, "0::");

		MAKER_MUST(line);
		line[strcspn(line, "\n")] = '\0';
		MAKER_MUST(write(out[1], line + 3, strlen(line + 3)) > 0);
		_exit(0);
	}
	close(out[1]);
	n = read(out[0], ret, room - 1);
	MAKER_MUST(n > 0);
	ret[n] = '\0';
	close(out[0]);
	MAKER_MUST(waitpid(who, &status, 0) == who && !status);
}

static ino_t ns_of(pid_t pid)
{
	char path[64];
	struct stat st;

	snprintf(path, sizeof(path), "/proc/%d/ns/cgroup", pid);
	MAKER_MUST(stat(path, &st) == 0);
	return st.st_ino;
}

static void mount_groups(int i)
{
	char at[300];

	snprintf(at, sizeof(at), "%s/%s", base, names[i]);
	MAKER_MUST(unshare(CLONE_NEWNS) == 0);
	MAKER_MUST(mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) == 0);
	MAKER_MUST(mount("cgroup2", at, "cgroup2", MS_NOSUID | MS_NODEV, NULL) == 0);
}

/* In this group, in a namespace of its own or that behind ns. */
static void begin(int i, const char *where, bool own, int ns)
{
	int ready[2];
	char c;

	MAKER_MUST(pipe2(ready, O_CLOEXEC) == 0);
	m[i].pid = fork();
	MAKER_MUST(m[i].pid >= 0);
	if (!m[i].pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		cgroup_move(0, where);
		if (ns >= 0)
			MAKER_MUST(setns(ns, CLONE_NEWCGROUP) == 0);
		if (own) {
			MAKER_MUST(unshare(CLONE_NEWCGROUP) == 0);
			if (!maker_is_plain())
				mount_groups(i);
		}
		MAKER_MUST(write(ready[1], "r", 1) == 1);
		close(ready[0]);
		close(ready[1]);
		for (;;)
			pause();
	}
	close(ready[1]);
	MAKER_MUST(read(ready[0], &c, 1) == 1);
	close(ready[0]);
	seen_by(m[i].pid, m[i].sees, sizeof(m[i].sees));
}

/* What the filesystem that i has mounted shows of the others: the group below, or none. */
static void check_mount(int i, bool has_inner)
{
	char path[400];

	snprintf(path, sizeof(path), "/proc/%d/root%s/%s/inner/cgroup.procs", m[i].pid, base, names[i]);
	if ((access(path, F_OK) == 0) != has_inner)
		maker_fail("%s is %s", path, has_inner ? "not there" : "there");
	snprintf(path, sizeof(path), "/proc/%d/root%s/%s/cgroup.events", m[i].pid, base, names[i]);
	if (access(path, F_OK) < 0)
		maker_fail("%s shows more than the namespace's groups", path);
}

static void check(void)
{
	char now[300];

	for (int i = 0; i < MEMBERS; i++) {
		seen_by(m[i].pid, now, sizeof(now));
		if (strcmp(now, m[i].sees))
			maker_fail("%s sees its group as %s, saw %s", names[i], now, m[i].sees);
	}
	if (ns_of(m[ENTERED].pid) != ns_of(m[UPPER].pid) || ns_of(m[WHOLE].pid) != ns_of(getpid()))
		maker_fail("two processes do not share a control group namespace any more");
	if (ns_of(m[UPPER].pid) == ns_of(m[LOWER].pid) || ns_of(m[UPPER].pid) == ns_of(getpid()))
		maker_fail("two processes share a control group namespace");
	if (!maker_is_plain()) {
		check_mount(UPPER, true);
		check_mount(LOWER, false);
	}
}

int main(int argc, char **argv)
{
	char path[64];
	int ns;

	maker_begin(argc, argv);
	cgroup_mount(NULL, unified, sizeof(unified));
	if (!*unified)
		maker_fail("no cgroup2 is mounted");
	snprintf(group, sizeof(group), "%s/crk-cgparts-%d", unified, maker_number());
	snprintf(inner, sizeof(inner), "%s/inner", group);
	snprintf(base, sizeof(base), "%.180s", dirname(strdup(argv[1])));
	for (int i = 0; i < MEMBERS; i++) {
		char at[300];

		snprintf(at, sizeof(at), "%s/%s", base, names[i]);
		MAKER_MUST(mkdir(at, 0755) == 0);
	}
	cgroup_make(group);
	cgroup_make(inner);
	begin(WHOLE, group, false, -1);
	begin(UPPER, group, true, -1);
	begin(LOWER, inner, true, -1);
	snprintf(path, sizeof(path), "/proc/%d/ns/cgroup", m[UPPER].pid);
	ns = open(path, O_RDONLY | O_CLOEXEC);
	MAKER_MUST(ns >= 0);
	begin(ENTERED, inner, false, ns);
	if (strcmp(m[UPPER].sees, "/") || strcmp(m[LOWER].sees, "/") || strcmp(m[ENTERED].sees, "/inner"))
		maker_fail("they see their groups as %s, %s, %s", m[UPPER].sees, m[LOWER].sees, m[ENTERED].sees);
	check();
	maker_ready();
	maker_wait();

	check();
	for (int i = 0; i < MEMBERS; i++) {
		kill(m[i].pid, SIGKILL);
		waitpid(m[i].pid, NULL, 0);
	}
	cgroup_remove(inner);
	cgroup_remove(group);
	maker_ok();
}
