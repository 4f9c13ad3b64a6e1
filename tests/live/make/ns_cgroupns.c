/*
 * A cgroup namespace of its own: the group it was made in shows as "/", a group below it where the
 * child is as "/child"; a cgroup2 filesystem mounted inside shows that part alone.
 */
#define _GNU_SOURCE
#include <libgen.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "maker.h"

static char unified[128], group[320], inner[330], own_mount[300];
static pid_t child;

static void find_mount(void)
{
	char line[1024], point[256], type[64], *dash;
	FILE *f = fopen("/proc/self/mountinfo", "r");

	MAKER_MUST(f);
	while (fgets(line, sizeof(line), f)) {
		dash = strstr(line, " - ");
		if (dash && sscanf(line, "%*d %*d %*s %*s %255s", point) == 1 &&
		    sscanf(dash, " - %63s", type) == 1 && !strcmp(type, "cgroup2") && !*unified)
			snprintf(unified, sizeof(unified), "%.120s", point);
	}
	fclose(f);
}

static int put(const char *dir, const char *text)
{
	char path[400];
	int fd, r;

	snprintf(path, sizeof(path), "%s/cgroup.procs", dir);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	r = write(fd, text, strlen(text)) == (ssize_t)strlen(text) ? 0 : -1;
	close(fd);
	return r;
}

static void expect(pid_t pid, const char *should)
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
	snprintf(line, sizeof(line), "0::%s\n", should);
	if (!strstr(text, line))
		maker_fail("%d is not in %s but in: %s", pid, should, text);
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
	put(unified, "0");
	for (int try = 0; try < 200 && rmdir(inner) < 0 && errno != ENOENT; try++)
		usleep(5000);
	for (int try = 0; try < 200 && rmdir(group) < 0 && errno != ENOENT; try++)
		usleep(5000);
}

int main(int argc, char **argv)
{
	char text[16];

	maker_begin(argc, argv);
	find_mount();
	if (!*unified)
		maker_skip("no cgroup2 mounted");
	snprintf(group, sizeof(group), "%s/crk-cgns-%d", unified, getpid());
	snprintf(inner, sizeof(inner), "%s/child", group);
	snprintf(own_mount, sizeof(own_mount), "%.200s/groups", dirname(strdup(argv[1])));
	MAKER_MUST(mkdir(group, 0755) == 0 && mkdir(inner, 0755) == 0 && mkdir(own_mount, 0755) == 0);
	MAKER_MUST(put(group, "0") == 0);
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
	snprintf(text, sizeof(text), "%d", child);
	MAKER_MUST(put(inner, text) == 0);
	expect(getpid(), "/");
	expect(child, "/child");
	if (!maker_is_plain())
		check_mount();
	maker_ready();
	maker_wait();

	expect(getpid(), "/");
	expect(child, "/child");
	expect(getppid(), "/..");
	if (!maker_is_plain())
		check_mount();
	clean_up();
	maker_ok();
}
