/*
 * A cgroup namespace of its own: the group it was made in shows as "/", a group below it where the
 * child is as "/child"; a cgroup2 filesystem mounted inside shows that part alone.
 */
#define _GNU_SOURCE
#include <libgen.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>

#include "cgroup_common.h"

static char unified[128], group[320], inner[330], own_mount[300], outside[300];
static pid_t child;

/* The runner's group, which was ours, as the namespace shows it. */
static void note_outside(void)
{
	char line[256], *path;
	FILE *f = fopen("/proc/self/cgroup", "r");

	MAKER_MUST(f);
	while (fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = '\0';
		path = !strncmp(line, "0::", 3) ? line + 3 : NULL;
		if (path)
			snprintf(outside, sizeof(outside), "/..%s", strcmp(path, "/") ? path : "");
	}
	fclose(f);
}

static void mount_groups(void)
{
	MAKER_MUST(unshare(CLONE_NEWNS) == 0);
	MAKER_MUST(mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) == 0);
	MAKER_MUST(mount("cgroup2", own_mount, "cgroup2", MS_NOSUID | MS_NODEV, NULL) == 0);
}

static void check_mount(void)
{
	char path[400];

	snprintf(path, sizeof(path), "%s/child/cgroup.procs", own_mount);
	if (access(path, F_OK) < 0)
		maker_fail("%s does not show the namespace's groups: %s", own_mount, strerror(errno));
}

static void clean_up(void)
{
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	cgroup_move(0, unified);
	cgroup_remove(inner);
	cgroup_remove(group);
}

int main(int argc, char **argv)
{
	maker_begin(argc, argv);
	cgroup_mount(NULL, unified, sizeof(unified));
	if (!*unified)
		maker_fail("no cgroup2 is mounted");
	snprintf(group, sizeof(group), "%s/crk-cgns-%d", unified, maker_number());
	snprintf(inner, sizeof(inner), "%s/child", group);
	snprintf(own_mount, sizeof(own_mount), "%.200s/groups", dirname(strdup(argv[1])));
	cgroup_make(group);
	cgroup_make(inner);
	MAKER_MUST(mkdir(own_mount, 0755) == 0);
	note_outside();
	cgroup_move(0, group);
	MAKER_MUST(unshare(CLONE_NEWCGROUP) == 0);
	if (!maker_is_plain())
		mount_groups();
	child = fork();
	MAKER_MUST(child >= 0);
	if (!child) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	cgroup_move(child, inner);
	cgroup_expect(getpid(), "", "/");
	cgroup_expect(child, "", "/child");
	if (!maker_is_plain())
		check_mount();
	maker_ready();
	maker_wait();

	cgroup_expect(getpid(), "", "/");
	cgroup_expect(child, "", "/child");
	cgroup_expect(getppid(), "", outside);
	if (!maker_is_plain())
		check_mount();
	clean_up();
	maker_ok();
}
