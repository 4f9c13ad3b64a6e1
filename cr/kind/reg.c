/*
 * Files with a path: regular files, directories, /proc and /sys files, the stateless character
 * devices, and anything opened with O_PATH.
 *
 *   dump     path, flags, position, mode, size, build id; no contents, unless the name is gone
 *   restore  open(2) by path in the tree's mount namespace, then compare and seek
 *
 * The path in /proc may lie: " (deleted)" is a suffix that a name may really have, and another
 * file may have taken the name since. Both are looked up, not believed. A file without name
 * goes to ghost.c.
 */
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "core/pids.h"
#include "kernel/mountinfo.h"
#include "kind/ghost_restore.h"

/* The bit that O_TMPFILE adds to O_DIRECTORY. */
#define TMPFILE_BIT 020000000u
#define DELETED " (deleted)"
#define POS_NONE UINT64_MAX

/* Devices whose every open is like every other. */
static bool chardev_is_stateless(dev_t dev)
{
	switch (major(dev)) {
	case 1:		/* mem, null, port, zero, full, random, urandom, kmsg */
		return minor(dev) == 1 || (minor(dev) >= 3 && minor(dev) <= 11);
	case 10:	/* hwrng, btrfs-control, loop-control */
		return minor(dev) == 183 || minor(dev) == 234 || minor(dev) == 237;
	default:
		return false;
	}
}

static bool is_kmsg(const struct stat *st)
{
	return S_ISCHR(st->st_mode) && st->st_rdev == makedev(1, 11);
}

static bool reg_match(const struct dump_file *f)
{
	uint64_t magic;

	if (f->link[0] != '/')
		return false;
	if (f->flags & O_PATH)
		return true;
	if (S_ISCHR(f->st.st_mode))
		return chardev_is_stateless(f->st.st_rdev);
	if (!S_ISREG(f->st.st_mode) && !S_ISDIR(f->st.st_mode))
		return false;
	/* Paths of mounts that only the kernel has: refuse.c knows their names. */
	magic = fs_magic(f->fd);
	return magic != MQUEUE_MAGIC && magic != 0x5345434d /* secretmem */ &&
	       magic != 0x444d4142 /* dma-buf */;
}

static int build_id_put(struct dump_ctx *ctx, const struct dump_file *f, RegFileEntry *e)
{
	_cleanup_close_ int own = -EBADF;
	uint8_t id[BUILD_ID_MAX] = { 0 };
	int n, fd = f->fd;

	if (!S_ISREG(f->st.st_mode) || f->st.st_size < 64 || f->flags & (O_PATH | O_DIRECT) ||
	    (f->flags & O_ACCMODE) == O_WRONLY)
		return 0;
	/* Opening a file again would break a lease on it; one without descriptor has none. */
	if (f->t_fd < 0) {
		n = reopen_for_read(f->fd, &own);
		if (n < 0)
			return log_err(n, "cannot open %s for reading", f->link);
		fd = own;
	}
	n = build_id_read(fd, id);
	if (n <= 0)
		return 0;	/* the size will do */
	e->n_build_id = ((size_t)n + 3) / 4;
	e->build_id = arena_memdup(&ctx->arena, id, e->n_build_id * 4);
	return e->build_id ? 0 : log_err(-ENOMEM, "%s", f->link);
}

/* The process or thread has ended and was waited for; its number may be another one's now. */
static bool proc_is_gone(const struct dump_file *f)
{
	_cleanup_close_ int own = -EBADF;
	int r = reopen_for_read(f->fd, &own);
	char c;

	if (r < 0)
		return r == -ESRCH || r == -EINVAL /* mountinfo and its like */;
	return read(own, &c, 1) < 0 && errno == ESRCH;
}

/*
 * A file of another process's /proc directory needs that process to be there again, under the number
 * that this /proc shows.
 */
static int proc_check(struct dump_ctx *ctx, const struct dump_file *f, const char *path)
{
	bool ours;
	struct stat st;
	int pid;

	if (sscanf(path, "/proc/%d/", &pid) != 1 || fs_magic(f->fd) != PROC_SUPER_MAGIC)
		return 0;
	if (!(f->flags & O_PATH) && S_ISREG(f->st.st_mode) && proc_is_gone(f))
		return log_obstacle("close it before", "%s: what it showed is gone", path);
	ours = !stat("/proc", &st) && st.st_dev == f->st.st_dev;
	if (ours && ctx->pid_level && dump_process_find(ctx, pid))
		return log_obstacle("mount a /proc of its own for the tree",
				    "%s: of /proc of the outer PID namespace, where process %d will have another number",
				    path, pid);
	if (!(ours ? dump_process_find(ctx, pid) : dump_process_find_virtual(ctx, (uint32_t)pid)))
		log_warn("%s: process %d is not in the tree: it must be there at the restore", path,
			 pid);
	return 0;
}

/* What the restore compares. */
static int identity_put(struct dump_ctx *ctx, const struct dump_file *f, RegFileEntry *e)
{
	e->has_mode = true;
	e->mode = f->st.st_mode;
	if (!S_ISREG(f->st.st_mode) || fs_is_pseudo(fs_magic(f->fd)))
		return 0;
	if (fs_magic(f->fd) == HUGETLBFS_MAGIC)
		log_warn("%s: hugetlbfs keeps what it holds until the kernel ends, no longer", f->link);
	if (!(f->flags & (O_WRONLY | O_APPEND))) {
		e->has_size = true;
		e->size = (uint64_t)f->st.st_size;
	}
	return build_id_put(ctx, f, e);
}

/*
 * 1: a file in memory that has lost its name has *ret in the same directory. The names that
 * sem_open(3) makes its files under are gone at once; and a helper link for them would be gone with
 * the old kernel.
 */
static int other_name(struct dump_ctx *ctx, const struct dump_file *f, const char *gone, const char **ret)
{
	const char *slash = strrchr(gone, '/');
	_cleanup_free_ char *name = NULL;
	_cleanup_close_ int fd = -EBADF;
	uint64_t magic = fs_magic(f->fd);
	char *dir;
	int r;

	if (!slash || !S_ISREG(f->st.st_mode) || (magic != TMPFS_MAGIC && magic != RAMFS_MAGIC))
		return 0;
	dir = arena_strndup(&ctx->arena, gone, slash == gone ? 1 : (size_t)(slash - gone));
	r = dir ? dump_open_dir(f->owner, dir, f->mnt_id, &fd) : -ENOMEM;
	if (r >= 0)
		r = name_by_inode(fd, &f->st, &name);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	*ret = path_join(&ctx->arena, dir, name);
	return *ret ? 1 : -ENOMEM;
}

/* 1: the file has no name left; *ret_path is the name it had. -ESTALE: the name is another's. */
static int name_of_link(struct dump_ctx *ctx, struct dump_file *f, const char **ret_path)
{
	size_t n = strlen(f->link), suffix = strlen(DELETED);
	bool marked = n > suffix && !strcmp(f->link + n - suffix, DELETED);
	char *cut;
	int r;

	*ret_path = f->link;
	if (f->st.st_nlink || !marked) {
		r = dump_path_names(f->owner, f->link, f->mnt_id, &f->st);
		if (r < 0)
			return log_err(r, "cannot look up %s", f->link);
		if (r > 0)
			return 0;
	}
	if (!marked)
		return f->st.st_nlink ? -ESTALE : 1;
	cut = arena_strndup(&ctx->arena, f->link, n - suffix);
	if (!cut)
		return log_err(-ENOMEM, "%s", f->link);
	*ret_path = cut;
	if (!f->st.st_nlink)
		return 1;
	r = dump_path_names(f->owner, cut, f->mnt_id, &f->st);
	if (!r)
		r = other_name(ctx, f, cut, ret_path);
	return r < 0 ? log_err(r, "cannot look up %s", cut) : !r;
}

/* Somebody outside of the tree may have renamed or removed it since the tree stopped. */
static int name_find(struct dump_ctx *ctx, struct dump_file *f, const char **ret_path)
{
	int r = name_of_link(ctx, f, ret_path), again;

	if (r != -ESTALE && !(r > 0 && *ret_path == f->link))
		return r;
	again = dump_link_again(ctx, f);
	if (again > 0)
		return name_of_link(ctx, f, ret_path);
	return again < 0 ? again : r;
}

static int nameless_dump(struct dump_ctx *ctx, struct dump_file *f, uint32_t id, const char *path)
{
	if (fs_is_pseudo(fs_magic(f->fd)))
		return log_obstacle("close it before", "%s: what it showed is gone", f->link);
	if (!f->st.st_nlink)
		return ghost_dump(ctx, f, id);
	return link_remap_dump(ctx, f, id, path);
}

/* The file's mount, when mounts are part of the images. */
static void mount_put(struct dump_ctx *ctx, const struct dump_file *f, RegFileEntry *e)
{
	if (!ctx->mntns_dumped || f->mnt_id < 0)
		return;
	e->has_mnt_id = true;
	e->mnt_id = f->mnt_id;
}

int reg_entry(struct dump_ctx *ctx, struct dump_file *f, uint32_t id, RegFileEntry **ret)
{
	RegFileEntry *e = ARENA_MSG(&ctx->arena, RegFileEntry, reg_file_entry);
	const char *path;
	int r, nameless;

	if (!e)
		return log_err(-ENOMEM, "%s", f->link);
	*ret = e;
	e->id = id;
	e->flags = f->flags;
	e->pos = is_kmsg(&f->st) ? POS_NONE : f->pos;
	e->name = (char *)f->link;
	mount_put(ctx, f, e);
	r = dump_fown(ctx, f, &e->fown);
	if (r < 0)
		return r;
	if (is_kmsg(&f->st) && reg_kmsg_dump(ctx, f, e) < 0)
		log_warn("%s: its place in the kernel's log is not known", f->link);
	nameless = name_find(ctx, f, &path);
	/* /proc's inodes are made anew now and then. */
	if (nameless == -ESTALE && fs_is_pseudo(fs_magic(f->fd)))
		nameless = 0;
	if (nameless == -ESTALE)
		return log_obstacle("close it before, or take away what is mounted over it",
				    "%s: the path leads to another file now", f->link);
	if (nameless < 0)
		return nameless;
	e->name = (char *)path;
	if (!path_is_normal(path))
		return log_obstacle("close it before", "%s: not a path that can be opened again",
				    f->link);
	r = proc_check(ctx, f, path);
	if (r >= 0)
		r = identity_put(ctx, f, e);
	if (r < 0)
		return r;
	return nameless ? nameless_dump(ctx, f, id, path) : reg_judge(f);
}

static int reg_dump(struct dump_ctx *ctx, struct dump_file *f)
{
	return reg_entry(ctx, f, f->id, &f->fe->reg);
}

static int build_id_compare(int fd, const RegFileEntry *e)
{
	_cleanup_close_ int own = -EBADF;
	uint8_t id[BUILD_ID_MAX] = { 0 };
	int n;

	n = reopen_for_read(fd, &own);
	if (n >= 0)
		n = build_id_read(own, id);
	if (n < 0)
		return log_err(n, "cannot read the build id of %s", e->name);
	if (e->n_build_id * 4 > BUILD_ID_MAX || ((size_t)n + 3) / 4 != e->n_build_id ||
	    memcmp(id, e->build_id, e->n_build_id * 4))
		return log_fail(-ESTALE, "%s is another version of the program or library than the"
				" one that was saved (build id differs)", e->name);
	return 0;
}

static int reg_compare(const struct cr_opts *opts, int fd, const RegFileEntry *e)
{
	bool pseudo;
	struct stat st;

	if (fstat(fd, &st) < 0)
		return log_err(neg_errno(), "cannot stat %s", e->name);
	pseudo = fs_is_pseudo(fs_magic(fd));
	if (e->has_mode && (st.st_mode & S_IFMT) != (e->mode & S_IFMT))
		return log_fail(-ESTALE, "%s is of another type now (mode %o, saved %o)", e->name,
				st.st_mode, e->mode);
	if (pseudo || !e->has_mode)
		return 0;
	if (st.st_mode != e->mode && !opts->skip_mode_check)
		return log_fail(-ESTALE, "%s has mode %o now, saved was %o", e->name, st.st_mode,
				e->mode);
	if (!S_ISREG(st.st_mode))
		return 0;
	if (e->n_build_id)
		return build_id_compare(fd, e);
	if (e->has_size && (uint64_t)st.st_size != e->size)
		return log_fail(-ESTALE, "%s has %lld bytes now, saved were %llu", e->name,
				(long long)st.st_size, (unsigned long long)e->size);
	return 0;
}

static int open_flags(const RegFileEntry *e, uint32_t flags)
{
	if (flags & TMPFILE_BIT)
		flags &= ~(uint32_t)O_TMPFILE;
	flags &= ~(uint32_t)(O_CREAT | O_EXCL | O_TRUNC | O_ASYNC);
	if (flags & O_PATH && S_ISLNK(e->mode))
		flags |= O_NOFOLLOW;
	return (int)flags | O_NOCTTY | O_CLOEXEC;
}

/*
 * What may be opened at all. A fifo would wait for its other end, a device may do anything when
 * it is opened: the path has to be looked at before.
 */
static int reg_may_open(int pfd, const RegFileEntry *e, int flags)
{
	struct stat st;

	if (fstat(pfd, &st) < 0)
		return log_err(neg_errno(), "cannot stat %s", e->name);
	if (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode))
		return 0;
	if (S_ISCHR(st.st_mode) && chardev_is_stateless(st.st_rdev))
		return 0;
	if (S_ISFIFO(st.st_mode) && flags & O_NONBLOCK && (!e->has_mode || S_ISFIFO(e->mode)))
		return 0;
	return log_fail(-ESTALE, "%s is now something that must not be opened (mode %o, device"
			" %u:%u)", e->name, st.st_mode, major(st.st_rdev), minor(st.st_rdev));
}

/* O_PATH descriptor of the file, wherever it is to be found. */
static int reg_path_fd(struct restore_ctx *ctx, const RegFileEntry *e, struct remap *m, int flags,
		       int *ret_fd)
{
	int r;

	flags &= O_PATH | O_DIRECTORY | O_NOFOLLOW;
	/* Directories and links open with the flags they shall show. */
	if (!(flags & O_PATH))
		flags = O_PATH;
	if (m)
		return remap_open(ctx, m, e, flags, ret_fd);
	r = restore_open(ctx, e->name, e->has_mnt_id ? e->mnt_id : -1, flags, ret_fd);
	return r < 0 ? log_err(r, "cannot open %s", e->name) : 0;
}

/* The same file by its name once more: O_NOFOLLOW shows in F_GETFL, but not through /proc. */
static int reg_open_nofollow(struct restore_ctx *ctx, const RegFileEntry *e, int pfd, int flags,
			     int *ret_fd)
{
	_cleanup_close_ int fd = -EBADF;
	struct stat a, b;
	int r;

	r = restore_open(ctx, e->name, e->has_mnt_id ? e->mnt_id : -1, flags | O_NONBLOCK, &fd);
	if (r < 0)
		return r;
	if (fstat(pfd, &a) < 0 || fstat(fd, &b) < 0)
		return neg_errno();
	if (a.st_dev != b.st_dev || a.st_ino != b.st_ino)
		return -ESTALE;
	*ret_fd = take_fd(&fd);
	return 0;
}

int reg_open(struct restore_ctx *ctx, const RegFileEntry *e, uint32_t flags, int *ret_fd)
{
	struct remap *m = remap_find(ctx, e->id);
	_cleanup_close_ int pfd = -EBADF, fd = -EBADF;
	int how = open_flags(e, flags), r;

	if (!path_is_normal(e->name))
		return log_fail(-EBADMSG, "\"%s\" is not a path", e->name);
	r = flags == e->flags ? remap_take_tmpfile(ctx, m, e, ret_fd) : 0;
	if (r)
		return r < 0 ? r : 0;
	r = reg_path_fd(ctx, e, m, how, &pfd);
	if (r >= 0 && !remap_is_ghost(m))
		r = reg_compare(ctx->opts, pfd, e);
	if (r >= 0 && !(how & O_PATH))
		r = reg_may_open(pfd, e, how);
	if (r < 0)
		return r;
	if (how & O_PATH) {
		*ret_fd = take_fd(&pfd);
		return 0;
	}
	if (how & O_NOFOLLOW && !m)
		r = reg_open_nofollow(ctx, e, pfd, how, &fd);
	else
		r = reopen_fd(pfd, how & ~O_NOFOLLOW, &fd);
	if (r < 0)
		return log_err(r, "cannot open %s with flags %o", e->name, flags);
	*ret_fd = take_fd(&fd);
	return 0;
}

/* --inherit-fd fd[N]:path without its first slash, or an external file's key. */
static int reg_inherited(struct restore_ctx *ctx, const RegFileEntry *e, int *ret_fd)
{
	int r;

	if (!ctx->opts->n_externals || !*e->name)
		return 0;
	r = external_dup(ctx->opts, e->ext ? e->name : e->name + 1, ret_fd);
	return r == -ENOENT ? 0 : r < 0 ? log_err(r, "cannot take over %s", e->name) : 1;
}

static int reg_seek(int fd, const RegFileEntry *e)
{
	struct stat st;
	int r;

	if (e->kmsg && !(e->flags & O_PATH) && (e->flags & O_ACCMODE) != O_WRONLY && !fstat(fd, &st) &&
	    is_kmsg(&st)) {
		r = reg_kmsg_seek(fd, e);
		if (r < 0)
			log_warn("%s: cannot find the record that is read next (error %d)", e->name, -r);
		return 0;
	}
	if (!e->pos || e->pos == POS_NONE || e->flags & O_PATH)
		return 0;
	if (lseek(fd, (off_t)e->pos, SEEK_SET) >= 0)
		return 0;
	return log_err(neg_errno(), "cannot seek to %llu in %s", (unsigned long long)e->pos,
		       e->name);
}

static int reg_restore(struct restore_ctx *ctx, struct restore_file *f, int *ret_fd)
{
	const RegFileEntry *e = f->fe->reg;
	_cleanup_close_ int fd = -EBADF;
	int r;

	r = reg_inherited(ctx, e, &fd);
	if (r < 0)
		return r;
	if (r > 0) {
		*ret_fd = take_fd(&fd);
		return 0;
	}
	if (e->ext)
		return log_fail(-ENOENT, "%s was saved as external: --inherit-fd has to bring it",
				e->name);
	r = reg_open(ctx, e, e->flags, &fd);
	if (r < 0)
		return r;
	r = reg_seek(fd, e);
	if (r < 0)
		return r;
	r = restore_flags_fown(fd, e->flags, e->fown);
	if (r < 0)
		return log_err(r, "cannot set flags %o or owner of %s", e->flags, e->name);
	*ret_fd = take_fd(&fd);
	return 0;
}

const struct kind kind_reg = {
	.name = "file",
	.type = FD_TYPES__REG,
	.match = reg_match,
	.dump = reg_dump,
	.dump_done = ghost_dump_done,
	.prepare = remap_load,
	.restore = reg_restore,
	.restore_done = remap_done,
};
