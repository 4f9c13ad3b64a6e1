/*
 * newc: "070701", thirteen numbers of eight hexadecimal digits, the name with its NUL, the
 * contents; name and contents are padded to four bytes with zeros.
 *
 * The trap: the kernel counts the padding from the start of the whole initrd, and a name that
 * has two links is looked up in a table; every entry gets one link and a number of its own.
 */
#include "initramfs/build_cpio.h"

#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "util/io.h"
#include "util/log.h"

#define COPY_BYTES	(1u << 20)
#define HEADER_BYTES	110u

static int put(struct cpio *c, const void *p, size_t bytes)
{
	int r = write_full(c->fd, p, bytes);

	if (r < 0)
		return log_err(r, "cannot write the initramfs");
	c->written += bytes;
	return 0;
}

static int put_padding(struct cpio *c)
{
	static const char zeros[4];
	size_t over = c->written % 4;

	return over ? put(c, zeros, 4 - over) : 0;
}

static int put_header(struct cpio *c, const char *name, mode_t mode, uint64_t bytes)
{
	char head[HEADER_BYTES + 1];
	size_t name_bytes = strlen(name) + 1;
	int r;

	if (bytes > UINT32_MAX)
		return log_fail(-EFBIG, "%s has %llu bytes: an initramfs cannot hold files of 4 GiB"
				" and more; use the pmem store", name, (unsigned long long)bytes);
	if (name_bytes > PATH_MAX)
		return log_fail(-ENAMETOOLONG, "the name %.40s... is too long for an initramfs",
				name);
	snprintf(head, sizeof(head), "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
		 ++c->last_ino, (unsigned int)mode, 0, 0, 1, 0, (unsigned int)bytes, 0, 0, 0, 0,
		 (unsigned int)name_bytes, 0);
	r = put(c, head, HEADER_BYTES);
	if (r == 0)
		r = put(c, name, name_bytes);
	if (r == 0)
		r = put_padding(c);
	return r;
}

int cpio_begin(struct cpio *c, int fd, uint64_t already_written)
{
	*c = (struct cpio){ .fd = fd, .written = already_written };
	return put_padding(c);
}

int cpio_add_dir(struct cpio *c, const char *name, mode_t mode)
{
	return put_header(c, name, S_IFDIR | (mode & 07777), 0);
}

static int add_bytes(struct cpio *c, const char *name, mode_t mode, const void *p, size_t bytes)
{
	int r = put_header(c, name, mode, bytes);

	if (r == 0)
		r = put(c, p, bytes);
	if (r == 0)
		r = put_padding(c);
	return r;
}

int cpio_add_symlink(struct cpio *c, const char *name, const char *target)
{
	return add_bytes(c, name, S_IFLNK | 0777, target, strlen(target));
}

int cpio_add_data(struct cpio *c, const char *name, mode_t mode, const void *p, size_t bytes)
{
	return add_bytes(c, name, S_IFREG | (mode & 07777), p, bytes);
}

int cpio_add_fd(struct cpio *c, const char *name, mode_t mode, int fd)
{
	_cleanup_free_ char *buf = malloc(COPY_BYTES);
	struct stat st;
	uint64_t done = 0;
	int r;

	if (!buf)
		return -ENOMEM;
	if (fstat(fd, &st) < 0)
		return log_err(neg_errno(), "cannot stat %s", name);
	r = put_header(c, name, S_IFREG | (mode & 07777), st.st_size);
	while (r == 0 && done < (uint64_t)st.st_size) {
		size_t n = MIN((uint64_t)st.st_size - done, (uint64_t)COPY_BYTES);

		/* A file that shrinks must not shift what follows it. */
		r = pread_full(fd, buf, n, done);
		if (r < 0)
			return log_err(r, "cannot read %s for the initramfs", name);
		r = put(c, buf, n);
		done += n;
	}
	if (r == 0)
		r = put_padding(c);
	return r;
}

int cpio_end(struct cpio *c)
{
	return put_header(c, "TRAILER!!!", 0, 0);
}

int copy_fd(int from, int to, uint64_t *ret_bytes)
{
	_cleanup_free_ char *buf = malloc(COPY_BYTES);
	uint64_t done = 0;
	ssize_t n;
	int r;

	if (!buf)
		return -ENOMEM;
	while ((n = pread(from, buf, COPY_BYTES, done)) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return neg_errno();
		r = write_full(to, buf, n);
		if (r < 0)
			return r;
		done += n;
	}
	*ret_bytes = done;
	return 0;
}
