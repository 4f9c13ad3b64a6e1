/*
 * Unpacks what tar_write.c or GNU tar packed. The archive is not trusted: every member's parent is
 * opened below the target with openat2(2), no link is followed, nothing that exists is reused but
 * directories.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <zlib.h>

#include "ns/tar.h"
#include "util/arena.h"
#include "util/io.h"
#include "util/log.h"

#define CHUNK_BYTES	(64u << 10)
#define PAX_MAX_BYTES	(1u << 20)
#define DRAIN_MAX_BYTES	(1u << 20)
#define XATTRS_MAX	64u

struct xattr {
	const char *name;
	const void *value;
	size_t bytes;
};

struct member {
	char *path, *link;		/* without "./" and slashes at the end; "": the root */
	char type;
	bool is_socket;
	uint32_t mode, uid, gid;
	uint64_t size;
	struct timespec mtime;
	dev_t dev;
	struct xattr xattrs[XATTRS_MAX];
	size_t n_xattrs;
};

struct dir_time {
	const char *path;
	struct timespec mtime;
};

struct tar_reader {
	z_stream z;
	bool z_end;
	size_t left;			/* of the archive, behind z.next_in + z.avail_in */
	int root;
	const struct tar_ids *ids;
	bool over;			/* what is there already makes way */
	struct arena arena;		/* one member's strings and the list of directories */
	struct dir_time *dirs;
	size_t n_dirs;
	uint8_t buf[CHUNK_BYTES];
};

/* Exactly n bytes; -ENODATA at a clean end before the first one. */
static int get(struct tar_reader *t, void *p, size_t n)
{
	t->z.next_out = p;
	t->z.avail_out = (uInt)n;
	while (t->z.avail_out) {
		int z;

		if (t->z_end)
			return t->z.avail_out == n ? -ENODATA : -EBADMSG;
		if (!t->z.avail_in) {
			t->z.avail_in = (uInt)MIN(t->left, (size_t)1 << 30);
			t->left -= t->z.avail_in;
		}
		z = inflate(&t->z, Z_NO_FLUSH);
		if (z == Z_STREAM_END)
			t->z_end = true;
		else if (z != Z_OK)
			return -EBADMSG;
	}
	return 0;
}

/* Up to the end of the stream, where zlib compares the checksum; GNU tar fills up to 10 KiB. */
static int drain(struct tar_reader *t)
{
	for (size_t n = 0; !t->z_end; n += sizeof(t->buf)) {
		int r = n < DRAIN_MAX_BYTES ? get(t, t->buf, sizeof(t->buf)) : -E2BIG;

		if (r < 0 && !t->z_end)
			return r;
	}
	return 0;
}

static int skip_padding(struct tar_reader *t, uint64_t size)
{
	uint8_t pad[TAR_BLOCK];
	size_t over = (size_t)(size % TAR_BLOCK);

	return over ? get(t, pad, TAR_BLOCK - over) : 0;
}

/* Octal with blanks around, or GNU's base 256. */
static int number(const char *field, size_t n, uint64_t *ret)
{
	uint64_t v = 0;
	size_t i = 0;

	if ((unsigned char)field[0] == 0x80) {
		for (i = 1; i < n; i++) {
			if (v >> 56)
				return -EBADMSG;
			v = v << 8 | (unsigned char)field[i];
		}
		*ret = v;
		return 0;
	}
	while (i < n && field[i] == ' ')
		i++;
	for (; i < n && field[i] >= '0' && field[i] <= '7'; i++) {
		if (v >> 60)
			return -EBADMSG;
		v = v << 3 | (uint64_t)(field[i] - '0');
	}
	if (i < n && field[i] && field[i] != ' ')
		return -EBADMSG;
	*ret = v;
	return 0;
}

static char *field_string(struct arena *a, const char *prefix, size_t prefix_n, const char *name,
			  size_t name_n)
{
	int p = (int)strnlen(prefix, prefix_n), n = (int)strnlen(name, name_n);

	return arena_printf(a, "%.*s%s%.*s", p, prefix, p ? "/" : "", n, name);
}

static int parse_time(const char *text, struct timespec *ret)
{
	unsigned long nsec = 0, scale = 100000000;
	uint64_t sec = 0;

	for (; *text >= '0' && *text <= '9'; text++) {
		if (sec > INT64_MAX / 10 - 1)
			return -EBADMSG;
		sec = sec * 10 + (uint64_t)(*text - '0');
	}
	if (*text == '.')
		for (text++; *text >= '0' && *text <= '9'; text++, scale /= 10)
			nsec += (unsigned long)(*text - '0') * scale;
	if (*text)
		return -EBADMSG;
	ret->tv_sec = (time_t)sec;
	ret->tv_nsec = (long)nsec;
	return 0;
}

static int pax_value(struct tar_reader *t, struct member *m, char *key, char *value, size_t n)
{
	if (str_starts(key, TAR_XATTR_KEY)) {
		if (m->n_xattrs == XATTRS_MAX)
			return -E2BIG;
		m->xattrs[m->n_xattrs++] = (struct xattr){ key + strlen(TAR_XATTR_KEY), value, n };
		return 0;
	}
	if (memchr(value, 0, n))
		return -EBADMSG;
	if (!strcmp(key, "path"))
		m->path = arena_strdup(&t->arena, value);
	else if (!strcmp(key, "linkpath"))
		m->link = arena_strdup(&t->arena, value);
	else if (!strcmp(key, "mtime"))
		return parse_time(value, &m->mtime);
	else if (!strcmp(key, "uid"))
		return parse_u32(value, 10, &m->uid);
	else if (!strcmp(key, "gid"))
		return parse_u32(value, 10, &m->gid);
	else if (!strcmp(key, "size"))
		return parse_u64(value, 10, &m->size);
	else if (!strcmp(key, TAR_SOCKET_KEY))
		m->is_socket = !strcmp(value, "socket");
	else if (str_starts(key, "GNU.sparse."))
		return -EOPNOTSUPP;
	return 0;
}

/* "LEN KEY=VALUE\n" records. */
static int parse_pax(struct tar_reader *t, struct member *m, char *p, size_t bytes)
{
	char *end = p + bytes;

	while (p < end) {
		size_t len = 0;
		char *key = p, *eq;
		int r;

		for (; key < end && *key >= '0' && *key <= '9' && len <= bytes; key++)
			len = len * 10 + (size_t)(*key - '0');
		if (key == end || *key != ' ' || len < (size_t)(key - p) + 4 ||
		    len > (size_t)(end - p) || p[len - 1] != '\n')
			return -EBADMSG;
		key++;
		eq = memchr(key, '=', len - (size_t)(key - p));
		if (!eq)
			return -EBADMSG;
		*eq = p[len - 1] = '\0';
		r = pax_value(t, m, key, eq + 1, (size_t)(p + len - 1 - (eq + 1)));
		if (r < 0)
			return r;
		p += len;
	}
	return 0;
}

/* Without "./" in front and slashes behind; "..", empty and absolute names are refused. */
static int normalize(char **path)
{
	char *p = *path;
	size_t n;

	while (p[0] == '.' && p[1] == '/')
		for (p += 2; *p == '/'; p++)
			;
	if (!strcmp(p, "."))
		p++;
	n = strlen(p);
	while (n && p[n - 1] == '/')
		p[--n] = '\0';
	*path = p;
	if (!n)
		return 0;
	if (*p == '/' || n >= PATH_MAX)
		return -EBADMSG;
	while (*p) {
		size_t k = strcspn(p, "/");

		if (!k || (k == 1 && p[0] == '.') || (k == 2 && p[0] == '.' && p[1] == '.'))
			return -EBADMSG;
		p += k;
		if (*p)
			p++;
	}
	return 0;
}

static int fill_member(struct tar_reader *t, struct member *m, const struct tar_header *h)
{
	uint64_t mode, uid, gid, size, mtime, maj = 0, min = 0;
	int r;

	if (number(h->mode, sizeof(h->mode), &mode) < 0 ||
	    number(h->uid, sizeof(h->uid), &uid) < 0 || number(h->gid, sizeof(h->gid), &gid) < 0 ||
	    number(h->size, sizeof(h->size), &size) < 0 ||
	    number(h->mtime, sizeof(h->mtime), &mtime) < 0 || uid > UINT32_MAX ||
	    gid > UINT32_MAX || mtime > INT64_MAX)
		return -EBADMSG;
	m->type = h->typeflag ? h->typeflag : '0';
	if (m->type == '3' || m->type == '4') {
		if (number(h->devmajor, sizeof(h->devmajor), &maj) < 0 ||
		    number(h->devminor, sizeof(h->devminor), &min) < 0 || maj > 0xfff ||
		    min > 0xfffff)
			return -EBADMSG;
		m->dev = makedev((unsigned int)maj, (unsigned int)min);
	}
	m->mode = (uint32_t)mode & 07777;
	if (m->uid == UINT32_MAX)
		m->uid = (uint32_t)uid;
	if (m->gid == UINT32_MAX)
		m->gid = (uint32_t)gid;
	if (m->size == UINT64_MAX)
		m->size = size;
	if (m->mtime.tv_nsec == UTIME_OMIT)
		m->mtime = (struct timespec){ .tv_sec = (time_t)mtime };
	if (!m->path)
		m->path = field_string(&t->arena, h->prefix, sizeof(h->prefix), h->name,
				       sizeof(h->name));
	if (!m->link)
		m->link = field_string(&t->arena, "", 0, h->linkname, sizeof(h->linkname));
	if (!m->path || !m->link)
		return -ENOMEM;
	r = normalize(&m->path);
	return r < 0 || m->type != '1' ? r : normalize(&m->link);
}

static int get_text(struct tar_reader *t, uint64_t size, char **ret)
{
	char *p;
	int r;

	if (size > PAX_MAX_BYTES)
		return -E2BIG;
	p = arena_alloc(&t->arena, (size_t)size + 1);
	if (!p)
		return -ENOMEM;
	r = get(t, p, (size_t)size);
	if (r >= 0)
		r = skip_padding(t, size);
	*ret = p;
	return r == -ENODATA ? -EBADMSG : r;
}

/* Next member with all that was said in front of it; 1, 0 at the end. */
static int next_member(struct tar_reader *t, struct member *m)
{
	*m = (struct member){ .uid = UINT32_MAX, .gid = UINT32_MAX, .size = UINT64_MAX,
			      .mtime.tv_nsec = UTIME_OMIT };
	for (;;) {
		struct tar_header h;
		uint64_t sum, size;
		char *text;
		int r = get(t, &h, sizeof(h));

		if (r == -ENODATA)
			return 0;
		if (r >= 0 && !h.name[0] && !h.magic[0])
			return drain(t);
		if (r < 0)
			return r;
		if (memcmp(h.magic, "ustar", 5) || number(h.chksum, sizeof(h.chksum), &sum) < 0 ||
		    sum != tar_checksum(&h) || number(h.size, sizeof(h.size), &size) < 0)
			return -EBADMSG;
		if (!h.typeflag || !strchr("xgLK", h.typeflag)) {
			r = fill_member(t, m, &h);
			return r < 0 ? r : 1;
		}
		r = get_text(t, size, &text);
		if (r >= 0 && h.typeflag == 'x')
			r = parse_pax(t, m, text, (size_t)size);
		else if (r >= 0 && h.typeflag == 'L')
			m->path = text;
		else if (r >= 0 && h.typeflag == 'K')
			m->link = text;
		if (r < 0)
			return r;
	}
}

static int open_below(int root, const char *path)
{
	struct open_how how = {
		.flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV,
	};
	int fd = (int)syscall(SYS_openat2, root, *path ? path : ".", &how, sizeof(how));

	return fd < 0 ? neg_errno() : fd;
}

/* The directory of the member, made if an archive of a part begins below it. */
static int open_parent(struct tar_reader *t, char *path, const char **ret_name)
{
	char *slash = strrchr(path, '/');
	int fd;

	*ret_name = slash ? slash + 1 : path;
	if (!slash)
		return open_below(t->root, "");
	*slash = '\0';
	fd = open_below(t->root, path);
	if (fd == -ENOENT) {
		const char *name;
		_cleanup_close_ int up = open_parent(t, path, &name);

		if (up < 0)
			fd = up;
		else if (mkdirat(up, name, 0755) < 0)
			fd = neg_errno();
		else
			fd = open_below(up, name);
	}
	*slash = '/';
	return fd;
}

static bool all_zero(const uint8_t *p, size_t n)
{
	return !*p && !memcmp(p, p + 1, n - 1);
}

/* Pages of zeros become holes, as they were most likely before. */
static int write_pages(int fd, const uint8_t *p, size_t n, uint64_t off)
{
	for (size_t at = 0; at < n; at += PAGE_BYTES) {
		size_t k = MIN(n - at, (size_t)PAGE_BYTES);
		int r = all_zero(p + at, k) ? 0 : pwrite_full(fd, p + at, k, (off_t)(off + at));

		if (r < 0)
			return r;
	}
	return 0;
}

static int write_file(struct tar_reader *t, const struct member *m, int dirfd, const char *name)
{
	_cleanup_close_ int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW |
					O_CLOEXEC, 0600);

	if (fd < 0)
		return neg_errno();
	for (uint64_t done = 0; done < m->size;) {
		size_t n = (size_t)MIN(m->size - done, (uint64_t)sizeof(t->buf));
		int r = get(t, t->buf, n);

		if (r == -ENODATA)
			return -EBADMSG;
		if (r >= 0)
			r = write_pages(fd, t->buf, n, done);
		if (r < 0)
			return r;
		done += n;
	}
	if (m->size > INT64_MAX || ftruncate(fd, (off_t)m->size) < 0)
		return neg_errno();
	return skip_padding(t, m->size);
}

static int make_hard_link(struct tar_reader *t, const struct member *m, int dirfd, const char *name)
{
	const char *from_name;
	_cleanup_close_ int from = open_parent(t, m->link, &from_name);

	if (from < 0)
		return from;
	return linkat(from, from_name, dirfd, name, 0) < 0 ? neg_errno() : 0;
}

static int make_dir(struct tar_reader *t, const struct member *m, int dirfd, const char *name)
{
	struct dir_time *d;

	if (*m->path && mkdirat(dirfd, name, 0700) < 0 && errno != EEXIST)
		return neg_errno();
	d = ARENA_PUSH(&t->arena, t->dirs, t->n_dirs);
	if (!d)
		return -ENOMEM;
	*d = (struct dir_time){ m->path, m->mtime };
	return 0;
}

static int make_node(struct tar_reader *t, const struct member *m, int dirfd, const char *name)
{
	static const struct {
		char type;
		mode_t mode;
	} types[] = { { '3', S_IFCHR }, { '4', S_IFBLK }, { '6', S_IFIFO } };

	if (m->type == '5')
		return make_dir(t, m, dirfd, name);
	if (!*m->path)
		return -EBADMSG;
	if (t->over && unlinkat(dirfd, name, 0) < 0 && errno != ENOENT)
		return neg_errno();
	if (m->is_socket && !m->size)
		return mknodat(dirfd, name, S_IFSOCK | 0600, 0) < 0 ? neg_errno() : 0;
	if (m->type == '0')
		return write_file(t, m, dirfd, name);
	if (m->type == '1')
		return make_hard_link(t, m, dirfd, name);
	if (m->type == '2')
		return symlinkat(m->link, dirfd, name) < 0 ? neg_errno() : 0;
	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if (types[i].type == m->type)
			return mknodat(dirfd, name, types[i].mode | 0600, m->dev) < 0 ?
			       neg_errno() : 0;
	return -EOPNOTSUPP;
}

/*
 * Owner before mode (chown clears set-id bits) and both before the attributes (capabilities).
 * lsetxattr has no directory argument before Linux 6.13: hence fchdir.
 */
static int set_attributes(struct tar_reader *t, const struct member *m, int dirfd, const char *name)
{
	const struct tar_ids *ids = t->ids;
	uid_t uid = ids && ids->uid ? ids->uid(ids->arg, m->uid) : m->uid;
	gid_t gid = ids && ids->gid ? ids->gid(ids->arg, m->gid) : m->gid;
	struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, m->mtime };

	if (fchownat(dirfd, name, uid, gid, AT_SYMLINK_NOFOLLOW) < 0)
		return neg_errno();
	if (m->type != '2' && fchmodat(dirfd, name, m->mode, 0) < 0)
		return neg_errno();
	if (m->n_xattrs && fchdir(dirfd) < 0)
		return neg_errno();
	for (size_t i = 0; i < m->n_xattrs; i++) {
		const struct xattr *x = &m->xattrs[i];

		if (lsetxattr(name, x->name, x->value, x->bytes, 0) == 0)
			continue;
		/* Labels come from the policy of the kernel that runs now. */
		if (str_starts(x->name, "security.selinux") && errno == EOPNOTSUPP)
			continue;
		return log_err(neg_errno(), "cannot set attribute %s of %s", x->name, m->path);
	}
	return utimensat(dirfd, name, times, AT_SYMLINK_NOFOLLOW) < 0 ? neg_errno() : 0;
}

static int extract_member(struct tar_reader *t, struct member *m)
{
	_cleanup_close_ int dirfd = -EBADF;
	const char *name = ".";
	int r;

	dirfd = *m->path ? open_parent(t, m->path, &name) : open_below(t->root, "");
	if (dirfd < 0)
		return dirfd;
	r = make_node(t, m, dirfd, name);
	if (r < 0 || m->type == '1')
		return r;
	return set_attributes(t, m, dirfd, name);
}

/* Last, and backwards: every new name in a directory changed its time. */
static void set_dir_times(struct tar_reader *t)
{
	for (size_t i = t->n_dirs; i-- > 0;) {
		struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, t->dirs[i].mtime };
		_cleanup_close_ int fd = open_below(t->root, t->dirs[i].path);

		if (fd >= 0 && futimens(fd, times) < 0)
			log_debug("cannot set the time of %s: %s", t->dirs[i].path,
				  strerror(errno));
	}
}

static int extract_all(struct tar_reader *t)
{
	struct member m;
	int r;

	while ((r = next_member(t, &m)) > 0) {
		r = extract_member(t, &m);
		if (r < 0)
			return log_err(r, "cannot unpack %s (type %c, %" PRIu64 " bytes)",
				       *m.path ? m.path : ".", m.type, m.size);
	}
	if (r < 0)
		return log_err(r, "archive damaged near compressed byte %lu",
			       (unsigned long)t->z.total_in);
	set_dir_times(t);
	return 0;
}

static int extract(const void *data, size_t bytes, int dirfd, const struct tar_ids *ids,
		   bool over)
{
	_cleanup_free_ struct tar_reader *t = calloc(1, sizeof(*t));
	_cleanup_close_ int cwd = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	int r;

	if (!t)
		return log_err(-ENOMEM, "cannot unpack an archive");
	t->root = dirfd;
	t->ids = ids;
	t->over = over;
	t->z.next_in = (Bytef *)data;
	t->left = bytes;
	if (inflateInit2(&t->z, 31) != Z_OK)
		return log_err(-ENOMEM, "cannot unpack an archive");
	arena_init(&t->arena);
	r = extract_all(t);
	arena_done(&t->arena);
	inflateEnd(&t->z);
	if (cwd >= 0 && fchdir(cwd) < 0)
		log_warn("cannot go back to the working directory: %s", strerror(errno));
	return r;
}

int tar_extract(const void *data, size_t bytes, int dirfd, const struct tar_ids *ids)
{
	return extract(data, bytes, dirfd, ids, false);
}

int tar_extract_over(const void *data, size_t bytes, int dirfd, const struct tar_ids *ids)
{
	return extract(data, bytes, dirfd, ids, true);
}
