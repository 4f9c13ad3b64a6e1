#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <zlib.h>

#include "ns/tar.h"
#include "util/arena.h"
#include "util/io.h"
#include "util/map.h"

#define CHUNK_BYTES	(64u << 10)

struct pax {
	char *p;
	size_t n, room;
};

struct tar_writer {
	tar_write_fn fn;
	void *arg;
	struct tar_ids ids;
	z_stream z;
	struct arena arena;
	struct map linked;		/* member name of files with several links, by inode */
	struct pax pax;
	char path[PATH_MAX];		/* member name: "./a/b" */
	uint8_t in[CHUNK_BYTES], out[CHUNK_BYTES];
};

static int deflate_out(struct tar_writer *t, const void *p, size_t n, int flush)
{
	t->z.next_in = (Bytef *)p;
	t->z.avail_in = (uInt)n;
	for (;;) {
		int z, r;

		t->z.next_out = t->out;
		t->z.avail_out = sizeof(t->out);
		z = deflate(&t->z, flush);
		if (z == Z_STREAM_ERROR)
			return -EIO;
		if (t->z.avail_out < sizeof(t->out)) {
			r = t->fn(t->arg, t->out, sizeof(t->out) - t->z.avail_out);
			if (r < 0)
				return r;
		}
		if (flush == Z_FINISH ? z == Z_STREAM_END : t->z.avail_out != 0)
			return 0;
	}
}

static int put(struct tar_writer *t, const void *p, size_t n)
{
	return deflate_out(t, p, n, Z_NO_FLUSH);
}

static int put_padding(struct tar_writer *t, uint64_t size)
{
	static const uint8_t zero[TAR_BLOCK];
	size_t over = (size_t)(size % TAR_BLOCK);

	return over ? put(t, zero, TAR_BLOCK - over) : 0;
}

static int pax_append(struct pax *x, const void *p, size_t n)
{
	if (x->room - x->n < n) {
		size_t room = MAX(x->room * 2, ROUND_UP(x->n + n, 4096u));
		char *more = realloc(x->p, room);

		if (!more)
			return -ENOMEM;
		x->p = more;
		x->room = room;
	}
	memcpy(x->p + x->n, p, n);
	x->n += n;
	return 0;
}

/* "LEN KEY=VALUE\n", where LEN counts itself. */
static int pax_record(struct tar_writer *t, const char *prefix, const char *key, const void *value,
		      size_t n)
{
	size_t body = 1 + strlen(prefix) + strlen(key) + 1 + n + 1, len = body + 1;
	char head[32 + XATTR_NAME_MAX + 1];
	int r, k;

	while (len != body + (size_t)snprintf(NULL, 0, "%zu", len))
		len = body + (size_t)snprintf(NULL, 0, "%zu", len);
	k = snprintf(head, sizeof(head), "%zu %s%s=", len, prefix, key);
	if (k < 0 || (size_t)k >= sizeof(head))
		return -ENAMETOOLONG;
	r = pax_append(&t->pax, head, (size_t)k);
	if (r >= 0)
		r = pax_append(&t->pax, value, n);
	if (r >= 0)
		r = pax_append(&t->pax, "\n", 1);
	return r;
}

static int pax_number(struct tar_writer *t, const char *key, uint64_t v)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRIu64, v);
	return pax_record(t, "", key, text, strlen(text));
}

/* Octal into the field; what does not fit goes to a pax record (key may be NULL). */
static int put_number(struct tar_writer *t, char *field, size_t size, uint64_t v, const char *key)
{
	if (size - 1 < 22 && v >> 3 * (size - 1)) {
		memset(field, '0', size - 1);
		return key ? pax_number(t, key, v) : -ERANGE;
	}
	snprintf(field, size, "%0*" PRIo64, (int)size - 1, v);
	return 0;
}

static int put_name(struct tar_writer *t, char field[100], const char *name, const char *key)
{
	size_t n = strlen(name);

	memcpy(field, name, MIN(n, (size_t)100));
	return n > 100 ? pax_record(t, "", key, name, n) : 0;
}

static int put_header_block(struct tar_writer *t, struct tar_header *h)
{
	memcpy(h->magic, "ustar", 6);
	memcpy(h->version, "00", 2);
	snprintf(h->chksum, sizeof(h->chksum), "%06o", tar_checksum(h));
	h->chksum[7] = ' ';
	return put(t, h, sizeof(*h));
}

/* Extended attributes of dirfd/name, or of dirfd itself ("."). */
static int put_xattrs(struct tar_writer *t, int dirfd, const char *name)
{
	_cleanup_free_ char *list = NULL, *value = NULL;
	char path[PATH_MAX];
	ssize_t n;
	int r = snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", dirfd, name);

	if (r < 0 || (size_t)r >= sizeof(path))
		return -ENAMETOOLONG;
	list = malloc(XATTR_LIST_MAX);
	value = malloc(XATTR_SIZE_MAX);
	if (!list || !value)
		return -ENOMEM;
	n = llistxattr(path, list, XATTR_LIST_MAX);
	if (n < 0)
		return errno == ENOTSUP ? 0 : neg_errno();
	for (const char *key = list; key < list + n; key += strlen(key) + 1) {
		ssize_t k = lgetxattr(path, key, value, XATTR_SIZE_MAX);

		if (k < 0)
			return neg_errno();
		r = pax_record(t, TAR_XATTR_KEY, key, value, (size_t)k);
		if (r < 0)
			return r;
	}
	return 0;
}

static char type_of(const struct stat *st)
{
	switch (st->st_mode & S_IFMT) {
	case S_IFDIR:
		return '5';
	case S_IFLNK:
		return '2';
	case S_IFCHR:
		return '3';
	case S_IFBLK:
		return '4';
	case S_IFIFO:
		return '6';
	default:
		return '0';
	}
}

static int put_times(struct tar_writer *t, struct tar_header *h, const struct stat *st)
{
	char text[48];
	uint64_t sec = st->st_mtim.tv_sec < 0 ? 0 : (uint64_t)st->st_mtim.tv_sec;

	if (!st->st_mtim.tv_nsec)
		return put_number(t, h->mtime, sizeof(h->mtime), sec, "mtime");
	snprintf(text, sizeof(text), "%" PRIu64 ".%09ld", sec, st->st_mtim.tv_nsec);
	snprintf(h->mtime, sizeof(h->mtime), "%011" PRIo64, sec & 077777777777);
	return pax_record(t, "", "mtime", text, strlen(text));
}

static int put_ids(struct tar_writer *t, struct tar_header *h, const struct stat *st)
{
	uint32_t uid = t->ids.uid ? t->ids.uid(t->ids.arg, st->st_uid) : st->st_uid;
	uint32_t gid = t->ids.gid ? t->ids.gid(t->ids.arg, st->st_gid) : st->st_gid;
	int r = put_number(t, h->uid, sizeof(h->uid), uid, "uid");

	return r < 0 ? r : put_number(t, h->gid, sizeof(h->gid), gid, "gid");
}

/* The pax records collected so far as a member of their own, before the one they are about. */
static int put_pax(struct tar_writer *t)
{
	struct tar_header h = { .name = "./PaxHeaders", .typeflag = 'x' };
	int r;

	if (!t->pax.n)
		return 0;
	memcpy(h.mode, "0000600", 7);
	memcpy(h.uid, "0000000", 7);
	memcpy(h.gid, "0000000", 7);
	memcpy(h.mtime, "00000000000", 11);
	r = put_number(NULL, h.size, sizeof(h.size), t->pax.n, NULL);
	if (r >= 0)
		r = put_header_block(t, &h);
	if (r >= 0)
		r = put(t, t->pax.p, t->pax.n);
	if (r >= 0)
		r = put_padding(t, t->pax.n);
	t->pax.n = 0;
	return r;
}

/* link: target of a symbolic link, member name of a hard link, or NULL. */
static int put_member(struct tar_writer *t, int dirfd, const char *name, const struct stat *st,
		      char type, const char *link)
{
	struct tar_header h = { .typeflag = type };
	uint64_t size = type == '0' && S_ISREG(st->st_mode) ? (uint64_t)st->st_size : 0;
	int r = put_name(t, h.name, t->path, "path");

	if (r >= 0 && link)
		r = put_name(t, h.linkname, link, "linkpath");
	if (r >= 0)
		r = put_number(t, h.mode, sizeof(h.mode), st->st_mode & 07777, NULL);
	if (r >= 0)
		r = put_ids(t, &h, st);
	if (r >= 0)
		r = put_number(t, h.size, sizeof(h.size), size, "size");
	if (r >= 0)
		r = put_times(t, &h, st);
	if (r >= 0 && (type == '3' || type == '4')) {
		r = put_number(t, h.devmajor, sizeof(h.devmajor), major(st->st_rdev), NULL);
		if (r >= 0)
			r = put_number(t, h.devminor, sizeof(h.devminor), minor(st->st_rdev), NULL);
	}
	if (r >= 0 && S_ISSOCK(st->st_mode))
		r = pax_record(t, "", TAR_SOCKET_KEY, "socket", 6);
	if (r >= 0 && type != '1')
		r = put_xattrs(t, dirfd, name);
	if (r >= 0)
		r = put_pax(t);
	return r < 0 ? r : put_header_block(t, &h);
}

/* The file may be changed under us only by a tree that is not frozen; size is what was said. */
static int put_file_data(struct tar_writer *t, int dirfd, const char *name, uint64_t size)
{
	_cleanup_close_ int fd = -EBADF;
	uint64_t left = size;

	fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NOATIME);
	if (fd < 0)
		return neg_errno();
	while (left) {
		size_t n = (size_t)MIN(left, (uint64_t)sizeof(t->in));
		int r = read_full(fd, t->in, n);

		if (r >= 0)
			r = put(t, t->in, n);
		if (r < 0)
			return r;
		left -= n;
	}
	return put_padding(t, size);
}

static int put_symlink(struct tar_writer *t, int dirfd, const char *name, const struct stat *st)
{
	_cleanup_free_ char *target = NULL;
	int r = readlink_at(dirfd, name, &target);

	return r < 0 ? r : put_member(t, dirfd, name, st, '2', target);
}

/* Everything but directories. */
static int add_node(struct tar_writer *t, int dirfd, const char *name, const struct stat *st)
{
	const char *first;
	int r;

	if (S_ISLNK(st->st_mode))
		return put_symlink(t, dirfd, name, st);
	first = st->st_nlink > 1 ? map_get(&t->linked, st->st_ino) : NULL;
	if (first)
		return put_member(t, dirfd, name, st, '1', first);
	if (st->st_nlink > 1) {
		char *copy = arena_strdup(&t->arena, t->path);

		r = copy ? map_put(&t->linked, st->st_ino, copy) : -ENOMEM;
		if (r < 0)
			return r;
	}
	r = put_member(t, dirfd, name, st, type_of(st), NULL);
	if (r < 0 || !S_ISREG(st->st_mode))
		return r;
	return put_file_data(t, dirfd, name, (uint64_t)st->st_size);
}

static int add_dir(struct tar_writer *t, int fd, const struct stat *st);

static int add_child(struct tar_writer *t, int dirfd, const char *name)
{
	_cleanup_close_ int fd = -EBADF;
	size_t n = strlen(t->path);
	struct stat st;
	int r;

	if (snprintf(t->path + n, sizeof(t->path) - n, "%s%s", t->path[n - 1] == '/' ? "" : "/",
		     name) >= (int)(sizeof(t->path) - n))
		return -ENAMETOOLONG;
	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) < 0)
		return neg_errno();
	if (S_ISDIR(st.st_mode)) {
		fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0)
			return neg_errno();
		r = add_dir(t, fd, &st);
	} else {
		r = add_node(t, dirfd, name, &st);
	}
	if (r >= 0)
		t->path[n] = '\0';
	return r;
}

/* fd stays the caller's. */
static int add_dir(struct tar_writer *t, int fd, const struct stat *st)
{
	_cleanup_closedir_ DIR *dir = NULL;
	struct dirent *de;
	int r = put_member(t, fd, ".", st, '5', NULL);

	if (r < 0)
		return r;
	dir = dir_open_at(fd, ".");
	if (!dir)
		return neg_errno();
	for (errno = 0; (de = readdir(dir)); errno = 0) {
		if (!strcmp(de->d_name, ".") || !strcmp(de->d_name, ".."))
			continue;
		r = add_child(t, fd, de->d_name);
		if (r < 0)
			return r;
	}
	return errno ? neg_errno() : 0;
}

int tar_add_tree(struct tar_writer *t, int dirfd, const char *at)
{
	struct stat st;

	if (snprintf(t->path, sizeof(t->path), ".%s", at) >= (int)sizeof(t->path))
		return -ENAMETOOLONG;
	if (fstat(dirfd, &st) < 0)
		return neg_errno();
	if (!S_ISDIR(st.st_mode))	/* one file of the filesystem, bound somewhere */
		return -EOPNOTSUPP;
	return add_dir(t, dirfd, &st);
}

int tar_add_one(struct tar_writer *t, int dirfd, const char *name)
{
	bool self = !strcmp(name, ".");
	struct stat st;

	if (snprintf(t->path, sizeof(t->path), "./%s", self ? "" : name) >= (int)sizeof(t->path))
		return -ENAMETOOLONG;
	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) < 0)
		return neg_errno();
	return S_ISDIR(st.st_mode) ? put_member(t, dirfd, name, &st, '5', NULL) :
	       add_node(t, dirfd, name, &st);
}

const char *tar_writer_path(const struct tar_writer *t)
{
	return t->path;
}

int tar_writer_new(tar_write_fn fn, void *arg, const struct tar_ids *ids, enum tar_level level,
		   struct tar_writer **ret)
{
	struct tar_writer *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	t->fn = fn;
	t->arg = arg;
	if (ids)
		t->ids = *ids;
	arena_init(&t->arena);
	/* 31: gzip framing. */
	if (deflateInit2(&t->z, level, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY) != Z_OK) {
		free(t);
		return -ENOMEM;
	}
	*ret = t;
	return 0;
}

int tar_writer_finish(struct tar_writer *t)
{
	static const uint8_t end[2 * TAR_BLOCK];
	int r = put(t, end, sizeof(end));

	return r < 0 ? r : deflate_out(t, NULL, 0, Z_FINISH);
}

void tar_writer_free(struct tar_writer *t)
{
	deflateEnd(&t->z);
	map_done(&t->linked);
	arena_done(&t->arena);
	free(t->pax.p);
	free(t);
}
