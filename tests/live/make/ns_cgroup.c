/*
 * A process and its child in two control groups of the unified hierarchy (and of the v1 pids
 * hierarchy, where there is one): both are where they were, the limit holds.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "maker.h"

static char unified[128], pids[128];	/* mount points; empty: none */
static char name[64];
static pid_t child;

static void find_mounts(void)
{
	char line[1024], point[256], type[64], options[256], *dash;
	FILE *f = fopen("/proc/self/mountinfo", "r");

	MAKER_MUST(f);
	while (fgets(line, sizeof(line), f)) {
		dash = strstr(line, " - ");
		if (!dash || sscanf(line, "%*d %*d %*s %*s %255s", point) != 1 ||
		    sscanf(dash, " - %63s %*s %255s", type, options) != 2)
			continue;
		if (!strcmp(type, "cgroup2"))
			snprintf(unified, sizeof(unified), "%.120s", point);
		if (!strcmp(type, "cgroup") && strstr(options, "pids"))
			snprintf(pids, sizeof(pids), "%.120s", point);
	}
	fclose(f);
}

static void put(const char *root, const char *group, const char *file, const char *text)
{
	char path[320];
	int fd;

	snprintf(path, sizeof(path), "%s/%s/%s", root, group, file);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	MAKER_MUST(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	close(fd);
}

static void make(const char *root, const char *group)
{
	char path[320];

	snprintf(path, sizeof(path), "%s/%s", root, group);
	MAKER_MUST(mkdir(path, 0755) == 0);
}

static void expect(pid_t pid, const char *hierarchy, const char *group)
{
	char path[64], text[4096], line[160];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/cgroup", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	MAKER_MUST(fd >= 0);
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[n > 0 ? n : 0] = '\0';
	snprintf(line, sizeof(line), ":%s:/%s\n", hierarchy, group);
	if (!strstr(text, line))
		maker_fail("%d is not in %.140s but in: %s", pid, line, text);
}

/* Empty groups do not stay behind, whoever runs us. */
static void clean_up(void)
{
	char inner[96], path[320];

	kill(child, SIGKILL);
	for (int try = 0; try < 200 && kill(child, 0) == 0; try++)
		usleep(5000);
	put(unified, "", "cgroup.procs", "0");
	if (*pids)
		put(pids, "", "cgroup.procs", "0");
	snprintf(inner, sizeof(inner), "%s/child", name);
	for (int try = 0; try < 100; try++) {
		snprintf(path, sizeof(path), "%s/%s", unified, inner);
		rmdir(path);
		snprintf(path, sizeof(path), "%s/%s", unified, name);
		if (rmdir(path) == 0 || errno == ENOENT)
			break;
		usleep(10000);
	}
	if (*pids) {
		snprintf(path, sizeof(path), "%s/%s", pids, name);
		rmdir(path);
	}
}

static void start_child(void)
{
	char inner[96];

	child = fork();
	MAKER_MUST(child >= 0);
	if (!child) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	snprintf(inner, sizeof(inner), "%s/child", name);
	make(unified, inner);
	{
		char text[16];

		snprintf(text, sizeof(text), "%d", child);
		put(unified, inner, "cgroup.procs", text);
	}
}

int main(int argc, char **argv)
{
	char inner[96], path[320], text[32] = "";
	int fd;

	maker_begin(argc, argv);
	find_mounts();
	if (!*unified)
		maker_skip("no cgroup2 mounted");
	signal(SIGCHLD, SIG_IGN);
	snprintf(name, sizeof(name), "crk-live-%d", getpid());
	make(unified, name);
	put(unified, name, "cgroup.procs", "0");
	if (*pids) {
		make(pids, name);
		put(pids, name, "pids.max", "77");
		put(pids, name, "cgroup.procs", "0");
	}
	start_child();
	maker_ready();
	maker_wait();

	snprintf(inner, sizeof(inner), "%s/child", name);
	expect(getpid(), "", name);
	expect(child, "", inner);
	if (*pids) {
		expect(getpid(), "pids", name);
		expect(child, "pids", name);
		snprintf(path, sizeof(path), "%s/%s/pids.max", pids, name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		MAKER_MUST(fd >= 0 && read(fd, text, sizeof(text) - 1) > 0);
		close(fd);
		if (strcmp(text, "77\n"))
			maker_fail("pids.max is %s", text);
	}
	clean_up();
	maker_ok();
}
