/*
 * What an initrd holds: archives one behind the other, each plain or compressed, as the
 * kernel unpacks them (Documentation/driver-api/early-userspace/buffer-format.rst). Only file
 * names are looked at: they tell the kernel version that it was made for.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "crkexec/cpio_names.h"
#include "crkexec/kernel.h"
#include "crkexec/manifest.h"
#include "initramfs/build_unpack.h"
#include "util/io.h"

/* More than any initrd; a bomb ends here. */
#define OUT_MAX_BYTES	(4ull << 30)

struct scan {
	struct cpio_names names;
	struct initrd_info *info;
	uint64_t total;
	int error;
};

static void scan_name(void *arg, const char *name)
{
	struct scan *s = arg;
	const char *p = strstr(name, "lib/modules/");
	char version[128];
	size_t n;

	if (!strncmp(name, "./", 2))
		name += 2;
	if (!strcmp(name, &CRKEXEC_LIB_DIR[1]) || str_starts(name, "usr/lib/crkexec/crkexec-early"))
		s->info->has_early = true;
	if (!p || (p != name && strncmp(name, "usr/lib/modules/", 16)))
		return;
	p += strlen("lib/modules/");
	n = strcspn(p, "/");
	if (!n || n >= sizeof(version))
		return;
	memcpy(version, p, n);
	version[n] = '\0';
	if (s->info->versions.n < 64 && strv_add_once(&s->info->versions, version) < 0)
		s->error = -ENOMEM;
}

/* Decompressed bytes: may hold several archives. */
static int scan_out(void *arg, const uint8_t *data, size_t n)
{
	struct scan *s = arg;

	s->total += n;
	if (s->total > OUT_MAX_BYTES)
		return -EFBIG;
	while (n) {
		ssize_t used = cpio_names_feed(&s->names, data, n);

		if (used < 0)
			return (int)used;
		data += used;
		n -= (size_t)used;
		if (s->names.state == CPIO_END) {
			s->names.state = CPIO_HEADER;
			s->names.pos = 0;
			if (used == 0)
				break;
		}
	}
	return s->error;
}

static ssize_t scan_plain(struct scan *s, const uint8_t *data, size_t n)
{
	ssize_t used = cpio_names_feed(&s->names, data, n);

	if (used >= 0 && s->names.state != CPIO_END)
		return -EBADMSG;
	return used;
}

static ssize_t scan_segment(struct scan *s, const uint8_t *data, size_t n)
{
	s->names.state = CPIO_HEADER;
	s->names.have = 0;
	s->names.pos = 0;
	if (n > 4 && !memcmp(data, "0707", 4))
		return scan_plain(s, data, n);
	return unpack(data, n, scan_out, s);
}

static int scan_all(struct scan *s, const uint8_t *data, size_t n)
{
	while (n) {
		ssize_t used;

		if (!*data) {
			data++;
			n--;
			continue;
		}
		used = scan_segment(s, data, n);
		if (used <= 0)
			return used < 0 ? (int)used : -EBADMSG;
		data += used;
		n -= (size_t)used;
	}
	return s->error;
}

int initrd_scan(const char *path, struct initrd_info *ret)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct scan s = { .info = ret };
	struct stat st;
	void *map;
	int r;

	memset(ret, 0, sizeof(*ret));
	if (fd < 0 || fstat(fd, &st) < 0)
		return neg_errno();
	if (!S_ISREG(st.st_mode) || st.st_size < 4)
		return -EBADMSG;
	map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (map == MAP_FAILED)
		return neg_errno();
	s.names.fn = scan_name;
	s.names.arg = &s;
	r = scan_all(&s, map, (size_t)st.st_size);
	munmap(map, (size_t)st.st_size);
	/* What was read before the damage still tells; the caller decides. */
	ret->unreadable = r < 0;
	return r == -ENOMEM ? r : 0;
}

void initrd_info_done(struct initrd_info *i)
{
	strv_done(&i->versions);
}
