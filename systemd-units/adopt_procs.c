/* What /proc and cgroupfs say about the processes of a unit. Plain readers. */
#include "systemd-units/adopt.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "util/io.h"

#define DEPTH_MAX	32
#define PROCS_MAX_BYTES	(4u << 20)

struct pids {
	pid_t *p;
	size_t n;
};

static int push(struct pids *list, pid_t pid)
{
	if ((list->n & (list->n - 1)) == 0) {
		pid_t *p = realloc(list->p, MAX(list->n * 2, (size_t)16) * sizeof(*p));

		if (!p)
			return -ENOMEM;
		list->p = p;
	}
	list->p[list->n++] = pid;
	return 0;
}

static int parse_procs(char *text, struct pids *list)
{
	int r = 0;

	for (char *line = strtok(text, "\n"); line && r == 0; line = strtok(NULL, "\n")) {
		int pid;

		r = parse_int(line, &pid);
		if (r == 0 && pid > 0 && pid != getpid())
			r = push(list, pid);
	}
	return r;
}

static int walk(int dirfd, struct pids *list, int depth)
{
	_cleanup_free_ char *text = NULL;
	_cleanup_closedir_ DIR *dir = NULL;
	struct dirent *de;
	int fd, r;

	r = read_file_at(dirfd, "cgroup.procs", PROCS_MAX_BYTES, &text, NULL);
	/* EOPNOTSUPP: a threaded group; its processes are listed above it. */
	if (r == 0)
		r = parse_procs(text, list);
	if (r < 0 && r != -EOPNOTSUPP)
		return r;
	if (depth >= DEPTH_MAX)
		return -ELOOP;
	fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || !(dir = fdopendir(fd)))
		return neg_errno();
	while ((de = readdir(dir))) {
		_cleanup_close_ int sub = -EBADF;

		if (de->d_type != DT_DIR || de->d_name[0] == '.')
			continue;
		sub = openat(fd, de->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		r = sub < 0 ? neg_errno() : walk(sub, list, depth + 1);
		if (r < 0 && r != -ENOENT && r != -ENODEV)
			return r;
	}
	return 0;
}

int procs_of_cgroup(const char *cgroup, pid_t **ret, size_t *ret_n)
{
	_cleanup_free_ char *path = str_fmt("/sys/fs/cgroup%s", cgroup);
	_cleanup_close_ int fd = -EBADF;
	struct pids list = { 0 };
	int r;

	if (!path)
		return -ENOMEM;
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	r = fd < 0 ? neg_errno() : walk(fd, &list, 0);
	if (r < 0) {
		free(list.p);
		return r;
	}
	*ret = list.p;
	*ret_n = list.n;
	return 0;
}

int proc_in_cgroup(pid_t pid, const char *cgroup)
{
	_cleanup_free_ char *path = str_fmt("/proc/%d/cgroup", pid);
	_cleanup_free_ char *text = NULL;
	size_t n = strlen(cgroup);
	const char *line;
	int r;

	if (!path)
		return -ENOMEM;
	r = read_file_at(AT_FDCWD, path, 65536, &text, NULL);
	if (r == -ENOENT || r == -ESRCH)
		return 0;
	if (r < 0)
		return r;
	/* A dead one that waits to be reaped has left its group. */
	line = str_starts(text, "0::") ? text : strstr(text, "\n0::");
	if (!line)
		return 0;
	line = strstr(line, "0::") + 3;
	return !strncmp(line, cgroup, n) && (line[n] == '\n' || line[n] == '/');
}

static int is_cloexec(pid_t pid, const char *fd, bool *ret)
{
	_cleanup_free_ char *path = str_fmt("/proc/%d/fdinfo/%s", pid, fd);
	_cleanup_free_ char *text = NULL;
	const char *flags;
	int r;

	if (!path)
		return -ENOMEM;
	r = read_file_at(AT_FDCWD, path, 65536, &text, NULL);
	if (r < 0)
		return r;
	flags = strstr(text, "flags:");
	*ret = flags && (strtoul(flags + 6, NULL, 8) & O_CLOEXEC);
	return 0;
}

int proc_held_fds(pid_t pid, dev_t dev, ino_t ino, struct held_fd **ret, size_t *ret_n)
{
	_cleanup_free_ char *path = str_fmt("/proc/%d/fd", pid);
	_cleanup_free_ struct held_fd *list = NULL;
	_cleanup_closedir_ DIR *dir = NULL;
	struct dirent *de;
	size_t n = 0;

	dir = path ? opendir(path) : NULL;
	if (!dir)
		return path ? neg_errno() : -ENOMEM;
	while ((de = readdir(dir))) {
		struct held_fd *more;
		struct stat st;
		int fd;

		if (fstatat(dirfd(dir), de->d_name, &st, 0) < 0 || st.st_dev != dev ||
		    st.st_ino != ino || parse_int(de->d_name, &fd) < 0)
			continue;
		more = reallocarray(list, n + 1, sizeof(*list));
		if (!more)
			return -ENOMEM;
		list = more;
		list[n] = (struct held_fd){ .t_fd = fd };
		if (is_cloexec(pid, de->d_name, &list[n].cloexec) == 0)
			n++;
	}
	*ret = take_ptr(list);
	*ret_n = n;
	return 0;
}

int proc_threads(pid_t pid, pid_t **ret, size_t *ret_n)
{
	_cleanup_free_ char *path = str_fmt("/proc/%d/task", pid);
	_cleanup_closedir_ DIR *dir = NULL;
	struct pids list = { 0 };
	struct dirent *de;

	dir = path ? opendir(path) : NULL;
	if (!dir)
		return path ? neg_errno() : -ENOMEM;
	while ((de = readdir(dir))) {
		int tid;

		if (parse_int(de->d_name, &tid) == 0 && push(&list, tid) < 0) {
			free(list.p);
			return -ENOMEM;
		}
	}
	*ret = list.p;
	*ret_n = list.n;
	return 0;
}
