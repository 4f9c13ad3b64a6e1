/*
 * inotify(7): watches of inodes, each with a number (wd) the program remembers.
 *
 *   dump     fdinfo "inotify wd:" lines; the file handle there is opened to learn the path
 *   restore  inotify_init1(), INOTIFY_IOC_SETNEXTWD and inotify_add_watch() per watch
 *
 * Events not read yet are lost, with a warning. Handles may not outlive a mount of a file
 * system without stable ones (tmpfs): the path is tried first.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>

#include "core/files_dump.h"
#include "kernel/mountinfo.h"
#include "kind/kinds.h"
#include "ns/ns.h"

#ifndef INOTIFY_IOC_SETNEXTWD
#define INOTIFY_IOC_SETNEXTWD _IOW('I', 0, int32_t)
#endif
#define WATCH_BITS (IN_ALL_EVENTS | IN_ONESHOT | IN_EXCL_UNLINK)
#define FH_WORDS 16u
#define WD_BY_COUNTING_MAX 65536u

static bool inotify_match(const struct dump_file *f)
{
	return link_is_anon(f->link, "inotify");
}

static int hex_bytes(const char *s, uint8_t *out, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		unsigned int v;

		if (sscanf(s + (size_t)2 * i, "%2x", &v) != 1 || strlen(s + (size_t)2 * i) < 2)
			return -EBADMSG;
		out[i] = (uint8_t)v;
	}
	return 0;
}

int inotify_line_parse(const char *line, struct inotify_line *ret)
{
	unsigned int wd, sdev, mask, ignored, bytes = 0, type = 0;
	unsigned long long ino;
	const char *h;
	int n;

	*ret = (struct inotify_line){ 0 };
	n = sscanf(line, "inotify wd:%x ino:%llx sdev:%x mask:%x ignored_mask:%x"
		   " fhandle-bytes:%x fhandle-type:%x", &wd, &ino, &sdev, &mask, &ignored, &bytes,
		   &type);
	if (n < 5 || wd > INT32_MAX)
		return -EBADMSG;
	*ret = (struct inotify_line){ .wd = wd, .sdev = sdev, .mask = mask,
				      .ignored_mask = ignored, .ino = ino };
	h = strstr(line, " f_handle:");
	if (n < 7 || !h)
		return 0;
	if (bytes > sizeof(ret->handle))
		return -EBADMSG;
	ret->handle_bytes = bytes;
	ret->handle_type = type;
	ret->has_handle = true;
	return hex_bytes(h + strlen(" f_handle:"), ret->handle, bytes);
}

union handle_room {
	struct file_handle h;
	char room[sizeof(struct file_handle) + FH_WORDS * 8];
};

/* An O_PATH descriptor of the handle's file on the mount that mount_fd is on. */
static int handle_open(int mount_fd, uint32_t type, const void *handle, uint32_t bytes)
{
	union handle_room u = { 0 };
	int fd;

	u.h.handle_bytes = bytes;
	u.h.handle_type = (int)type;
	memcpy(u.h.f_handle, handle, bytes);
	fd = open_by_handle_at(mount_fd, &u.h, O_PATH | O_CLOEXEC);
	return fd < 0 ? neg_errno() : fd;
}

/* What /proc says of a descriptor of ours, in the arena. */
static const char *own_link(struct dump_ctx *ctx, int fd)
{
	_cleanup_free_ char *link = NULL;
	char self[48];

	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	return readlink_at(AT_FDCWD, self, &link) < 0 ? NULL : arena_strdup(&ctx->arena, link);
}

/*
 * The path of the watched inode if it is on mount m. Its directory may be looked at on a copy of
 * the mount that is attached nowhere: only the difference of the two links counts.
 */
static const char *watched_on_mount(struct dump_ctx *ctx, struct dump_process *p,
				    const struct mount *m, const struct inotify_line *l)
{
	_cleanup_close_ int dir = -EBADF, mnt = -EBADF, fd = -EBADF;
	const char *base, *link, *rest, *path;
	struct stat st;

	if (dump_open_dir(p, m->mountpoint, m->id, &dir) < 0)
		return NULL;
	/* open_by_handle_at(2) takes no O_PATH descriptor. */
	if (reopen_fd(dir, O_RDONLY | O_DIRECTORY, &mnt) < 0)
		return NULL;
	fd = handle_open(mnt, l->handle_type, l->handle, l->handle_bytes);
	if (fd < 0 || fstat(fd, &st) < 0 || st.st_ino != l->ino)
		return NULL;
	base = own_link(ctx, mnt);
	link = own_link(ctx, fd);
	rest = base && link ? path_below(link, base) : NULL;
	path = rest ? path_join(&ctx->arena, m->mountpoint, rest) : NULL;
	return path && dump_path_names(p, path, m->id, &st) == 1 ? path : NULL;
}

/* Read once. */
static const struct mount_table *own_mounts(struct dump_ctx *ctx)
{
	_cleanup_close_ int self = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct mount_table *t = ctx->kind_state[FD_TYPES__INOTIFY];

	if (t)
		return t;
	t = ARENA_NEW(&ctx->arena, struct mount_table);
	if (self < 0 || !t || mountinfo_read(&ctx->arena, self, t) < 0)
		return NULL;
	ctx->kind_state[FD_TYPES__INOTIFY] = t;
	return t;
}

/* The watched inode's path on one of the mounts of its file system that the process has. */
static const char *watched_path(struct dump_ctx *ctx, struct dump_process *p,
				const struct inotify_line *l, int *ret_mnt_id)
{
	const struct mount_table *t = ns_dump_mounts(ctx, p);

	if (!t)
		t = own_mounts(ctx);
	for (size_t i = 0; t && i < t->n; i++) {
		const char *path = t->mounts[i].dev == l->sdev ?
				   watched_on_mount(ctx, p, &t->mounts[i], l) : NULL;

		if (!path)
			continue;
		*ret_mnt_id = t->mounts[i].id;
		return path;
	}
	return NULL;
}

static int watch_dump(struct dump_ctx *ctx, struct dump_file *f, InotifyFileEntry *e,
		      const char *line)
{
	InotifyWdEntry *w = ARENA_MSG(&ctx->arena, InotifyWdEntry, inotify_wd_entry), **slot;
	FhEntry *fh = ARENA_MSG(&ctx->arena, FhEntry, fh_entry);
	struct inotify_line l;
	int r, mnt_id = 0;

	slot = ARENA_PUSH(&ctx->arena, e->wd, e->n_wd);
	r = inotify_line_parse(line, &l);
	if (r < 0)
		return log_err(r, "inotify: fdinfo line \"%.80s\" cannot be understood", line);
	if (fh)
		fh->handle = arena_alloc(&ctx->arena, FH_WORDS * 8);
	if (!w || !fh || !slot || !fh->handle)
		return log_err(-ENOMEM, "inotify");
	*slot = w;
	w->i_ino = l.ino;
	w->mask = l.mask;
	w->ignored_mask = l.ignored_mask;
	w->s_dev = l.sdev;
	w->wd = l.wd;
	w->f_handle = fh;
	fh->bytes = l.handle_bytes;
	fh->type = l.handle_type;
	fh->n_handle = FH_WORDS;
	memcpy(fh->handle, l.handle, sizeof(l.handle));
	fh->path = l.has_handle ? (char *)watched_path(ctx, f->owner, &l, &mnt_id) : NULL;
	if (!fh->path)
		return log_obstacle("have the program remove the watch before",
				    "inotify watch %u of inode %llu on device %u:%u: its path"
				    " cannot be found", l.wd, (unsigned long long)l.ino, l.sdev >> 20,
				    l.sdev & 0xfffff);
	fh->has_mnt_id = ctx->mntns_dumped;
	fh->mnt_id = (uint32_t)mnt_id;
	return 0;
}

static int inotify_dump(struct dump_ctx *ctx, struct dump_file *f)
{
	InotifyFileEntry *e = ARENA_MSG(&ctx->arena, InotifyFileEntry, inotify_file_entry);
	const char *line = f->fdinfo;
	int r, bytes = 0;

	if (!e)
		return log_err(-ENOMEM, "inotify");
	e->id = f->id;
	e->flags = f->flags;
	f->fe->ify = e;
	if (!ioctl(f->fd, FIONREAD, &bytes) && bytes)
		log_warn("inotify: %d bytes of unread events are not saved", bytes);
	while ((line = strstr(line, "\ninotify wd:"))) {
		_cleanup_free_ char *one = NULL;

		line++;
		one = strndup(line, strcspn(line, "\n"));
		if (!one)
			return log_err(-ENOMEM, "inotify");
		r = dump_files_obstacle(ctx, watch_dump(ctx, f, e, one));
		if (r < 0)
			return r;
	}
	return dump_fown(ctx, f, &e->fown);
}

/* An image without path (CRIU's usual): by handle, on any mount of ours that knows it. */
static int by_handle_open(struct restore_ctx *ctx, const InotifyWdEntry *w, int *ret_fd)
{
	const FhEntry *fh = w->f_handle;
	struct mount_table t = { 0 };
	int r;

	if (fh->bytes > fh->n_handle * 8 || fh->bytes > FH_WORDS * 8)
		return -EBADMSG;
	_cleanup_close_ int self = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (self < 0)
		return neg_errno();
	r = mountinfo_read(&ctx->arena, self, &t);
	for (size_t i = 0; r >= 0 && i < t.n; i++) {
		_cleanup_close_ int mnt = -EBADF;
		struct stat st;
		int fd;

		if (t.mounts[i].dev != w->s_dev)
			continue;
		mnt = open(t.mounts[i].mountpoint, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		fd = mnt < 0 ? -1 : handle_open(mnt, fh->type, fh->handle, fh->bytes);
		if (fd < 0)
			continue;
		if (!fstat(fd, &st) && st.st_ino == w->i_ino) {
			*ret_fd = fd;
			return 0;
		}
		close(fd);
	}
	return r < 0 ? r : -ENOENT;
}

/* The next watch gets this number. */
static int next_wd(int fd, uint32_t wd)
{
	int32_t next = (int32_t)wd;

	if (!ioctl(fd, INOTIFY_IOC_SETNEXTWD, next))
		return 0;
	/* Without CONFIG_CHECKPOINT_RESTORE numbers are counted up from 1. */
	return errno == ENOTTY && wd <= WD_BY_COUNTING_MAX ? -ENOTTY : neg_errno();
}

static int watch_add(int fd, const char *path, const InotifyWdEntry *w)
{
	bool count = false;
	int r, wd;

	r = next_wd(fd, w->wd);
	if (r == -ENOTTY)
		count = true;
	else if (r < 0)
		return r;
	do {
		wd = inotify_add_watch(fd, path, w->mask & WATCH_BITS);
		if (wd < 0)
			return neg_errno();
		if ((uint32_t)wd == w->wd)
			return 0;
		if (inotify_rm_watch(fd, wd) < 0)
			return neg_errno();
	} while (count && (uint32_t)wd < w->wd);
	return -EEXIST;
}

static int watch_restore(struct restore_ctx *ctx, int fd, const InotifyWdEntry *w)
{
	_cleanup_close_ int target = -EBADF;
	char path[48];
	int r;

	if (!w->f_handle || !w->wd || w->wd > INT32_MAX || !(w->mask & IN_ALL_EVENTS))
		return log_fail(-EBADMSG, "watch %u is out of range", w->wd);
	if (w->f_handle->path)
		r = restore_open(ctx, w->f_handle->path, w->f_handle->has_mnt_id ?
				 (int)w->f_handle->mnt_id : -1, O_PATH | O_NOFOLLOW, &target);
	else
		r = by_handle_open(ctx, w, &target);
	if (r < 0)
		return log_err(r, "watch %u: cannot find %s", w->wd,
			       w->f_handle->path ? w->f_handle->path : "its inode");
	snprintf(path, sizeof(path), "/proc/self/fd/%d", target);
	r = watch_add(fd, path, w);
	return r < 0 ? log_err(r, "cannot watch %s as number %u", w->f_handle->path ?
			       w->f_handle->path : "the inode", w->wd) : 0;
}

static int by_wd(const void *a, const void *b)
{
	const InotifyWdEntry *x = *(InotifyWdEntry *const *)a, *y = *(InotifyWdEntry *const *)b;

	return (x->wd > y->wd) - (x->wd < y->wd);
}

static int inotify_restore(struct restore_ctx *ctx, struct restore_file *f, int *ret_fd)
{
	const InotifyFileEntry *e = f->fe->ify;
	_cleanup_close_ int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	char rest[4096];
	int r;

	if (fd < 0)
		return log_err(neg_errno(), "cannot create an inotify");
	if (e->n_wd)
		qsort(e->wd, e->n_wd, sizeof(*e->wd), by_wd);
	for (size_t i = 0; i < e->n_wd; i++) {
		r = watch_restore(ctx, fd, e->wd[i]);
		if (r < 0)
			return r;
	}
	/* IN_IGNORED of watches removed while counting. */
	while (read(fd, rest, sizeof(rest)) > 0)
		;
	r = restore_flags_fown(fd, e->flags, e->fown);
	if (r < 0)
		return log_err(r, "cannot set flags %o or owner", e->flags);
	*ret_fd = take_fd(&fd);
	return 0;
}

const struct kind kind_inotify = {
	.name = "inotify",
	.type = FD_TYPES__INOTIFY,
	.match = inotify_match,
	.dump = inotify_dump,
	.restore = inotify_restore,
};
