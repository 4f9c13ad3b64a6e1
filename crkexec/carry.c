/*
 * What a unit has on file systems that end with the kernel: RuntimeDirectory= directories, its
 * pid file, the directories in which its unix sockets are bound, and what its mounts are bound
 * from (PrivateTmp and the like). Kept as a tar with owners, modes and attributes.
 *
 * Descriptors and mappings need no such help: the engine carries the contents of what is open.
 */
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#include "crkexec/phases.h"
#include "crkexec/tree.h"
#include "kernel/mountinfo.h"
#include "ns/ns.h"
#include "ns/tar.h"
#include "util/io.h"
#include "util/log.h"

/* A directory that is larger than this is not somebody's run-time state. */
#define CARRY_MAX_BYTES	(256ull << 20)

/* What sandboxes put over paths that they hide. */
#define INACCESSIBLE_DIR	"/run/systemd/inaccessible"

static const struct image_type image_carry = {
	.name = "carry", .file_fmt = "carry-%u.tar.gz.img", .framing = IMAGE_RAW,
};

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
	if (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode) && !S_ISSOCK(st.st_mode))
		return 0;
	r = carry_parents(mu, path);
	return r < 0 ? r : carry_push(mu, path, only_dir, !S_ISDIR(st.st_mode));
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

/* Paths of bound unix sockets of the machine, by inode, from /proc/net/unix of one process. */
static int each_bound_socket(const struct unit *un, struct manifest_unit *mu);

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
		r = each_bound_socket(un, mu);
	if (r == 0)
		r = ns_list_host_sources_of(un->trees[0].root, add_host_source, mu);
	if (r == 0)
		r = add_propagate(un, mu);
	return r < 0 ? log_err(r, "cannot list the run-time files of %s", un->name) : 0;
}

struct bound {
	struct manifest_unit *mu;
	const char *table;		/* text of /proc/net/unix */
};

/* The path behind "... INODE /path" in the table, NULL: not bound, or abstract. */
static char *bound_path(const char *table, unsigned long long ino)
{
	for (const char *s = table; s && *s; s = strchr(s, '\n')) {
		unsigned long long found;
		int at = 0;

		s += *s == '\n';
		/* Num RefCount Protocol Flags Type St Inode Path */
		if (sscanf(s, "%*s %*s %*s %*s %*s %*s %llu %n", &found, &at) == 1 && at &&
		    found == ino && s[at] == '/')
			return strndup(s + at, strcspn(s + at, "\n"));
	}
	return NULL;
}

/* The tree may see another directory by that name (PrivateTmp=); the host's is meant here. */
static bool is_hosts(pid_t pid, const char *path)
{
	_cleanup_free_ char *seen = str_fmt("/proc/%d/root%s", pid, path);
	struct stat a, b;

	return seen && stat(seen, &a) == 0 && stat(path, &b) == 0 && a.st_dev == b.st_dev &&
	       a.st_ino == b.st_ino;
}

static int add_bound(void *arg, pid_t pid, int fd, const char *link)
{
	struct bound *b = arg;
	_cleanup_free_ char *path = NULL;
	unsigned long long ino;

	(void)fd;
	if (sscanf(link, "socket:[%llu]", &ino) != 1)
		return 0;
	path = bound_path(b->table, ino);
	/* The name alone: the engine binds it again where it was. Its directory must be there. */
	if (!path || strstr(path, " (deleted)"))
		return 0;
	*strrchr(path, '/') = '\0';
	return path[0] && is_hosts(pid, path) ? carry_add(b->mu, path, true) : 0;
}

static int each_bound_socket(const struct unit *un, struct manifest_unit *mu)
{
	_cleanup_free_ char *table = NULL, *path = str_fmt("/proc/%d/net/unix", un->trees[0].root);
	struct bound b = { .mu = mu };
	int r = path ? read_file_at(AT_FDCWD, path, READ_FILE_MAX, &table, NULL) : -ENOMEM;

	if (r < 0)
		return r;
	b.table = table;
	return unit_each_fd(un, add_bound, &b);
}

struct sink {
	struct image_writer *w;
	uint64_t bytes;
};

static int sink_write(void *arg, const void *p, size_t bytes)
{
	struct sink *s = arg;

	s->bytes += bytes;
	return s->bytes > CARRY_MAX_BYTES ? -EFBIG : image_put_raw(s->w, p, bytes);
}

static int copy_file(int from, int to)
{
	char buf[65536];
	ssize_t n;

	while ((n = read(from, buf, sizeof(buf))) > 0) {
		int r = write_full(to, buf, (size_t)n);

		if (r < 0)
			return r;
	}
	return n < 0 ? neg_errno() : 0;
}

/* path's own file or empty directory again, as name in dirfd, with owner and mode. */
static int stage(const char *path, int dirfd, const char *name)
{
	_cleanup_close_ int from = -EBADF, to = -EBADF;
	struct stat st;
	int r = 0;

	if (lstat(path, &st) < 0)
		return neg_errno();
	if (S_ISDIR(st.st_mode))
		r = mkdirat(dirfd, name, 0700);
	else if (S_ISSOCK(st.st_mode))
		r = mknodat(dirfd, name, S_IFSOCK | 0600, 0);
	else {
		from = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
		to = openat(dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		r = from < 0 || to < 0 ? -1 : copy_file(from, to);
	}
	if (r < 0 || fchownat(dirfd, name, st.st_uid, st.st_gid, AT_SYMLINK_NOFOLLOW) < 0 ||
	    fchmodat(dirfd, name, st.st_mode & 07777, 0) < 0)
		return r < -1 ? r : neg_errno();
	return 0;
}

static int tar_dir(int dirfd, struct sink *s)
{
	struct tar_writer *t;
	int r = tar_writer_new(sink_write, s, NULL, &t);

	if (r < 0)
		return r;
	r = tar_add_tree(t, dirfd, "/");
	if (r == 0)
		r = tar_writer_finish(t);
	else
		log_err(r, "cannot archive %s", tar_writer_path(t));
	tar_writer_free(t);
	return r;
}

/* A single file, or a directory without its contents, is archived from a copy. */
static int write_staged(const struct manifest_carry *c, int stage_fd, struct sink *s)
{
	const char *name = strrchr(c->path, '/') + 1;
	_cleanup_close_ int fd = -EBADF;
	int r = stage(c->path, stage_fd, name);

	if (r == 0) {
		fd = openat(stage_fd, c->only_dir ? name : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		r = fd < 0 ? neg_errno() : tar_dir(fd, s);
	}
	if (unlinkat(stage_fd, name, c->only_dir ? AT_REMOVEDIR : 0) < 0 && r == 0)
		r = neg_errno();
	return r;
}

static int write_tar(const struct manifest_carry *c, int stage_fd, struct sink *s)
{
	_cleanup_close_ int fd = -EBADF;

	if (c->only_dir || c->single)
		return write_staged(c, stage_fd, s);
	fd = open(c->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? neg_errno() : tar_dir(fd, s);
}

static int carry_write_one(struct manifest_carry *c, unsigned int number, int stage_fd,
			   struct image_store *images)
{
	_cleanup_image_writer_ struct image_writer *w = NULL;
	struct sink s = { 0 };
	int r = image_create(images, &image_carry, &w, number);

	if (r < 0)
		return log_err(r, "cannot create the archive of %s", c->path);
	s.w = w;
	r = write_tar(c, stage_fd, &s);
	if (r == -EFBIG)
		return log_fail(r, "%s holds more than %llu MiB: too much for run-time files", c->path,
				CARRY_MAX_BYTES >> 20);
	if (r == 0)
		r = image_close(take_ptr(w));
	if (r < 0)
		return log_err(r, "cannot archive %s", c->path);
	c->archive = str_fmt("carry-%u.tar.gz.img", number);
	return c->archive ? 0 : -ENOMEM;
}

int carry_write(int run_dirfd, struct manifest_unit *mu, struct image_store *images)
{
	_cleanup_free_ char *name = str_fmt("stage-%s", mu->name);
	_cleanup_close_ int stage_fd = -EBADF;
	int r = 0;

	if (!name)
		return -ENOMEM;
	if (mkdirat(run_dirfd, name, 0700) == 0)
		stage_fd = openat(run_dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (stage_fd < 0)
		return log_err(neg_errno(), "cannot make a directory for copies");
	for (size_t i = 0; i < mu->n_carries && r == 0; i++)
		r = carry_write_one(&mu->carries[i], (unsigned int)i, stage_fd, images);
	unlinkat(run_dirfd, name, AT_REMOVEDIR);
	return r;
}
