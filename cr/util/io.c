#define _GNU_SOURCE
#include <ctype.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>

#include "util/io.h"

int read_full(int fd, void *buf, size_t n)
{
	char *p = buf;

	while (n) {
		ssize_t k = read(fd, p, n);

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return neg_errno();
		if (!k)
			return -ENODATA;
		p += k;
		n -= (size_t)k;
	}
	return 0;
}

int pread_full(int fd, void *buf, size_t n, off_t off)
{
	char *p = buf;

	while (n) {
		ssize_t k = pread(fd, p, n, off);

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return neg_errno();
		if (!k)
			return -ENODATA;
		p += k;
		off += k;
		n -= (size_t)k;
	}
	return 0;
}

int write_full(int fd, const void *buf, size_t n)
{
	const char *p = buf;

	while (n) {
		ssize_t k = write(fd, p, n);

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return neg_errno();
		if (!k)
			return -EIO;
		p += k;
		n -= (size_t)k;
	}
	return 0;
}

int pwrite_full(int fd, const void *buf, size_t n, off_t off)
{
	const char *p = buf;

	while (n) {
		ssize_t k = pwrite(fd, p, n, off);

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return neg_errno();
		/* Memory of a process that has ended takes nothing, and says so in no other way. */
		if (!k)
			return -EIO;
		p += k;
		off += k;
		n -= (size_t)k;
	}
	return 0;
}

/* at_once: what one read(2) asks for at most. */
static int read_text(int dirfd, const char *path, size_t max, size_t at_once, char **ret, size_t *ret_len)
{
	_cleanup_close_ int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC);
	_cleanup_free_ char *buf = NULL;
	size_t cap = 4096, len = 0;

	if (fd < 0)
		return neg_errno();
	buf = malloc(cap);
	if (!buf)
		return -ENOMEM;
	for (;;) {
		ssize_t k;

		if (cap - len < 2) {
			char *more = realloc(buf, cap * 2);

			if (!more)
				return -ENOMEM;
			buf = more;
			cap *= 2;
		}
		k = read(fd, buf + len, MIN(cap - len - 1, at_once));
		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return neg_errno();
		if (!k)
			break;
		len += (size_t)k;
		if (len > max)
			return -EFBIG;
	}
	buf[len] = '\0';
	if (ret_len)
		*ret_len = len;
	*ret = take_ptr(buf);
	return 0;
}

int read_file_at(int dirfd, const char *path, size_t max, char **ret, size_t *ret_len)
{
	return read_text(dirfd, path, max, SIZE_MAX, ret, ret_len);
}

int read_smaps_at(int proc_fd, char **ret)
{
	/* A page has room for that and one area more. */
	return read_text(proc_fd, "smaps", READ_FILE_MAX * 4, 2048, ret, NULL);
}

int write_file_at(int dirfd, const char *path, const char *text)
{
	_cleanup_close_ int fd = openat(dirfd, path, O_WRONLY | O_CLOEXEC);
	size_t n = strlen(text);
	ssize_t k;

	if (fd < 0)
		return neg_errno();
	do
		k = write(fd, text, n);
	while (k < 0 && errno == EINTR);
	if (k < 0)
		return neg_errno();
	return (size_t)k == n ? 0 : -EIO;
}

int write_filef(const char *text, const char *path_fmt, ...)
{
	char path[PATH_MAX];
	va_list ap;
	int n;

	va_start(ap, path_fmt);
	n = vsnprintf(path, sizeof(path), path_fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= sizeof(path))
		return -ENAMETOOLONG;
	return write_file_at(AT_FDCWD, path, text);
}

int file_next_data(int fd, uint64_t size, uint64_t *off, uint64_t *ret_end)
{
	off_t data, hole;

	if (*off >= size)
		return 0;
	data = lseek(fd, (off_t)*off, SEEK_DATA);
	if (data < 0)
		return errno == ENXIO ? 0 : neg_errno();
	if ((uint64_t)data >= size)
		return 0;
	hole = lseek(fd, data, SEEK_HOLE);
	if (hole < 0)
		return neg_errno();
	*off = (uint64_t)data;
	*ret_end = MIN((uint64_t)hole, size);
	return 1;
}

int readlink_at(int dirfd, const char *path, char **ret)
{
	char buf[PATH_MAX + 16];
	ssize_t n = readlinkat(dirfd, path, buf, sizeof(buf) - 1);

	if (n < 0)
		return neg_errno();
	buf[n] = '\0';
	*ret = strdup(buf);
	return *ret ? 0 : -ENOMEM;
}

int parse_u64(const char *s, int base, uint64_t *ret)
{
	unsigned long long v;
	char *end;

	/* strtoull would take "-1" and leading blanks. */
	if (!isxdigit((unsigned char)*s))
		return -EINVAL;
	errno = 0;
	v = strtoull(s, &end, base);
	if (errno)
		return neg_errno();
	if (*end)
		return -EINVAL;
	*ret = v;
	return 0;
}

int parse_u32(const char *s, int base, uint32_t *ret)
{
	uint64_t v;
	int r = parse_u64(s, base, &v);

	if (r < 0)
		return r;
	if (v > UINT32_MAX)
		return -ERANGE;
	*ret = (uint32_t)v;
	return 0;
}

int parse_int(const char *s, int *ret)
{
	uint64_t v;
	int neg = *s == '-';
	int r = parse_u64(s + neg, 10, &v);

	if (r < 0)
		return r;
	if (v > INT_MAX)
		return -ERANGE;
	*ret = neg ? -(int)v : (int)v;
	return 0;
}

char *str_fmt(const char *fmt, ...)
{
	va_list ap;
	char *s;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&s, fmt, ap);
	va_end(ap);
	return n < 0 ? NULL : s;
}

bool str_starts(const char *s, const char *prefix)
{
	return !strncmp(s, prefix, strlen(prefix));
}

DIR *dir_open_at(int dirfd, const char *path)
{
	_cleanup_close_ int fd = openat(dirfd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);

	if (d)
		take_fd(&fd);
	return d;
}

int name_by_inode(int dir_fd, const struct stat *st, char **ret)
{
	_cleanup_closedir_ DIR *d = dir_open_at(dir_fd, ".");
	const struct dirent *e;
	struct stat s;

	if (!d)
		return neg_errno();
	while ((e = readdir(d)))
		if (e->d_ino == st->st_ino &&
		    !fstatat(dir_fd, e->d_name, &s, AT_SYMLINK_NOFOLLOW) &&
		    s.st_ino == st->st_ino && s.st_dev == st->st_dev) {
			*ret = strdup(e->d_name);
			return *ret ? 0 : -ENOMEM;
		}
	return -ENOENT;
}
