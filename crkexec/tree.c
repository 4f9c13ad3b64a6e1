#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "crkexec/tree.h"
#include "util/io.h"
#include "util/log.h"

#define CGROUP_DEPTH_MAX	32

struct proc {
	pid_t pid, ppid;
};

struct procs {
	struct proc *v;
	size_t n, room;
};

static int procs_add(struct procs *p, pid_t pid)
{
	if (p->n == p->room) {
		size_t room = p->room ? p->room * 2 : 64;
		struct proc *v = reallocarray(p->v, room, sizeof(*v));

		if (!v)
			return -ENOMEM;
		p->v = v;
		p->room = room;
	}
	p->v[p->n++] = (struct proc){ .pid = pid };
	return 0;
}

static int read_procs(int dirfd, struct procs *p)
{
	_cleanup_free_ char *text = NULL;
	char *save = NULL;
	int r = read_file_at(dirfd, "cgroup.procs", READ_FILE_MAX, &text, NULL);

	/* A threaded group: its processes are listed in the group above. */
	if (r == -EOPNOTSUPP)
		return 0;
	if (r < 0)
		return r;
	for (char *s = strtok_r(text, "\n", &save); s; s = strtok_r(NULL, "\n", &save)) {
		int pid;

		r = parse_int(s, &pid);
		if (r < 0)
			return r;
		/* 0: a process outside of our pid namespace. */
		if (pid <= 0)
			continue;
		r = procs_add(p, pid);
		if (r < 0)
			return r;
	}
	return 0;
}

static int read_group(int dirfd, struct procs *p, int depth)
{
	_cleanup_closedir_ DIR *d = NULL;
	struct dirent *e;
	int fd, r = read_procs(dirfd, p);

	if (r < 0)
		return r;
	if (depth > CGROUP_DEPTH_MAX)
		return -ELOOP;
	fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	d = fd < 0 ? NULL : fdopendir(fd);
	if (!d)
		return neg_errno();
	while ((e = readdir(d))) {
		_cleanup_close_ int sub = -EBADF;

		if (e->d_type != DT_DIR || e->d_name[0] == '.')
			continue;
		sub = openat(dirfd, e->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
		r = sub < 0 ? 0 : read_group(sub, p, depth + 1);
		if (r < 0)
			return r;
	}
	return 0;
}

int stat_parse_ppid(const char *text, pid_t *ret)
{
	const char *s = strrchr(text, ')');
	int ppid, n = 0;
	char state;

	if (!s || sscanf(s + 1, " %c %d%n", &state, &ppid, &n) != 2 || !n || ppid < 0)
		return -EBADMSG;
	*ret = ppid;
	return 0;
}

static int compare(const void *a, const void *b)
{
	const struct proc *x = a, *y = b;

	return x->pid < y->pid ? -1 : x->pid > y->pid;
}

/* Fills ppid; processes that ended in the meantime are dropped. */
static int procs_read_parents(struct procs *p)
{
	size_t out = 0;

	for (size_t i = 0; i < p->n; i++) {
		_cleanup_free_ char *text = NULL;
		char path[40];
		int r;

		snprintf(path, sizeof(path), "/proc/%d/stat", p->v[i].pid);
		r = read_file_at(AT_FDCWD, path, 65536, &text, NULL);
		if (r == -ENOENT || r == -ESRCH)
			continue;
		if (r < 0)
			return r;
		p->v[out] = p->v[i];
		r = stat_parse_ppid(text, &p->v[out].ppid);
		if (r < 0)
			return r;
		out++;
	}
	p->n = out;
	return 0;
}

static bool is_root(const struct procs *p, size_t i)
{
	const struct proc key = { .pid = p->v[i].ppid };

	return !bsearch(&key, p->v, p->n, sizeof(key), compare);
}

static int tree_build(const struct procs *p, struct unit_tree *t)
{
	t->pids = calloc(p->n, sizeof(*t->pids));
	if (!t->pids)
		return -ENOMEM;
	for (int roots = 1; roots >= 0; roots--)
		for (size_t i = 0; i < p->n; i++)
			if (is_root(p, i) == roots) {
				t->pids[t->n_pids++] = p->v[i].pid;
				t->n_roots += (size_t)roots;
			}
	t->root = t->pids[0];
	/* A pid reused while we read could make a circle. */
	return t->n_roots ? 0 : -EAGAIN;
}

int tree_find(const char *cgroup_dir, struct unit_tree *ret)
{
	_cleanup_close_ int dirfd = open(cgroup_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct procs p = { 0 };
	int r = dirfd < 0 ? neg_errno() : read_group(dirfd, &p, 0);

	if (r == 0) {
		if (p.n)
			qsort(p.v, p.n, sizeof(*p.v), compare);
		r = procs_read_parents(&p);
	}
	*ret = (struct unit_tree){ 0 };
	if (r == 0 && p.n)
		r = tree_build(&p, ret);
	if (r < 0)
		tree_done(ret);
	free(p.v);
	return r;
}

void tree_done(struct unit_tree *t)
{
	free(t->pids);
	*t = (struct unit_tree){ 0 };
}

int pid_each_fd(pid_t pid, tree_fd_fn fn, void *arg)
{
	_cleanup_closedir_ DIR *d = NULL;
	struct dirent *e;
	char path[40];

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	d = opendir(path);
	if (!d)
		return errno == ENOENT ? -ESRCH : neg_errno();
	while ((e = readdir(d))) {
		_cleanup_free_ char *link = NULL;
		int fd, r;

		if (parse_int(e->d_name, &fd) < 0 ||
		    readlink_at(dirfd(d), e->d_name, &link) < 0)
			continue;
		r = fn(arg, pid, fd, link);
		if (r < 0)
			return r;
	}
	return 0;
}

int tree_each_pid(const struct unit_tree *t, int (*fn)(void *arg, pid_t pid), void *arg)
{
	int r = 0;

	for (size_t i = 0; i < t->n_pids && r >= 0; i++)
		r = fn(arg, t->pids[i]);
	return r < 0 ? r : 0;
}

struct each_fd {
	tree_fd_fn fn;
	void *arg;
};

static int each_fd(void *arg, pid_t pid)
{
	const struct each_fd *e = arg;
	int r = pid_each_fd(pid, e->fn, e->arg);

	return r == -ESRCH ? 0 : r;
}

int tree_each_fd(const struct unit_tree *t, tree_fd_fn fn, void *arg)
{
	struct each_fd e = { fn, arg };

	return tree_each_pid(t, each_fd, &e);
}
