/*
 * What an initrd holds: archives one behind the other, each plain or compressed, as the
 * kernel unpacks them (Documentation/driver-api/early-userspace/buffer-format.rst). Only file
 * names are looked at: they tell the kernel version that it was made for.
 */
#include <fcntl.h>
#include <lzma.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <zlib.h>
#include <zstd.h>

#include "crkexec/cpio_names.h"
#include "crkexec/kernel.h"
#include "crkexec/manifest.h"
#include "util/io.h"

#define OUT_BYTES	(256u << 10)
/* More than any initrd; a bomb ends here. */
#define OUT_MAX_BYTES	(4ull << 30)

struct scan {
	struct cpio_names names;
	struct initrd_info *info;
	uint8_t *out;
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
static int scan_out(struct scan *s, const uint8_t *data, size_t n)
{
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

/* Each returns the compressed bytes consumed, or a negative errno. */
static ssize_t scan_zstd(struct scan *s, const uint8_t *data, size_t n)
{
	ZSTD_DStream *z = ZSTD_createDStream();
	ZSTD_inBuffer in = { data, n, 0 };
	size_t left = 1;
	int r = 0;

	if (!z)
		return -ENOMEM;
	ZSTD_DCtx_setParameter(z, ZSTD_d_windowLogMax, 31);
	while (r == 0 && left && in.pos < in.size) {
		ZSTD_outBuffer out = { s->out, OUT_BYTES, 0 };

		left = ZSTD_decompressStream(z, &out, &in);
		r = ZSTD_isError(left) ? -EBADMSG : scan_out(s, s->out, out.pos);
	}
	ZSTD_freeDStream(z);
	if (r == 0 && left)
		r = -EBADMSG;
	return r < 0 ? r : (ssize_t)in.pos;
}

static ssize_t scan_gzip(struct scan *s, const uint8_t *data, size_t n)
{
	z_stream z = { 0 };
	size_t fed = 0;
	int r = 0, zr = Z_OK;

	if (inflateInit2(&z, 15 + 16) != Z_OK)
		return -ENOMEM;
	while (r == 0 && zr == Z_OK) {
		if (!z.avail_in) {
			z.next_in = (Bytef *)(uintptr_t)(data + fed);
			z.avail_in = (uInt)MIN(n - fed, (size_t)1 << 30);
			fed += z.avail_in;
			if (!z.avail_in)
				break;
		}
		z.next_out = s->out;
		z.avail_out = OUT_BYTES;
		zr = inflate(&z, Z_NO_FLUSH);
		if (zr == Z_OK || zr == Z_STREAM_END)
			r = scan_out(s, s->out, OUT_BYTES - z.avail_out);
	}
	fed -= z.avail_in;
	inflateEnd(&z);
	if (r == 0 && zr != Z_STREAM_END)
		r = -EBADMSG;
	return r < 0 ? r : (ssize_t)fed;
}

static ssize_t scan_xz(struct scan *s, const uint8_t *data, size_t n)
{
	lzma_stream z = LZMA_STREAM_INIT;
	lzma_ret zr = lzma_stream_decoder(&z, 1ull << 30, 0);
	int r = 0;

	if (zr != LZMA_OK)
		return -ENOMEM;
	z.next_in = data;
	z.avail_in = n;
	while (r == 0 && zr == LZMA_OK) {
		z.next_out = s->out;
		z.avail_out = OUT_BYTES;
		zr = lzma_code(&z, z.avail_in ? LZMA_RUN : LZMA_FINISH);
		if (zr == LZMA_OK || zr == LZMA_STREAM_END)
			r = scan_out(s, s->out, OUT_BYTES - z.avail_out);
	}
	n -= z.avail_in;
	lzma_end(&z);
	if (r == 0 && zr != LZMA_STREAM_END)
		r = -EBADMSG;
	return r < 0 ? r : (ssize_t)n;
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
	static const struct {
		const char *magic;
		size_t bytes;
		ssize_t (*fn)(struct scan *s, const uint8_t *data, size_t n);
	} formats[] = {
		{ "0707", 4, scan_plain },
		{ "\x1f\x8b", 2, scan_gzip },
		{ "\x28\xb5\x2f\xfd", 4, scan_zstd },
		{ "\xfd" "7zXZ\0", 6, scan_xz },
	};

	s->names.state = CPIO_HEADER;
	s->names.have = 0;
	s->names.pos = 0;
	for (size_t i = 0; i < ARRAY_SIZE(formats); i++)
		if (n > formats[i].bytes && !memcmp(data, formats[i].magic, formats[i].bytes))
			return formats[i].fn(s, data, n);
	return -EOPNOTSUPP;
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
	s.out = malloc(OUT_BYTES);
	r = s.out ? scan_all(&s, map, (size_t)st.st_size) : -ENOMEM;
	free(s.out);
	munmap(map, (size_t)st.st_size);
	/* What was read before the damage still tells; the caller decides. */
	ret->unreadable = r < 0;
	return r == -ENOMEM ? r : 0;
}

void initrd_info_done(struct initrd_info *i)
{
	strv_done(&i->versions);
}
