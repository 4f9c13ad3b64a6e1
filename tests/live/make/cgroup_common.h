/* What the makers of control groups share. */
#ifndef TESTS_LIVE_CGROUP_COMMON_H
#define TESTS_LIVE_CGROUP_COMMON_H

#include "maker.h"

/* The mount point of the unified hierarchy, or of the v1 one of a controller; "": none. */
__attribute__((unused)) static void cgroup_mount(const char *controller, char *ret, size_t room)
{
	char line[1024], point[256], type[64], options[256], *dash;
	FILE *f = fopen("/proc/self/mountinfo", "r");

	MAKER_MUST(f);
	*ret = '\0';
	while (fgets(line, sizeof(line), f)) {
		dash = strstr(line, " - ");
		if (!dash || sscanf(line, "%*d %*d %*s %*s %255s", point) != 1 ||
		    sscanf(dash, " - %63s %*s %255s", type, options) != 2)
			continue;
		/* The first: a CRIU that works beside us has one of its own for a while. */
		if (*ret)
			break;
		if (controller ? !strcmp(type, "cgroup") && strstr(options, controller)
			       : !strcmp(type, "cgroup2"))
			snprintf(ret, room, "%.120s", point);
	}
	fclose(f);
}

/* An empty one may be there: a failed test's, whose pid is ours now. */
__attribute__((unused)) static void cgroup_make(const char *dir)
{
	MAKER_MUST(!mkdir(dir, 0755) || errno == EEXIST);
}

/* dir is made of a mount point and a group's path. */
__attribute__((unused)) static void cgroup_put(const char *dir, const char *file, const char *text)
{
	char path[400];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, file);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	MAKER_MUST(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	close(fd);
}

__attribute__((unused)) static void cgroup_move(pid_t pid, const char *dir)
{
	char text[16];

	snprintf(text, sizeof(text), "%d", pid);
	cgroup_put(dir, "cgroup.procs", text);
}

/* hierarchy: "" for the unified one. group begins with "/". */
__attribute__((unused)) static void cgroup_expect(pid_t pid, const char *hierarchy, const char *group)
{
	char text[4096], line[160];

	maker_read_proc(pid, "cgroup", text, sizeof(text));
	snprintf(line, sizeof(line), ":%s:%s\n", hierarchy, group);
	if (!strstr(text, line))
		maker_fail("%d is not in %.140s but in: %s", pid, line, text);
}

/* It may be some milliseconds until those that have ended have left it. */
__attribute__((unused)) static void cgroup_remove(const char *dir)
{
	for (int try = 0; try < 200 && rmdir(dir) < 0 && errno != ENOENT; try++)
		usleep(5000);
}

#endif
