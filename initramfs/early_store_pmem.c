/*
 * The trap: once nd_pmem is bound to the memory, /dev/mem is refused and its mappings vanish
 * (CONFIG_IO_STRICT_DEVMEM). The command line keeps modules off (PMEM_KEEP_OFF); a driver that
 * is built in has bound long ago and has written nothing, so it is unbound again. Memory that
 * was added to the system already (kmem) is lost: anything may have been written.
 */
#include "initramfs/early_store_pmem.h"

#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>

#include "util/io.h"
#include "util/log.h"

#define ND_UNBIND	"/sys/bus/nd/drivers/nd_pmem/unbind"

int early_pmem_check_range(const struct iomem *m, const struct manifest_range *range,
			   const struct iomem_entry **ret_claim)
{
	uint64_t from = range->addr, to = range->addr + range->bytes - 1;

	*ret_claim = NULL;
	if (iomem_overlap(m, range, IOMEM_KMEM))
		return log_fail(-EBADMSG, "the kept memory at %#" PRIx64 "-%#" PRIx64 " was given to the "
				"system before the images were read", from, to);
	if (iomem_overlap(m, range, IOMEM_RAM))
		return log_fail(-EBADMSG, "this kernel uses the kept memory at %#" PRIx64 "-%#" PRIx64
				" as its own (memmap= is missing on its command line)", from, to);
	*ret_claim = iomem_claim(m, range);
	return *ret_claim ? -EBUSY : 0;
}

/* Unbinds "namespace0.0" and the like; what is bound to them goes with them. */
static int unbind(const struct iomem_entry *claim)
{
	int r;

	if (!str_starts(claim->name, "namespace"))
		return log_fail(-EBUSY, "the kept memory at %#" PRIx64 " belongs to %s", claim->addr,
				claim->name);
	r = write_file_at(AT_FDCWD, ND_UNBIND, claim->name);
	if (r < 0)
		return log_err(r, "cannot take the kept memory at %#" PRIx64 " from nd_pmem (%s)",
			       claim->addr, claim->name);
	log_info("took the kept memory at %#" PRIx64 " from nd_pmem (%s)", claim->addr, claim->name);
	return 0;
}

static int check_once(const struct manifest_range *range)
{
	const struct iomem_entry *claim;
	struct iomem m = { 0 };
	int r = iomem_read(&m);

	if (r < 0)
		return r;
	r = early_pmem_check_range(&m, range, &claim);
	if (r == -EBUSY)
		r = unbind(claim) < 0 ? -EBADMSG : -EBUSY;
	iomem_done(&m);
	return r;
}

/* Memory of one range may be several devices. */
static int free_range(uint64_t addr, uint64_t bytes)
{
	const struct manifest_range range = { addr, bytes };
	int r = -EBUSY;

	for (int i = 0; i < 16 && r == -EBUSY; i++)
		r = check_once(&range);
	return r == -EBUSY ? log_fail(r, "the kept memory at %#" PRIx64 " stays in use", addr) : r;
}

static int map_mem(int fd, uint64_t addr, uint64_t bytes, void *at)
{
	if (mmap(at, bytes, PROT_READ, MAP_SHARED | (at ? MAP_FIXED : 0), fd, (off_t)addr) !=
	    MAP_FAILED)
		return 0;
	return log_err(neg_errno(), "cannot map the kept memory at %#" PRIx64, addr);
}

static int read_head(struct early_pmem *p, const struct pmem_spec *spec, const char *id)
{
	void *head;
	int r;

	p->header.n_ranges = 1;
	p->header.ranges[0].addr = spec->addr;
	p->header.ranges[0].bytes = spec->bytes;
	p->header.total_bytes = spec->bytes;
	r = early_pmem_map(p, 0, PMEM_HEAD_BYTES, (const void **)&head);
	if (r < 0)
		return r;
	r = pmem_header_check(head, id, spec->salt, spec->addr, spec->bytes);
	if (r == 0) {
		memcpy(&p->header, head, sizeof(p->header));
		p->manifest = malloc(p->header.manifest_bytes + 1);
		if (!p->manifest)
			r = -ENOMEM;
	}
	if (r == 0) {
		memcpy(p->manifest, (const char *)head + PMEM_MANIFEST_OFF,
		       p->header.manifest_bytes);
		p->manifest[p->header.manifest_bytes] = '\0';
	}
	early_pmem_unmap(head, PMEM_HEAD_BYTES);
	return r;
}

int early_pmem_open(const char *text, const char *id, struct early_pmem **ret)
{
	struct early_pmem *p;
	struct pmem_spec spec;
	int r = pmem_spec_parse(text, &spec);

	if (r < 0)
		return log_fail(r, "the command line's store=%s cannot be understood", text);
	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	r = free_range(spec.addr, spec.bytes);
	p->mem_fd = r < 0 ? -EBADF : open("/dev/mem", O_RDONLY | O_CLOEXEC);
	if (r == 0 && p->mem_fd < 0)
		r = log_err(neg_errno(), "cannot open /dev/mem");
	if (r == 0)
		r = read_head(p, &spec, id);
	for (size_t i = 1; r == 0 && i < p->header.n_ranges; i++)
		r = free_range(p->header.ranges[i].addr, p->header.ranges[i].bytes);
	if (r < 0) {
		early_pmem_close(p);
		return r;
	}
	*ret = p;
	return 0;
}

/* The parts of the ranges that lie in off..off+bytes, behind one another. */
static int map_parts(const struct early_pmem *p, uint64_t off, uint64_t bytes, uint8_t *at)
{
	int r = 0;

	for (size_t i = 0; i < p->header.n_ranges && bytes && r == 0; i++) {
		uint64_t have = p->header.ranges[i].bytes, part;

		if (off >= have) {
			off -= have;
			continue;
		}
		part = MIN(have - off, bytes);
		r = map_mem(p->mem_fd, p->header.ranges[i].addr + off, part, at);
		at += part;
		bytes -= part;
		off = 0;
	}
	return r;
}

int early_pmem_map(const struct early_pmem *p, uint64_t off, uint64_t bytes, const void **ret)
{
	uint64_t room = ROUND_UP(bytes, (uint64_t)PAGE_BYTES);
	void *at;
	int r;

	if (!bytes || off % PAGE_BYTES || off > p->header.total_bytes ||
	    bytes > p->header.total_bytes - off)
		return log_fail(-EBADMSG, "images at offset %" PRIu64 " (%" PRIu64 " bytes) are not in "
				"the kept memory", off, bytes);
	at = mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (at == MAP_FAILED)
		return log_err(neg_errno(), "no address space for the images");
	r = map_parts(p, off, room, at);
	if (r < 0) {
		munmap(at, room);
		return r;
	}
	*ret = at;
	return 0;
}

void early_pmem_unmap(const void *map, uint64_t bytes)
{
	munmap((void *)(uintptr_t)map, ROUND_UP(bytes, (uint64_t)PAGE_BYTES));
}

int early_pmem_consume(struct early_pmem *p)
{
	_cleanup_close_ int fd = open("/dev/mem", O_RDWR | O_CLOEXEC);
	void *head;

	if (fd < 0)
		return log_err(neg_errno(), "cannot open /dev/mem");
	head = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
		    (off_t)p->header.ranges[0].addr);
	if (head == MAP_FAILED)
		return log_err(neg_errno(), "cannot write to the kept memory");
	memset(head, 0, sizeof(struct pmem_header));
	munmap(head, PAGE_BYTES);
	return 0;
}

void early_pmem_close(struct early_pmem *p)
{
	if (!p)
		return;
	close_fdp(&p->mem_fd);
	free(p->manifest);
	free(p);
}
