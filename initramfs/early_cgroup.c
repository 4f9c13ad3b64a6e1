/*
 * Control groups of the units (v2), made before systemd does: processes that start in them
 * stay, and their memory is charged to the unit.
 *
 * The traps: a controller that is not enabled in the parents when a process starts does not
 * count what it has used; and systemd's last kill before it leaves the initramfs spares only
 * groups with the attribute user.survive_final_kill_signal (it clears it later).
 */
#include "initramfs/early.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include "util/io.h"
#include "util/log.h"

#define CGROUP_ROOT	"/sys/fs/cgroup"
#define KILL_MSEC	5000
#define DEPTH_MAX	32

static void enable_controllers(const char *path)
{
	static const char *const controllers[] = { "+memory", "+pids" };

	/* One at a time: a kernel without one of them refuses them all together. */
	for (size_t i = 0; i < ARRAY_SIZE(controllers); i++) {
		int r = write_filef(controllers[i], "%s/cgroup.subtree_control", path);

		if (r < 0)
			log_warn("cannot enable %s in %s: %s", controllers[i] + 1, path,
				 strerror(-r));
	}
}

int early_cgroup_make(struct early *e, const char *dir)
{
	_cleanup_free_ char *path = str_fmt(CGROUP_ROOT "%s", dir);

	if (!path)
		return -ENOMEM;
	if (dir[0] != '/' || !dir[1] || strstr(dir, ".."))
		return log_fail(-EBADMSG, "%s names no control group", dir);
	enable_controllers(CGROUP_ROOT);
	for (char *p = path + strlen(CGROUP_ROOT) + 1; (p = strchr(p, '/')); p++) {
		*p = '\0';
		if (mkdir(path, 0755) < 0 && errno != EEXIST)
			return log_err(neg_errno(), "cannot make control group %s", path);
		enable_controllers(path);
		*p = '/';
	}
	if (mkdir(path, 0755) < 0 && errno != EEXIST)
		return log_err(neg_errno(), "cannot make control group %s", path);
	if (e->initrd && setxattr(path, "user.survive_final_kill_signal", "1", 1, 0) < 0)
		return log_err(neg_errno(), "cannot protect control group %s from systemd's last"
			       " kill", path);
	return 0;
}

int early_cgroup_open(const char *dir)
{
	_cleanup_free_ char *path = str_fmt(CGROUP_ROOT "%s/cgroup.procs", dir);
	int fd = path ? open(path, O_WRONLY | O_CLOEXEC) : -1;

	return fd >= 0 ? fd : path ? neg_errno() : -ENOMEM;
}

int early_cgroup_enter(int group_fd)
{
	return write_full(group_fd, "0", 1);
}

/* 1: empty, 0: not yet. */
static int is_empty(int fd)
{
	char buf[256];
	ssize_t n = pread(fd, buf, sizeof(buf) - 1, 0);

	if (n < 0)
		return neg_errno();
	buf[n] = '\0';
	return strstr(buf, "populated 0") != NULL;
}

/* Groups that the tree made below its own, then its own. */
static int remove_groups(int at, const char *name, int depth)
{
	int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	DIR *groups = fd >= 0 && depth < DEPTH_MAX ? fdopendir(fd) : NULL;
	struct dirent *de;

	if (!groups) {
		close_fdp(&fd);
		return -ELOOP;
	}
	while ((de = readdir(groups)))
		if (de->d_type == DT_DIR && de->d_name[0] != '.')
			remove_groups(fd, de->d_name, depth + 1);
	closedir(groups);
	return unlinkat(at, name, AT_REMOVEDIR) < 0 ? neg_errno() : 0;
}

static int remove_group(const char *dir)
{
	_cleanup_free_ char *path = str_fmt(CGROUP_ROOT "%s", dir);
	int r = path ? remove_groups(AT_FDCWD, path, 0) : -ENOMEM;

	return r < 0 ? log_err(r, "cannot remove control group %s", dir) : 0;
}

int early_cgroup_kill(const char *dir)
{
	_cleanup_free_ char *path = str_fmt(CGROUP_ROOT "%s/cgroup.events", dir);
	uint64_t end = clock_usec(CLOCK_BOOTTIME) + KILL_MSEC * 1000u;
	_cleanup_close_ int fd = -EBADF;
	int r;

	if (!path)
		return -ENOMEM;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0 : neg_errno();
	r = write_filef("1", CGROUP_ROOT "%s/cgroup.kill", dir);
	if (r < 0)
		return log_err(r, "cannot kill what is in %s", dir);
	while ((r = is_empty(fd)) == 0) {
		struct pollfd p = { .fd = fd, .events = POLLPRI };
		uint64_t now = clock_usec(CLOCK_BOOTTIME);

		if (now >= end)
			return log_fail(-ETIMEDOUT, "killed processes stay in %s", dir);
		/* A zombie leaves the group when it dies, not when it is reaped. */
		poll(&p, 1, MIN((end - now) / 1000 + 1, (uint64_t)200));
	}
	/*
	 * Linux 7.2 kills what is later born into a group that was killed once by
	 * clone3(CLONE_INTO_CGROUP), as systemd starts services: it compares the group's count
	 * of kills with that of the parent's group. A fresh group begins at zero.
	 */
	return r < 0 ? r : remove_group(dir);
}
