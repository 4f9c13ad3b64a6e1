/*
 * Inodes that inotify(7) and fanotify(7) groups watch.
 *
 *   dump     the file handle in fdinfo is opened on the mounts of its file system to learn the path;
 *            where that does not work, watched_search.c looks for it
 *   restore  the path; without one, the handle
 *
 * Handles may not outlive a mount of a file system without stable ones (tmpfs): the path is tried
 * first.
 */
#include <fcntl.h>
#include <string.h>

#include "core/files.h"
#include "kernel/mountinfo.h"
#include "kind/watched.h"
#include "ns/ns.h"
#include "util/timer.h"

#define FH_WORDS 16u
#define SEARCH_USEC 10000000ull	/* in one dump */

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

int watched_parse_handle(const char *line, struct watched *w)
{
	const char *s = strstr(line, " fhandle-bytes:"), *h = strstr(line, " f_handle:");
	unsigned int bytes, type;

	w->has_handle = false;
	if (!s || !h || sscanf(s, " fhandle-bytes:%x fhandle-type:%x", &bytes, &type) != 2)
		return 0;
	if (bytes > sizeof(w->handle))
		return -EBADMSG;
	w->handle_bytes = bytes;
	w->handle_type = type;
	w->has_handle = true;
	return hex_bytes(h + strlen(" f_handle:"), w->handle, bytes);
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
				    const struct mount *m, const struct watched *w, bool *removed)
{
	_cleanup_close_ int dir = -EBADF, mnt = -EBADF, fd = -EBADF;
	const char *base, *link, *rest, *path;
	struct stat st;

	if (dump_open_dir(p, m->mountpoint, m->id, &dir) < 0)
		return NULL;
	/* open_by_handle_at(2) takes no O_PATH descriptor. */
	if (reopen_fd(dir, O_RDONLY | O_DIRECTORY, &mnt) < 0)
		return NULL;
	fd = handle_open(mnt, w->handle_type, w->handle, w->handle_bytes);
	if (fd < 0 || fstat(fd, &st) < 0 || st.st_ino != w->ino)
		return NULL;
	*removed = !st.st_nlink;
	base = own_link(ctx, mnt);
	link = own_link(ctx, fd);
	rest = base && link ? path_below(link, base) : NULL;
	path = rest ? path_join(&ctx->arena, m->mountpoint, rest) : NULL;
	return path && dump_path_names(p, path, m->id, &st) == 1 ? path : NULL;
}

struct watched_state {
	struct mount_table own;		/* our mounts, read once */
	bool own_read;
	uint64_t searched_usec;
};

static struct watched_state *watched_state(struct dump_ctx *ctx)
{
	void **slot = &ctx->kind_state[FD_TYPES__INOTIFY];

	if (!*slot)
		*slot = ARENA_NEW(&ctx->arena, struct watched_state);
	return *slot;
}

static const struct mount_table *own_mounts(struct dump_ctx *ctx)
{
	_cleanup_close_ int self = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct watched_state *s = watched_state(ctx);

	if (s && !s->own_read)
		s->own_read = self >= 0 && mountinfo_read(&ctx->arena, self, &s->own) >= 0;
	return s && s->own_read ? &s->own : NULL;
}

const struct mount_table *watched_mounts(struct dump_ctx *ctx, struct dump_process *p)
{
	const struct mount_table *t = ns_dump_mounts(ctx, p);

	return t ? t : own_mounts(ctx);
}

/* The same by looking for its name. */
static const char *searched_on_mount(struct dump_ctx *ctx, struct dump_process *p, const struct mount *m,
				     const struct watched *w)
{
	/* What overlay's directories say of their entries is not always what the inodes say. */
	bool by_number = strcmp(m->fstype, "overlay") != 0;
	struct watched_state *s = watched_state(ctx);
	uint64_t begin = clock_usec(CLOCK_MONOTONIC);
	_cleanup_close_ int dir = -EBADF;
	const char *rest, *path;
	struct stat st;
	int r;

	if (!s || dump_open_dir(p, m->mountpoint, m->id, &dir) < 0)
		return NULL;
	r = watched_search(ctx, dir, w, by_number, begin + SEARCH_USEC - MIN(s->searched_usec, SEARCH_USEC),
			   &rest);
	s->searched_usec += clock_usec(CLOCK_MONOTONIC) - begin;
	if (r == -ETIME)
		log_warn("%s: %u seconds were not enough to find the watched inode %llu", m->mountpoint,
			 (unsigned int)(SEARCH_USEC / 1000000), (unsigned long long)w->ino);
	if (r <= 0 || fstatat(dir, rest, &st, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0)
		return NULL;
	path = path_join(&ctx->arena, m->mountpoint, rest);
	return path && dump_path_names(p, path, m->id, &st) == 1 ? path : NULL;
}

/* The watched inode's path on one of the mounts of its file system that the process has. */
static const char *watched_path(struct dump_ctx *ctx, struct dump_process *p,
				const struct watched *w, int *ret_mnt_id)
{
	const struct mount_table *t = watched_mounts(ctx, p);
	bool removed = false;

	for (int search = 0; t && search < 2; search++)
		for (size_t i = 0; i < t->n; i++) {
			const struct mount *m = &t->mounts[i];
			const char *path;

			if (m->dev != w->sdev || removed)
				continue;
			path = search ? searched_on_mount(ctx, p, m, w) :
					watched_on_mount(ctx, p, m, w, &removed);
			if (!path)
				continue;
			*ret_mnt_id = m->id;
			return path;
		}
	return NULL;
}

int watched_dump(struct dump_ctx *ctx, struct dump_file *f, const char *what, const struct watched *w,
		 FhEntry **ret)
{
	FhEntry *fh = ARENA_MSG(&ctx->arena, FhEntry, fh_entry);
	int mnt_id = 0;

	if (fh)
		fh->handle = arena_alloc(&ctx->arena, FH_WORDS * 8);
	if (!fh || !fh->handle)
		return log_err(-ENOMEM, "%s", what);
	fh->bytes = w->handle_bytes;
	fh->type = w->handle_type;
	fh->n_handle = FH_WORDS;
	memcpy(fh->handle, w->handle, sizeof(w->handle));
	fh->path = w->has_handle ? (char *)watched_path(ctx, f->owner, w, &mnt_id) : NULL;
	if (!fh->path)
		return log_obstacle("have the program remove it before",
				    "%s: of inode %llu on device %u:%u, whose path cannot be found", what,
				    (unsigned long long)w->ino, w->sdev >> 20, w->sdev & 0xfffff);
	fh->has_mnt_id = ctx->mntns_dumped;
	fh->mnt_id = (uint32_t)mnt_id;
	*ret = fh;
	return 0;
}

/* An image without path (CRIU's usual): by handle, on any mount of ours that knows it. */
static int by_handle_open(struct restore_ctx *ctx, const FhEntry *fh, uint32_t sdev, uint64_t ino,
			  int *ret_fd)
{
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

		if (t.mounts[i].dev != sdev)
			continue;
		mnt = open(t.mounts[i].mountpoint, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		fd = mnt < 0 ? -1 : handle_open(mnt, fh->type, fh->handle, fh->bytes);
		if (fd < 0)
			continue;
		if (!fstat(fd, &st) && st.st_ino == ino) {
			*ret_fd = fd;
			return 0;
		}
		close(fd);
	}
	return r < 0 ? r : -ENOENT;
}

int watched_open(struct restore_ctx *ctx, const FhEntry *fh, uint32_t sdev, uint64_t ino, int *ret_fd)
{
	int r;

	if (fh->path)
		r = restore_open(ctx, fh->path, fh->has_mnt_id ? (int)fh->mnt_id : -1,
				 O_PATH | O_NOFOLLOW, ret_fd);
	else
		r = by_handle_open(ctx, fh, sdev, ino, ret_fd);
	return r < 0 ? log_err(r, "cannot find %s", fh->path ? fh->path : "the watched inode") : 0;
}
