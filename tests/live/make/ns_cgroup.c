/*
 * A process and its child in two control groups of the unified hierarchy (and of the v1 pids
 * hierarchy, where there is one): both are where they were, the limit holds.
 */
#define _GNU_SOURCE
#include <sys/prctl.h>

#include "cgroup_common.h"

static char unified[128], pids[128];	/* mount points; empty: none */
static char outer[320], inner[330], outer_pids[320];
static pid_t child;

/* Empty groups do not stay behind, whoever runs us. */
static void clean_up(void)
{
	kill(child, SIGKILL);
	for (int try = 0; try < 200 && kill(child, 0) == 0; try++)
		usleep(5000);
	cgroup_move(0, unified);
	cgroup_remove(inner);
	cgroup_remove(outer);
	if (*pids) {
		cgroup_move(0, pids);
		cgroup_remove(outer_pids);
	}
}

static void start_child(void)
{
	child = fork();
	MAKER_MUST(child >= 0);
	if (!child) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	cgroup_make(inner);
	cgroup_move(child, inner);
}

int main(int argc, char **argv)
{
	char name[64], child_name[72], path[340], text[32] = "";
	int fd;

	maker_begin(argc, argv);
	cgroup_mount(NULL, unified, sizeof(unified));
	cgroup_mount("pids", pids, sizeof(pids));
	if (!*unified)
		maker_skip("no cgroup2 mounted");
	signal(SIGCHLD, SIG_IGN);
	snprintf(name, sizeof(name), "/crk-live-%d", maker_number());
	snprintf(child_name, sizeof(child_name), "%s/child", name);
	snprintf(outer, sizeof(outer), "%s%s", unified, name);
	snprintf(inner, sizeof(inner), "%s%s", unified, child_name);
	snprintf(outer_pids, sizeof(outer_pids), "%s%s", pids, name);
	cgroup_make(outer);
	cgroup_move(0, outer);
	if (*pids) {
		cgroup_make(outer_pids);
		cgroup_put(outer_pids, "pids.max", "77");
		cgroup_move(0, outer_pids);
	}
	start_child();
	maker_ready();
	maker_wait();

	cgroup_expect(getpid(), "", name);
	cgroup_expect(child, "", child_name);
	if (*pids) {
		cgroup_expect(getpid(), "pids", name);
		cgroup_expect(child, "pids", name);
		snprintf(path, sizeof(path), "%s/pids.max", outer_pids);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		MAKER_MUST(fd >= 0 && read(fd, text, sizeof(text) - 1) > 0);
		close(fd);
		if (strcmp(text, "77\n"))
			maker_fail("pids.max is %s", text);
	}
	clean_up();
	maker_ok();
}
