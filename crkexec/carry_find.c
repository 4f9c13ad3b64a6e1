/*
 * What a unit has on file systems that end with the kernel: RuntimeDirectory= directories, its
 * pid file, files and fifos that it has open or mapped (/dev/shm), the directories in which its
 * unix sockets are bound, and what its mounts are bound from (PrivateTmp and the like).
 *
 * Files without a name need no such help: the engine saves their contents.
 */
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#include "crkexec/phases.h"
#include "crkexec/sockets.h"
#include "crkexec/tree.h"
#include "kernel/mountinfo.h"
#include "ns/ns.h"
#include "ns/tar.h"
#include "util/io.h"
#include "util/log.h"
#include "util/map.h"

/* What sandboxes put over paths that they hide. */
#define INACCESSIBLE_DIR	"/run/systemd/inaccessible"
#define DELETED			" (deleted)"

static bool is_volatile(const char *path)
{
	struct statfs fs;

	return statfs(path, &fs) == 0 && (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC);
}

/* Directories that are there before anything is carried. */
static bool is_top(const char *path)
{
	static const char *const tops[] = {
		"/", "/run", "/tmp", "/var/tmp", "/dev", "/dev/shm",
	};

	for (size_t i = 0; i < ARRAY_SIZE(tops); i++)
		if (!strcmp(path, tops[i]))
			return true;
	return false;
}

/* Made by the early program or by systemd itself; their contents are theirs. */
static bool is_everyones(const char *path)
{
	static const char *const exact[] = { "/run/lock", "/run/user", "/run/systemd" };
	static const char *const below[] = {
		"/run/systemd/journal", "/run/systemd/notify",
		"/run/systemd/propagate", "/run/systemd/units", "/run/systemd/incoming",
		"/run/systemd/io.systemd", "/run/systemd/private", "/run/systemd/resolve",
		"/run/systemd/unit-root", "/run/dbus", "/run/udev", "/run/user", CRKEXEC_RUN_DIR,
	};

	if (is_top(path))
		return true;
	for (size_t i = 0; i < ARRAY_SIZE(exact); i++)
		if (!strcmp(path, exact[i]))
			return true;
	for (size_t i = 0; i < ARRAY_SIZE(below); i++)
		if (path_below(path, below[i]))
			return true;
	return false;
}

static bool is_carried(const struct manifest_unit *mu, const char *path)
{
	for (size_t i = 0; i < mu->n_carries; i++) {
		const struct manifest_carry *c = &mu->carries[i];

		if (c->only_dir ? !strcmp(path, c->path) : path_below(path, c->path) != NULL)
			return true;
	}
	return false;
}

static int carry_push(struct manifest_unit *mu, const char *path, bool only_dir, bool single)
{
	struct manifest_carry *v = reallocarray(mu->carries, mu->n_carries + 1, sizeof(*v));

	if (!v)
		return -ENOMEM;
	mu->carries = v;
	v += mu->n_carries;
	*v = (struct manifest_carry){ .path = strdup(path), .only_dir = only_dir,
				      .single = single };
	if (!v->path)
		return -ENOMEM;
	mu->n_carries++;
	return 0;
}

/* Directories above, as far as they are nobody else's: owner and mode protect what is below. */
static int carry_parents(struct manifest_unit *mu, const char *path)
{
	char parent[PATH_MAX];

	if (strlen(path) >= sizeof(parent))
		return -ENAMETOOLONG;
	for (const char *s = path + 1; (s = strchr(s, '/')); s++) {
		int r;

		memcpy(parent, path, (size_t)(s - path));
		parent[s - path] = '\0';
		if (!is_volatile(parent) || is_everyones(parent) || is_carried(mu, parent))
			continue;
		r = carry_push(mu, parent, true, false);
		if (r < 0)
			return r;
	}
	return 0;
}

static int carry_add(struct manifest_unit *mu, const char *path, bool only_dir)
{
	struct stat st;
	int r;

	if (!path_is_normal(path) || lstat(path, &st) < 0 || !is_volatile(path) || is_everyones(path) ||
	    is_carried(mu, path))
		return 0;
	if (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode) && !S_ISSOCK(st.st_mode) &&
	    !S_ISFIFO(st.st_mode))
		return 0;
	r = carry_parents(mu, path);
	return r < 0 ? r : carry_push(mu, path, only_dir && S_ISDIR(st.st_mode),
				  !S_ISDIR(st.st_mode));
}

/* A directory that the tree's namespace has something mounted on. */
static int add_mount_point(struct manifest_unit *mu, const char *path)
{
	struct stat st;

	if (!path_is_normal(path) || lstat(path, &st) < 0 || !S_ISDIR(st.st_mode) ||
	    !is_volatile(path) || is_top(path) || path_below(path, CRKEXEC_RUN_DIR) ||
	    is_carried(mu, path))
		return 0;
	return carry_push(mu, path, true, false);
}

static int add_host_source(void *arg, const struct ns_host_source *src)
{
	int r = add_mount_point(arg, src->mountpoint);

	if (r < 0)
		return r;
	/* A file system of its own is mounted anew, empty ones are the engine's business. */
	if (!src->volatile_fs || src->whole_mount)
		return 0;
	/* Nodes of all kinds, made by PID 1 at boot, which is too late: as a whole. */
	if (path_below(src->host_path, INACCESSIBLE_DIR))
		return carry_add(arg, INACCESSIBLE_DIR, false);
	return carry_add(arg, src->host_path, false);
}

/* systemd's directory for mounts into the running unit: needed, but empty. */
static int add_propagate(const struct unit *un, struct manifest_unit *mu)
{
	_cleanup_free_ char *path = str_fmt("/run/systemd/propagate/%s", un->name);

	if (!path)
		return -ENOMEM;
	return access(path, F_OK) < 0 ? 0 : carry_push(mu, path, true, false);
}

/* Names in the file system of the machine's unix sockets, by inode: the text of /proc/net/unix, cut up. */
struct bound {
	struct manifest_unit *mu;
	char *text;
	struct map names;
};

/* Once for all sockets: with thousands of connections, to look through it for each takes seconds. */
static int bound_read(struct bound *b, pid_t pid)
{
	_cleanup_free_ char *path = str_fmt("/proc/%d/net/unix", pid);
	char *line, *rest;
	int r = path ? read_file_at(AT_FDCWD, path, READ_FILE_MAX, &b->text, NULL) : -ENOMEM;

	for (line = r < 0 ? NULL : strtok_r(b->text, "\n", &rest); line && r == 0;
	     line = strtok_r(NULL, "\n", &rest)) {
		unsigned long long ino;
		int at = 0;

		/* Num RefCount Protocol Flags Type St Inode Path; no path, or "@...": none in the file system. */
		if (sscanf(line, "%*s %*s %*s %*s %*s %*s %llu %n", &ino, &at) == 1 && at &&
		    line[at] == '/')
			r = map_put(&b->names, ino, line + at);
	}
	return r;
}

/* The tree may see another directory by that name (PrivateTmp=); the host's is meant here. */
static bool is_hosts(pid_t pid, const char *path)
{
	_cleanup_free_ char *seen = str_fmt("/proc/%d/root%s", pid, path);
	struct stat a, b;

	return seen && stat(seen, &a) == 0 && stat(path, &b) == 0 && a.st_dev == b.st_dev &&
	       a.st_ino == b.st_ino;
}

/*
 * The engine binds the name again; its directory must be there. Servers that put a lock beside
 * their socket call it NAME.lock (PostgreSQL, MySQL, X11).
 */
static int add_socket_name(struct manifest_unit *mu, pid_t pid, const char *dir, const char *name)
{
	/* Bound by way of a link, mostly /var/run. */
	_cleanup_free_ char *real = realpath(dir, NULL), *lock = NULL;
	int r;

	if (!real || !is_hosts(pid, real))
		return 0;
	r = carry_add(mu, real, true);
	if (r < 0)
		return r;
	lock = str_fmt("%s/%s.lock", real, name);
	return lock ? carry_add(mu, lock, false) : -ENOMEM;
}

/* By its name on the host; is_hosts() says whether that is the same file. */
static int add_open(struct manifest_unit *mu, pid_t pid, const char *path)
{
	if (path[0] != '/' || is_everyones(path) || !is_volatile(path) || !is_hosts(pid, path))
		return 0;
	return carry_add(mu, path, true);
}

/*
 * st: of the file; only device and inode count. "... (deleted)" may have another name in the same
 * directory, by which the engine will open it: sem_open(3) makes its files that way.
 */
static int add_gone(struct manifest_unit *mu, pid_t pid, const char *path, const struct stat *st)
{
	_cleanup_free_ char *dir = strdup(path), *name = NULL, *other = NULL;
	_cleanup_close_ int fd = -EBADF;
	char *slash = dir ? strrchr(dir, '/') : NULL;

	if (!slash)
		return dir ? 0 : -ENOMEM;
	*slash = '\0';
	if (!is_volatile(dir))
		return 0;
	fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || name_by_inode(fd, st, &name) < 0)
		return 0;
	other = str_fmt("%s/%s", dir, name);
	return other ? add_open(mu, pid, other) : -ENOMEM;
}

static bool is_gone(const char *path)
{
	size_t n = strlen(path), suffix = strlen(DELETED);

	return path[0] == '/' && n > suffix && !strcmp(path + n - suffix, DELETED);
}

/* "7f00-7f01 rw-s 00000000 00:1b 5   /dev/shm/x": file systems in memory have no device of major > 0. */
static int add_mappings(void *arg, pid_t pid)
{
	_cleanup_free_ char *path = str_fmt("/proc/%d/maps", pid), *text = NULL;
	const char *last = "";
	char *line, *rest;
	int r = path ? read_file_at(AT_FDCWD, path, READ_FILE_MAX, &text, NULL) : -ENOMEM;

	if (r < 0)
		return r == -ENOENT || r == -ESRCH ? 0 : r;
	for (line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		unsigned int dev_major, dev_minor;
		unsigned long ino;
		struct stat st;
		int at = 0;

		if (sscanf(line, "%*s %*s %*s %x:%x %lu %n", &dev_major, &dev_minor, &ino, &at) != 3 ||
		    !at || dev_major || line[at] != '/' || !strcmp(line + at, last))
			continue;
		last = line + at;
		st = (struct stat){ .st_dev = makedev(dev_major, dev_minor), .st_ino = ino };
		r = is_gone(last) ? add_gone(arg, pid, last, &st) : add_open(arg, pid, last);
		if (r < 0)
			return r;
	}
	return 0;
}

static int add_bound(const struct bound *b, pid_t pid, uint64_t ino)
{
	const char *path = map_get(&b->names, ino), *slash = path ? strrchr(path, '/') : NULL;
	_cleanup_free_ char *dir = NULL;

	if (!slash || slash == path)
		return 0;
	dir = strndup(path, (size_t)(slash - path));
	return dir ? add_socket_name(b->mu, pid, dir, slash + 1) : -ENOMEM;
}

static int add_fd(void *arg, pid_t pid, int fd, const char *link)
{
	struct bound *b = arg;
	_cleanup_free_ char *path = NULL;
	uint64_t ino;
	struct stat st;

	if (socket_inode(link, &ino) == 0)
		return add_bound(b, pid, ino);
	if (!is_gone(link))
		return add_open(b->mu, pid, link);
	path = str_fmt("/proc/%d/fd/%d", pid, fd);
	if (!path)
		return -ENOMEM;
	return stat(path, &st) < 0 || !st.st_nlink ? 0 : add_gone(b->mu, pid, link, &st);
}

static int each_fd(const struct unit *un, struct manifest_unit *mu)
{
	struct bound b = { .mu = mu };
	int r = bound_read(&b, un->tree.root);

	if (r == 0)
		r = tree_each_fd(&un->tree, add_fd, &b);
	map_done(&b.names);
	free(b.text);
	return r;
}

int carry_collect(const struct unit *un, struct manifest_unit *mu)
{
	int r = 0;

	for (size_t i = 0; i < un->runtime_dirs.n && r == 0; i++) {
		_cleanup_free_ char *path = str_fmt("/run/%s", un->runtime_dirs.v[i]);

		r = path ? carry_add(mu, path, false) : -ENOMEM;
	}
	if (r == 0 && un->pid_file[0] == '/') {
		_cleanup_free_ char *real = realpath(un->pid_file, NULL);

		r = real ? carry_add(mu, real, false) : 0;
	}
	if (r == 0)
		r = each_fd(un, mu);
	if (r == 0)
		r = tree_each_pid(&un->tree, add_mappings, mu);
	if (r == 0)
		r = ns_list_host_sources_of(un->tree.root, add_host_source, mu);
	if (r == 0)
		r = add_propagate(un, mu);
	return r < 0 ? log_err(r, "cannot list the run-time files of %s", un->name) : 0;
}
