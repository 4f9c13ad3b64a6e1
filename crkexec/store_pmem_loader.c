/*
 * Where kexec_file_load(2) puts what it loads. It asks nobody who uses memory now: at the jump
 * it writes to the top of System RAM, whatever is there. So the store is put elsewhere, and
 * what the loader then says it does (KEXEC_FILE_DEBUG) is compared.
 */
#include <ctype.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "crkexec/store_pmem.h"
#include "util/io.h"
#include "util/log.h"

/* Documentation/arch/x86/boot.rst: what a kernel needs from its load address on. */
#define INIT_SIZE_OFFSET	0x260
#define INIT_SIZE_MIN		(16u << 20)
#define INIT_SIZE_MAX		(1u << 30)
#define INIT_SIZE_GUESS		(128u << 20)
/* Purgatory, boot parameters, alignment of the kernel to 2 or 16 MiB. */
#define LOADER_SLACK_BYTES	(32u << 20)

uint64_t pmem_loader_bytes(const char *image, uint64_t initramfs_bytes)
{
	_cleanup_close_ int fd = open(image, O_RDONLY | O_CLOEXEC);
	uint32_t init_size = 0;

	if (fd < 0 || pread_full(fd, &init_size, sizeof(init_size), INIT_SIZE_OFFSET) < 0 ||
	    init_size < INIT_SIZE_MIN || init_size > INIT_SIZE_MAX)
		init_size = INIT_SIZE_GUESS;
	return (uint64_t)init_size + initramfs_bytes + LOADER_SLACK_BYTES;
}

int pmem_avoid_loader(const struct iomem *m, uint64_t bytes, struct manifest_range **ret,
		      size_t *ret_n)
{
	struct manifest_range *v = calloc(m->n + 1, sizeof(*v));
	size_t n = 0;

	if (!v)
		return -ENOMEM;
	for (size_t i = 0; i < m->n; i++) {
		const struct iomem_entry *e = &m->v[i];
		uint64_t take = MIN(bytes, e->bytes);

		if (!e->depth && !strcmp(e->name, IOMEM_RAM))
			v[n++] = (struct manifest_range){ e->addr + e->bytes - take, take };
	}
	*ret = v;
	*ret_n = n;
	return 0;
}

int pmem_kmsg_open(void)
{
	int fd = open("/dev/kmsg", O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd >= 0)
		lseek(fd, 0, SEEK_END);
	return fd;
}

static int take_hex_after(const char *line, const char *key, uint64_t *ret)
{
	const char *s = strstr(line, key);

	return s && sscanf(s + strlen(key), "%" SCNx64, ret) == 1 ? 0 : -EBADMSG;
}

int pmem_parse_segment(const char *line, struct manifest_range *ret)
{
	const char *s = strstr(line, "segment[");

	if (!s || !isdigit((unsigned char)s[strlen("segment[")]))
		return 0;
	if (take_hex_after(s, " mem=0x", &ret->addr) < 0 ||
	    take_hex_after(s, " memsz=0x", &ret->bytes) < 0 || !ret->bytes ||
	    ret->bytes > UINT64_MAX - ret->addr)
		return -EBADMSG;
	return 1;
}

int pmem_kmsg_segments(int kmsg, struct manifest_range **ret, size_t *ret_n)
{
	struct manifest_range *v = NULL;
	size_t n = 0;
	int r = 0;

	for (;;) {
		/* One read, one record; longer ones than the kernel writes do not exist. */
		char line[8193];
		ssize_t got = read(kmsg, line, sizeof(line) - 1);
		struct manifest_range *grown;

		if (got < 0 && errno == EPIPE)
			continue;	/* overwritten before we came */
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			break;
		line[got] = '\0';
		grown = reallocarray(v, n + 1, sizeof(*v));
		if (!grown) {
			r = -ENOMEM;
			break;
		}
		v = grown;
		r = pmem_parse_segment(line, &v[n]);
		if (r < 0)
			break;
		n += (size_t)r;
	}
	if (r < 0) {
		free(v);
		return log_err(r, "cannot understand what kexec says in the kernel's log");
	}
	*ret = v;
	*ret_n = n;
	return 0;
}

int pmem_check_segments(const struct manifest_range *ranges, size_t n,
			const struct manifest_range *segments, size_t n_segments)
{
	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < n_segments; k++) {
			const struct manifest_range *a = &ranges[i], *b = &segments[k];

			if (a->addr < b->addr + b->bytes && b->addr < a->addr + a->bytes)
				return log_fail(-EADDRINUSE, "the store at %#" PRIx64 "-%#" PRIx64
						" and what kexec loads to %#" PRIx64 "-%#" PRIx64
						" overlap", a->addr, a->addr + a->bytes - 1, b->addr,
						b->addr + b->bytes - 1);
		}
	return 0;
}
