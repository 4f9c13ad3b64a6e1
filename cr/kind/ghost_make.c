/* A ghost file made again: see ghost_restore.c. */
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "kind/ghost_restore.h"
#include "ns/ns.h"

#define DEPTH_MAX 64

/* The directory a ghost is made in, with the missing ones below the first that exists. */
struct place {
	int dirs[DEPTH_MAX];		/* [0] exists; the rest are ours to remove */
	const char *names[DEPTH_MAX];	/* names[i] is dirs[i] inside dirs[i - 1] */
	int n;
	const char *base;		/* the file's own name */
	char *path;			/* what the names point into */
};

static void place_leave(struct place *p)
{
	while (p->n > 0) {
		p->n--;
		close(p->dirs[p->n]);
		if (p->n > 0)
			unlinkat(p->dirs[p->n - 1], p->names[p->n], AT_REMOVEDIR);
	}
	free(p->path);
}

/* Descends from dirs[0] along the rest of the path, making what is missing. */
static int place_descend(struct place *p, char *rest)
{
	char *slash;

	while ((slash = strchr(rest, '/'))) {
		int fd;

		*slash = '\0';
		if (p->n == DEPTH_MAX)
			return -ENAMETOOLONG;
		if (mkdirat(p->dirs[p->n - 1], rest, 0700) < 0)
			return neg_errno();
		fd = openat(p->dirs[p->n - 1], rest, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0) {
			int r = neg_errno();

			unlinkat(p->dirs[p->n - 1], rest, AT_REMOVEDIR);
			return r;
		}
		p->names[p->n] = rest;
		p->dirs[p->n++] = fd;
		rest = slash + 1;
	}
	p->base = rest;
	return 0;
}

/*
 * Opens the nearest existing directory of name and makes the missing ones. in_host: in the
 * engine's own mount namespace instead of the tree's.
 */
static int place_enter(struct restore_ctx *ctx, const RegFileEntry *e, bool in_host,
		       struct place *p)
{
	int mnt_id = e->has_mnt_id ? e->mnt_id : -1, r;
	char *end;

	*p = (struct place){ .path = strdup(e->name) };
	if (!p->path)
		return -ENOMEM;
	end = p->path + strlen(p->path);
	do {
		while (end > p->path && *end != '/')
			end--;
		*end = '\0';
		if (in_host) {
			int fd = open(end == p->path ? "/" : p->path,
				      O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

			r = fd < 0 ? neg_errno() : 0;
			p->dirs[0] = fd;
		} else {
			r = restore_open(ctx, end == p->path ? "/" : p->path, mnt_id,
					 O_PATH | O_DIRECTORY, &p->dirs[0]);
		}
	} while (r == -ENOENT && end > p->path);
	if (r < 0)
		return r;
	p->n = 1;
	/* The path again, from behind the directory that exists. */
	strcpy(p->path, e->name);
	return place_descend(p, end + 1);
}

static int node_create(const GhostFileEntry *g, int dir, const char *name)
{
	mode_t type = g->mode & S_IFMT;
	dev_t dev = makedev(g->rdev >> 20, g->rdev & 0xfffff);
	int fd;

	switch (type) {
	case S_IFREG:
		fd = openat(dir, name, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
		if (fd >= 0)
			close(fd);
		return fd < 0 ? neg_errno() : 0;
	case S_IFDIR:
		return mkdirat(dir, name, 0700) < 0 ? neg_errno() : 0;
	case S_IFLNK:
		if (!g->symlnk_target)
			return -EBADMSG;
		return symlinkat(g->symlnk_target, dir, name) < 0 ? neg_errno() : 0;
	case S_IFIFO:
	case S_IFCHR:
	case S_IFBLK:
	case S_IFSOCK:
		return mknodat(dir, name, type | 0600, dev) < 0 ? neg_errno() : 0;
	default:
		return -EBADMSG;
	}
}

/* Created, opened, unlinked; or never linked, which is what can be given a name later. */
static int node_make(const GhostFileEntry *g, const struct place *p, uint32_t id, int tmpfile_flags,
		     int *ret_fd)
{
	const char *name = p->base;
	char other[NAME_MAX + 1];
	int dir = p->dirs[p->n - 1], r, fd;

	if (tmpfile_flags && S_ISREG(g->mode)) {
		*ret_fd = openat(dir, ".", tmpfile_flags, 0600);
		if (*ret_fd >= 0)
			return 0;
		/* Not every file system can. */
	}
	r = node_create(g, dir, name);
	if (r == -EEXIST) {
		snprintf(other, sizeof(other), "%.200s.cr.%x.ghost", p->base, id);
		name = other;
		r = node_create(g, dir, name);
		if (r == -EEXIST && !unlinkat(dir, name, S_ISDIR(g->mode) ? AT_REMOVEDIR : 0))
			r = node_create(g, dir, name);
	}
	if (r < 0)
		return r;
	fd = openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	r = fd < 0 ? neg_errno() : 0;
	if (unlinkat(dir, name, S_ISDIR(g->mode) ? AT_REMOVEDIR : 0) < 0 && !r) {
		r = neg_errno();
		close(fd);
	}
	*ret_fd = fd;
	return r;
}

static int node_place(struct restore_ctx *ctx, const RegFileEntry *e, const GhostFileEntry *g,
		      uint32_t id, int tmpfile_flags, bool in_host, int *ret_fd)
{
	struct place p;
	int r;

	r = place_enter(ctx, e, in_host, &p);
	if (r >= 0)
		r = node_make(g, &p, id, tmpfile_flags, ret_fd);
	place_leave(&p);
	return r;
}

static int chunks_read(struct restore_ctx *ctx, struct image_reader *rd, uint64_t size, int fd)
{
	GhostChunkEntry *c;
	const void *data;
	int r;

	while ((r = image_get(rd, &ctx->arena, ghost_chunk_entry, &c)) > 0) {
		if (c->off > size || c->len > size - c->off)
			return log_fail(-EBADMSG, "%s: a chunk at %llu lies outside of the file",
					rd->name, (unsigned long long)c->off);
		r = image_get_raw(rd, (size_t)c->len, &data);
		if (r < 0)
			return r;
		r = pwrite_full(fd, data, (size_t)c->len, (off_t)c->off);
		if (r < 0)
			return log_err(r, "cannot write a ghost file");
	}
	return r;
}

static int contents_read(struct restore_ctx *ctx, struct image_reader *rd,
			 const GhostFileEntry *g, int path_fd)
{
	_cleanup_close_ int fd = -EBADF;
	const void *data;
	size_t n;
	int r;

	r = reopen_fd(path_fd, O_RDWR, &fd);
	if (r < 0)
		return log_err(r, "cannot open a ghost file for writing");
	if (g->chunks) {
		if (!g->has_size || g->size > INT64_MAX)
			return log_fail(-EBADMSG, "%s: no size", rd->name);
		r = chunks_read(ctx, rd, g->size, fd);
		if (r >= 0 && ftruncate(fd, (off_t)g->size) < 0)
			r = log_err(neg_errno(), "cannot size a ghost file");
		return r;
	}
	n = rd->bytes - rd->pos;
	r = image_get_raw(rd, n, &data);
	if (r < 0)
		return r;
	r = pwrite_full(fd, data, n, 0);
	return r < 0 ? log_err(r, "cannot write a ghost file") : 0;
}

static int attributes_set(struct restore_ctx *ctx, const RegFileEntry *e, const GhostFileEntry *g, int fd)
{
	uint32_t uid = ns_restore_uid(ctx, g->uid), gid = ns_restore_gid(ctx, g->gid);
	struct timespec ts[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_nsec = UTIME_OMIT } };
	char self[48];

	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	if (fchownat(fd, "", uid, gid, AT_EMPTY_PATH) < 0)
		return log_err(neg_errno(), "cannot give a ghost file to %u:%u", uid, gid);
	if (S_ISLNK(g->mode))
		return 0;
	/* After the owner, which clears set-id bits. */
	if (chmod(self, g->mode & 07777) < 0)
		return log_err(neg_errno(), "cannot set the mode of a ghost file");
	/* An access control list shows in the mode, and a change of owner takes capabilities away. */
	ghost_xattrs_set(e, g, fd);
	if (g->atim)
		ts[0] = (struct timespec){ (time_t)g->atim->tv_sec,
					   (long)(g->atim->tv_usec % 1000000 * 1000) };
	if (g->mtim)
		ts[1] = (struct timespec){ (time_t)g->mtim->tv_sec,
					   (long)(g->mtim->tv_usec % 1000000 * 1000) };
	if (utimensat(AT_FDCWD, self, ts, 0) < 0)
		log_warn("cannot set the times of a ghost file");
	return 0;
}

int ghost_make(struct restore_ctx *ctx, const RegFileEntry *e, uint32_t id, int tmpfile_flags,
	       int *ret_fd)
{
	_cleanup_image_reader_ struct image_reader rd = { 0 };
	_cleanup_close_ int fd = -EBADF;
	GhostFileEntry *g;
	const char *base;
	int r;

	r = image_open(ctx->store, &image_ghost_file, &rd, (uint64_t)id);
	if (r < 0)
		return log_err(r, "ghost-file-%x.img of %s", id, e->name);
	r = image_get(&rd, &ctx->arena, ghost_file_entry, &g);
	if (r <= 0)
		return r < 0 ? r : log_fail(-EBADMSG, "%s is empty", rd.name);
	r = node_place(ctx, e, g, id, tmpfile_flags, false, &fd);
	if (r == -EROFS || r == -EACCES || r == -ENOENT || r == -EPERM)
		r = node_place(ctx, e, g, id, tmpfile_flags, true, &fd);
	if (r < 0 && S_ISREG(g->mode)) {
		log_warn("%s: no place for the removed file (error %d): it lives in memory now",
			 e->name, -r);
		base = strrchr(e->name, '/') + 1;
		fd = memfd_create(base, MFD_CLOEXEC);
		r = fd < 0 ? neg_errno() : 0;
	}
	if (r < 0)
		return log_err(r, "cannot make the removed file %s", e->name);
	r = S_ISREG(g->mode) ? contents_read(ctx, &rd, g, fd) : 0;
	if (r >= 0)
		r = attributes_set(ctx, e, g, fd);
	if (r < 0)
		return r;
	*ret_fd = take_fd(&fd);
	return 0;
}
