/* Where the files of a tree's processes are: see tree.h. */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "crkexec/tree.h"
#include "util/io.h"
#include "util/log.h"
#include "util/map.h"

struct walk {
	file_place_fn fn;
	void *arg;
	struct arena arena;
	struct map tables;		/* inode of a mount namespace → struct mount_table */
	const struct mount_table *own, *init;	/* the process's, PID 1's */
	struct map seen;		/* ids of mounts, of this process */
};

static int read_table(struct walk *w, int proc_fd, const struct mount_table **ret)
{
	struct mount_table *t = arena_alloc(&w->arena, sizeof(*t));

	*ret = t;
	return t ? mountinfo_read(&w->arena, proc_fd, t) : -ENOMEM;
}

/* -ESRCH: it has ended. */
static int open_process(pid_t pid)
{
	char path[32];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d", pid);
	fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return fd >= 0 ? fd : errno == ENOENT ? -ESRCH : neg_errno();
}

/* Processes of one namespace have one table. */
static int find_table(struct walk *w, pid_t pid)
{
	_cleanup_close_ int proc_fd = open_process(pid);
	struct stat st;
	int r;

	if (proc_fd < 0)
		return proc_fd;
	if (fstatat(proc_fd, "ns/mnt", &st, 0) < 0)
		return errno == ENOENT ? -ESRCH : neg_errno();
	w->own = map_get(&w->tables, st.st_ino);
	if (w->own)
		return 0;
	r = read_table(w, proc_fd, &w->own);
	return r < 0 ? r : map_put(&w->tables, st.st_ino, (void *)w->own);
}

static int tell(struct walk *w, pid_t pid, const char *what, const struct mount *m)
{
	const struct file_place p = { pid, what, m, mount_by_id(w->init, m->id) != NULL };
	int r;

	if (map_get(&w->seen, (uint64_t)m->id))
		return 0;
	r = map_put(&w->seen, (uint64_t)m->id, w);
	return r < 0 ? r : w->fn(w->arg, &p);
}

/* link: in /proc. What lies on no mount of ours (a pipe, a memfd, another's namespace) is no concern. */
static int tell_link(struct walk *w, pid_t pid, const char *what, const char *link)
{
	const struct mount *m;
	struct statx stx;

	/* The trap: a dead server answers nobody, but what is known here is known without it. */
	if (statx(AT_FDCWD, link, AT_STATX_DONT_SYNC, STATX_MNT_ID, &stx) < 0 ||
	    !(stx.stx_mask & STATX_MNT_ID))
		return 0;
	m = mount_by_id(w->own, (int)stx.stx_mnt_id);
	/* Opened before it had a namespace of its own. */
	if (!m)
		m = mount_by_id(w->init, (int)stx.stx_mnt_id);
	return m ? tell(w, pid, what, m) : 0;
}

static int tell_links(struct walk *w, pid_t pid)
{
	static const char *const links[] = { "exe", "cwd", "root" };
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(links) && r == 0; i++) {
		char path[48];

		snprintf(path, sizeof(path), "/proc/%d/%s", pid, links[i]);
		r = tell_link(w, pid, links[i], path);
	}
	return r;
}

static int tell_fd(void *arg, pid_t pid, int fd, const char *link)
{
	char path[48], what[160];

	if (link[0] != '/')
		return 0;
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", pid, fd);
	snprintf(what, sizeof(what), "fd %d (%.120s)", fd, link);
	return tell_link(arg, pid, what, path);
}

/* Of the file system's mounts the one that the path leads over, if it leads over any. */
static const struct mount *mount_of_mapping(const struct mount_table *t, uint32_t dev, const char *path)
{
	const struct mount *best = NULL;
	size_t best_bytes = 0;

	for (size_t i = 0; i < t->n; i++) {
		const struct mount *m = &t->mounts[i];
		size_t bytes = path_below(path, m->mountpoint) ? strlen(m->mountpoint) : 0;

		if (m->dev != dev || (best && bytes < best_bytes))
			continue;
		best = m;
		best_bytes = bytes;
	}
	return best;
}

/* "7f00-7f01 rw-s 00000000 fd:01 5   /srv/x" */
static int tell_mappings(struct walk *w, pid_t pid)
{
	_cleanup_free_ char *path = str_fmt("/proc/%d/maps", pid), *text = NULL;
	char *line, *rest, what[160];
	int r = path ? read_file_at(AT_FDCWD, path, READ_FILE_MAX, &text, NULL) : -ENOMEM;

	if (r < 0)
		return r;
	for (line = strtok_r(text, "\n", &rest); line && r == 0; line = strtok_r(NULL, "\n", &rest)) {
		unsigned int major_no, minor_no;
		const struct mount *m;
		int at = 0;

		if (sscanf(line, "%*s %*s %*s %x:%x %*s %n", &major_no, &minor_no, &at) != 2 || !at ||
		    line[at] != '/')
			continue;
		snprintf(what, sizeof(what), "mapping %.120s", line + at);
		m = mount_of_mapping(w->own, major_no << 20 | minor_no, line + at);
		r = m ? tell(w, pid, what, m) : 0;
	}
	return r;
}

static int tell_process(void *arg, pid_t pid)
{
	struct walk *w = arg;
	int r;

	map_done(&w->seen);
	w->seen = (struct map){ 0 };
	r = find_table(w, pid);
	if (r == 0)
		r = tell_links(w, pid);
	if (r == 0)
		r = pid_each_fd(pid, tell_fd, w);
	if (r == 0)
		r = tell_mappings(w, pid);
	return r == -ESRCH || r == -ENOENT ? 0 : r;
}

int tree_each_file_place(const struct unit_tree *t, file_place_fn fn, void *arg)
{
	_cleanup_close_ int init_fd = open_process(1);
	struct walk w = { .fn = fn, .arg = arg };
	int r;

	arena_init(&w.arena);
	r = init_fd < 0 ? init_fd : read_table(&w, init_fd, &w.init);
	if (r == 0)
		r = tree_each_pid(t, tell_process, &w);
	map_done(&w.tables);
	map_done(&w.seen);
	arena_done(&w.arena);
	return r;
}
