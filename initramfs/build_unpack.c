/* See build_unpack.h. The trap: a size nobody checks is a bomb; the caller's fn counts. */
#include "initramfs/build_unpack.h"

#include <errno.h>
#include <lzma.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#define OUT_BYTES	(256u << 10)

struct unpack {
	unpack_fn fn;
	void *arg;
	uint8_t *out;
};

/* Each returns the compressed bytes consumed, or a negative errno. */
static ssize_t unpack_zstd(struct unpack *u, const uint8_t *data, size_t n)
{
	ZSTD_DStream *z = ZSTD_createDStream();
	ZSTD_inBuffer in = { data, n, 0 };
	size_t left = 1;
	int r = 0;

	if (!z)
		return -ENOMEM;
	ZSTD_DCtx_setParameter(z, ZSTD_d_windowLogMax, 31);
	while (r == 0 && left && in.pos < in.size) {
		ZSTD_outBuffer out = { u->out, OUT_BYTES, 0 };

		left = ZSTD_decompressStream(z, &out, &in);
		r = ZSTD_isError(left) ? -EBADMSG : u->fn(u->arg, u->out, out.pos);
	}
	ZSTD_freeDStream(z);
	if (r == 0 && left)
		r = -EBADMSG;
	return r < 0 ? r : (ssize_t)in.pos;
}

static ssize_t unpack_gzip(struct unpack *u, const uint8_t *data, size_t n)
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
		z.next_out = u->out;
		z.avail_out = OUT_BYTES;
		zr = inflate(&z, Z_NO_FLUSH);
		if (zr == Z_OK || zr == Z_STREAM_END)
			r = u->fn(u->arg, u->out, OUT_BYTES - z.avail_out);
	}
	fed -= z.avail_in;
	inflateEnd(&z);
	if (r == 0 && zr != Z_STREAM_END)
		r = -EBADMSG;
	return r < 0 ? r : (ssize_t)fed;
}

static ssize_t unpack_xz(struct unpack *u, const uint8_t *data, size_t n)
{
	lzma_stream z = LZMA_STREAM_INIT;
	lzma_ret zr = lzma_stream_decoder(&z, 1ull << 30, 0);
	int r = 0;

	if (zr != LZMA_OK)
		return -ENOMEM;
	z.next_in = data;
	z.avail_in = n;
	while (r == 0 && zr == LZMA_OK) {
		z.next_out = u->out;
		z.avail_out = OUT_BYTES;
		zr = lzma_code(&z, z.avail_in ? LZMA_RUN : LZMA_FINISH);
		if (zr == LZMA_OK || zr == LZMA_STREAM_END)
			r = u->fn(u->arg, u->out, OUT_BYTES - z.avail_out);
	}
	n -= z.avail_in;
	lzma_end(&z);
	if (r == 0 && zr != LZMA_STREAM_END)
		r = -EBADMSG;
	return r < 0 ? r : (ssize_t)n;
}

ssize_t unpack(const uint8_t *data, size_t n, unpack_fn fn, void *arg)
{
	static const struct {
		const char *magic;
		size_t bytes;
		ssize_t (*fn)(struct unpack *u, const uint8_t *data, size_t n);
	} formats[] = {
		{ "\x1f\x8b", 2, unpack_gzip },
		{ "\x28\xb5\x2f\xfd", 4, unpack_zstd },
		{ "\xfd" "7zXZ\0", 6, unpack_xz },
	};
	_cleanup_free_ uint8_t *out = malloc(OUT_BYTES);
	struct unpack u = { fn, arg, out };

	if (!out)
		return -ENOMEM;
	for (size_t i = 0; i < ARRAY_SIZE(formats); i++)
		if (n > formats[i].bytes && !memcmp(data, formats[i].magic, formats[i].bytes))
			return formats[i].fn(&u, data, n);
	return -EOPNOTSUPP;
}
