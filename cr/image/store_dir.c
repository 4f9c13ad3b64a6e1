/*
 * Images as files of a directory: what `crit` and CRIU read and write.
 *
 * A writer collects into a buffer and opens its file at the first flush, so a small file costs
 * one open, write, close. Files are made with O_EXCL, after unlinking what was there: an old
 * file's mode, owner and other hard links never apply to new contents.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "image/store_dir.h"
#include "util/io.h"
#include "util/log.h"
#include "util/parallel.h"

#define BUF_BYTES_MIN	(16u << 10)
/* A larger one is made only for what comes in one piece: its pages would have to be cleared first. */
#define BUF_BYTES_FULL	RESERVE_PIECE_BYTES
/* Below this reading is cheaper than a mapping of its own. */
#define MAP_BYTES_MIN	(128u << 10)
/* And below this writing than a mapping for each piece. */
#define FILL_MAPPED_MIN	(16u << 20)

struct dir_writer {
	struct image_writer w;
	int fd;
	struct buf buf;
	size_t used;
};

static struct dir_writer *dir_writer(struct image_writer *w)
{
	return (struct dir_writer *)w;
}

static int dir_writer_new(struct image_store *s _unused_, struct image_writer **ret)
{
	struct dir_writer *d = calloc(1, sizeof(*d));

	if (!d)
		return -ENOMEM;
	d->fd = -EBADF;
	*ret = &d->w;
	return 0;
}

static int file_make(int dirfd, const char *name)
{
	int flags = O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
	int fd = openat(dirfd, name, flags, 0600);

	if (fd < 0 && errno == EEXIST && !unlinkat(dirfd, name, 0))
		fd = openat(dirfd, name, flags, 0600);
	return fd >= 0 ? fd : neg_errno();
}

static int dir_flush(struct dir_writer *d)
{
	int r;

	if (d->fd < 0) {
		r = file_make(dir_store(d->w.store)->dirfd, d->w.name);
		if (r < 0)
			return r;
		d->fd = r;
	}
	r = write_full(d->fd, d->buf.p, d->used);
	if (r < 0)
		return r;
	d->used = 0;
	return 0;
}

/* A buffer of at least bytes; the used part moves along. */
static int dir_grow(struct dir_writer *d, size_t bytes)
{
	struct dir_store *s = dir_store(d->w.store);
	size_t room = d->buf.room ? d->buf.room : BUF_BYTES_MIN;
	uint8_t *p;

	while (room < bytes)
		room *= 2;
	if (s->spare.room >= room && room > BUF_BYTES_MIN) {
		struct buf old = d->buf;

		d->buf = s->spare;
		s->spare = (struct buf){ 0 };
		if (d->used)
			memcpy(d->buf.p, old.p, d->used);
		free(old.p);
		return 0;
	}
	p = realloc(d->buf.p, room);
	if (!p)
		return -ENOMEM;
	d->buf = (struct buf){ p, room };
	return 0;
}

static int dir_reserve(struct image_writer *w, size_t bytes, void **ret)
{
	struct dir_writer *d = dir_writer(w);
	int r;

	if (d->used && d->used + bytes > BUF_BYTES_FULL) {
		r = dir_flush(d);
		if (r < 0)
			return r;
	}
	if (d->used + bytes > d->buf.room) {
		r = dir_grow(d, d->used + bytes);
		if (r < 0)
			return r;
	}
	*ret = d->buf.p + d->used;
	d->used += bytes;
	return 0;
}

static int dir_append(struct image_writer *w, const void *p, size_t bytes)
{
	struct dir_writer *d = dir_writer(w);
	void *to;
	int r;

	if (bytes > IMAGE_SPAN_MAX / 2) {
		r = dir_flush(d);
		return r < 0 ? r : write_full(d->fd, p, bytes);
	}
	r = dir_reserve(w, bytes, &to);
	if (r < 0)
		return r;
	if (bytes)
		memcpy(to, p, bytes);
	return 0;
}

struct dir_fill {
	int fd;
	bool mapped;		/* see fill_mapped() */
	off_t begin;
	image_fill_fn fn;
	void *arg;
	uint8_t *buf[PARALLEL_WORKERS_MAX];
};

/*
 * write(2) to one file is done by one thread at a time, on tmpfs with all the work of getting pages for it; faults
 * are not. So one worker writes, and the others map their pieces. False: no memory, or who knows; then it is
 * for write(2) to say why.
 */
static bool fill_mapped(struct dir_fill *f, unsigned int worker, uint64_t off, size_t n, int *ret)
{
	void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED, f->fd, f->begin + (off_t)off);
	bool there;

	if (p == MAP_FAILED)
		return false;
	/* Later it would be a SIGBUS. */
	there = madvise(p, n, MADV_POPULATE_WRITE) == 0;
	if (there)
		*ret = f->fn(f->arg, worker, off, p, n);
	munmap(p, n);
	return there;
}

static int dir_fill_piece(void *arg, unsigned int worker, uint64_t off, size_t n)
{
	struct dir_fill *f = arg;
	int r;

	if (worker && f->mapped && fill_mapped(f, worker, off, n, &r))
		return r;
	if (!f->buf[worker] && !(f->buf[worker] = malloc(FILL_PIECE_BYTES)))
		return -ENOMEM;
	r = f->fn(f->arg, worker, off, f->buf[worker], n);
	return r < 0 ? r : pwrite_full(f->fd, f->buf[worker], n, f->begin + (off_t)off);
}

/* A file that is as long as it will be, whatever of it is there. */
static bool can_map(const struct dir_fill *f, uint64_t bytes)
{
	struct statfs fs;

	return bytes >= FILL_MAPPED_MIN && f->begin % PAGE_BYTES == 0 && fstatfs(f->fd, &fs) == 0 &&
	       fs.f_type == TMPFS_MAGIC && ftruncate(f->fd, f->begin + (off_t)bytes) == 0;
}

static int dir_fill(struct image_writer *w, uint64_t bytes, image_fill_fn fn, void *arg)
{
	struct dir_writer *d = dir_writer(w);
	struct dir_fill f = { .fn = fn, .arg = arg };
	int r = dir_flush(d);

	if (r < 0)
		return r;
	f.fd = d->fd;
	f.begin = lseek(d->fd, 0, SEEK_CUR);
	if (f.begin < 0)
		return neg_errno();
	f.mapped = can_map(&f, bytes);
	r = parallel(bytes, FILL_PIECE_BYTES, dir_fill_piece, &f);
	for (unsigned int i = 0; i < PARALLEL_WORKERS_MAX; i++)
		free(f.buf[i]);
	if (r >= 0 && lseek(d->fd, f.begin + (off_t)bytes, SEEK_SET) < 0)
		r = neg_errno();
	return r;
}

static void dir_writer_free(struct dir_writer *d)
{
	struct dir_store *s = dir_store(d->w.store);

	if (d->buf.room > s->spare.room) {
		struct buf old = s->spare;

		s->spare = d->buf;
		d->buf = old;
	}
	free(d->buf.p);
	close_fdp(&d->fd);
	free(d);
}

static int dir_unlink(struct dir_writer *d)
{
	if (unlinkat(dir_store(d->w.store)->dirfd, d->w.name, 0) && errno != ENOENT)
		return neg_errno();
	return 0;
}

static void dir_abandon(struct image_writer *w)
{
	struct dir_writer *d = dir_writer(w);

	if (w->begun)
		(void)!dir_unlink(d);
	dir_writer_free(d);
}

static int dir_commit(struct image_writer *w)
{
	struct dir_writer *d = dir_writer(w);
	int r;

	if (!w->begun) {
		r = dir_unlink(d);
		dir_writer_free(d);
		return r;
	}
	r = dir_flush(d);
	if (!r && close(take_fd(&d->fd)))
		r = neg_errno();
	if (r < 0)
		(void)!dir_unlink(d);
	dir_writer_free(d);
	return r;
}

int image_map_file(int dirfd, const char *path, struct image_reader *r)
{
	/* O_NONBLOCK: a fifo in place of an image must not hang us. */
	_cleanup_close_ int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;
	void *p;
	int k;

	if (fd < 0 || fstat(fd, &st) < 0)
		return neg_errno();
	if (!S_ISREG(st.st_mode))
		return S_ISDIR(st.st_mode) ? -EISDIR : -EBADMSG;
	if (!st.st_size)
		return 0;
	if (st.st_size >= MAP_BYTES_MIN) {
		p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
		if (p == MAP_FAILED)
			return neg_errno();
		r->map = p;
		/* Never a standard descriptor, whoever has closed those. */
		if (st.st_size >= FILL_BYTES_MIN)
			r->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	} else {
		p = malloc((size_t)st.st_size);
		if (!p)
			return -ENOMEM;
		k = read_full(fd, p, (size_t)st.st_size);
		if (k < 0) {
			free(p);
			return k;
		}
		r->heap = p;
	}
	r->data = p;
	r->bytes = (size_t)st.st_size;
	return 0;
}

static int dir_open(struct image_store *s, const char *name, struct image_reader *r)
{
	return image_map_file(dir_store(s)->dirfd, name, r);
}

static int dir_find(struct image_store *s, const char *name)
{
	return faccessat(dir_store(s)->dirfd, name, F_OK, 0) < 0 ? neg_errno() : 0;
}

static int dir_open_parent(struct image_store *s, struct image_store **ret)
{
	_cleanup_close_ int fd = openat(dir_store(s)->dirfd, "parent",
					O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? neg_errno() : image_store_open_dir(fd, ret);
}

static int dir_punch(struct image_store *s, const char *name, uint64_t off, uint64_t bytes)
{
	_cleanup_close_ int fd = openat(dir_store(s)->dirfd, name, O_RDWR | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return neg_errno();
	return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)off,
			 (off_t)bytes) < 0 ? neg_errno() : 0;
}

static int dir_may_follow(struct image_store *s, const char *to)
{
	int dirfd = dir_store(s)->dirfd;
	struct stat own, parent;

	if (fstat(dirfd, &own) < 0 || fstatat(dirfd, to, &parent, 0) < 0)
		return neg_errno();
	if (!S_ISDIR(parent.st_mode))
		return -ENOTDIR;
	return own.st_dev == parent.st_dev && own.st_ino == parent.st_ino ? -ELOOP : 0;
}

static int dir_link_parent(struct image_store *s, const char *to)
{
	int dirfd = dir_store(s)->dirfd, r = dir_may_follow(s, to);
	_cleanup_free_ char *now = NULL;

	if (r < 0)
		return r;
	if (readlink_at(dirfd, "parent", &now) >= 0) {
		if (!strcmp(now, to))
			return 0;
		/* Of an earlier dump to this directory: its pages are too old. */
		if (unlinkat(dirfd, "parent", 0) < 0)
			return neg_errno();
	}
	return symlinkat(to, dirfd, "parent") < 0 ? neg_errno() : 0;
}

static void dir_close(struct image_store *s)
{
	struct dir_store *d = dir_store(s);

	close_fdp(&d->dirfd);
	free(d->spare.p);
	free(d);
}

static const struct image_store_ops dir_ops = {
	.writer_new	= dir_writer_new,
	.append		= dir_append,
	.reserve	= dir_reserve,
	.fill		= dir_fill,
	.commit		= dir_commit,
	.abandon	= dir_abandon,
	.open		= dir_open,
	.find		= dir_find,
	.open_parent	= dir_open_parent,
	.punch		= dir_punch,
	.may_follow	= dir_may_follow,
	.link_parent	= dir_link_parent,
	.make_shared	= dir_make_shared,
	.forget		= dir_forget,
	.each_file	= dir_each_file,
	.seal		= dir_seal,
	.close		= dir_close,
};

int image_store_open_dir(int dirfd, struct image_store **ret)
{
	struct dir_store *d = calloc(1, sizeof(*d));

	if (!d)
		return -ENOMEM;
	d->store.ops = &dir_ops;
	d->dirfd = fcntl(dirfd, F_DUPFD_CLOEXEC, 3);
	if (d->dirfd < 0) {
		int r = neg_errno();

		free(d);
		return r;
	}
	*ret = &d->store;
	return 0;
}
