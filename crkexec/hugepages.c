#include <fcntl.h>
#include <inttypes.h>
#include <linux/falloc.h>
#include <string.h>
#include <sys/mman.h>

#include "crkexec/hugepages.h"
#include "util/io.h"
#include "util/log.h"

#define POOL		"/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"
#ifndef MFD_HUGE_2MB
#define MFD_HUGE_2MB	(21u << 26)
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ	22
#define MADV_POPULATE_WRITE	23
#endif
/* Documentation/admin-guide/mm/pagemap.rst */
#define PAGEMAP_PRESENT	(1ull << 63)
#define PAGEMAP_PFN	((1ull << 55) - 1)

bool hugepages_exist(void)
{
	return access(POOL, W_OK) == 0;
}

static int pool_get(uint64_t *ret)
{
	_cleanup_free_ char *text = NULL;
	int r = read_file_at(AT_FDCWD, POOL, 64, &text, NULL);

	if (r < 0)
		return r;
	text[strcspn(text, "\n")] = '\0';
	return parse_u64(text, 10, ret);
}

/* The kernel sets as many as it can and reports no error; see pool_get(). */
static int pool_set(uint64_t pages)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRIu64, pages);
	return write_file_at(AT_FDCWD, POOL, text);
}

int hugepages_undo(const char *arg)
{
	uint64_t pages;
	int r = parse_u64(arg, 10, &pages);

	return r < 0 ? r : pool_set(pages);
}

int hugepages_open(struct hugepages *h, struct undo_log *undo)
{
	char text[24];
	int r;

	*h = (struct hugepages)HUGEPAGES_INIT;
	r = pool_get(&h->pool);
	if (r < 0)
		return log_err(r, "cannot read the number of huge pages");
	snprintf(text, sizeof(text), "%" PRIu64, h->pool);
	r = undo_push(undo, "hugepages", text);
	if (r < 0)
		return r;
	h->fd = memfd_create("crkexec-store", MFD_CLOEXEC | MFD_HUGETLB | MFD_HUGE_2MB);
	return h->fd < 0 ? log_err(neg_errno(), "cannot make a file of huge pages") : 0;
}

void hugepages_close(struct hugepages *h)
{
	close_fdp(&h->fd);
	free(h->frames);
	*h = (struct hugepages)HUGEPAGES_INIT;
}

/* Physical address of the page that is mapped at p; the page must have been touched. */
static int frame_of(int pagemap, const void *p, uint64_t *ret)
{
	uint64_t entry;
	int r = pread_full(pagemap, &entry, sizeof(entry),
			   (off_t)((uintptr_t)p / PAGE_BYTES * sizeof(entry)));

	if (r < 0)
		return r;
	/* Without CAP_SYS_ADMIN frame numbers read as 0. */
	if (!(entry & PAGEMAP_PRESENT) || !(entry & PAGEMAP_PFN))
		return -EFAULT;
	*ret = (entry & PAGEMAP_PFN) * PAGE_BYTES;
	return 0;
}

static int open_pagemap(void)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

	return fd < 0 ? log_err(neg_errno(), "cannot open /proc/self/pagemap") : fd;
}

/* The pages from the file's page "from" on: brought in, and their places noted. */
static int populate(struct hugepages *h, size_t from, size_t pages)
{
	_cleanup_close_ int pagemap = open_pagemap();
	size_t bytes = pages * HUGEPAGE_BYTES;
	uint8_t *p;
	int r = 0;

	if (pagemap < 0)
		return pagemap;
	p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, h->fd,
		 (off_t)(from * HUGEPAGE_BYTES));
	if (p == MAP_FAILED)
		return log_err(neg_errno(), "cannot map %zu huge pages", pages);
	if (madvise(p, bytes, MADV_POPULATE_WRITE) < 0)
		r = log_err(neg_errno(), "cannot bring in %zu huge pages", pages);
	for (size_t i = 0; i < pages && r == 0; i++)
		r = frame_of(pagemap, p + i * HUGEPAGE_BYTES, &h->frames[from + i]);
	if (r == -EFAULT)
		log_err(r, "cannot see where pages are");
	munmap(p, bytes);
	return r;
}

int hugepages_grow(struct hugepages *h, size_t pages, size_t *ret_got)
{
	uint64_t before, after = 0, *frames;
	size_t got;
	int r = pool_get(&before);

	*ret_got = 0;
	if (r == 0)
		r = pool_set(before + pages);
	if (r == 0)
		r = pool_get(&after);
	if (r < 0)
		return log_err(r, "cannot change the number of huge pages");
	/* Somebody else may lower the pool at the same moment. */
	got = after > before ? MIN((size_t)(after - before), pages) : 0;
	if (!got)
		return 0;
	frames = reallocarray(h->frames, h->n + got, sizeof(*frames));
	if (!frames)
		return -ENOMEM;
	h->frames = frames;
	memset(frames + h->n, 0, got * sizeof(*frames));
	if (ftruncate(h->fd, (off_t)((h->n + got) * HUGEPAGE_BYTES)) < 0)
		return log_err(neg_errno(), "cannot enlarge the file of huge pages");
	r = populate(h, h->n, got);
	if (r < 0)
		return r;
	h->n += got;
	h->held += got;
	*ret_got = got;
	return 0;
}

static bool is_in(const struct manifest_range *ranges, size_t n, uint64_t addr)
{
	for (size_t i = 0; i < n; i++)
		if (addr >= ranges[i].addr && addr - ranges[i].addr < ranges[i].bytes)
			return true;
	return false;
}

int hugepages_keep(struct hugepages *h, const struct manifest_range *ranges, size_t n)
{
	int r;

	for (size_t i = 0; i < h->n; i++) {
		if (!h->frames[i] || is_in(ranges, n, h->frames[i]))
			continue;
		if (fallocate(h->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			      (off_t)(i * HUGEPAGE_BYTES), HUGEPAGE_BYTES) < 0)
			return log_err(neg_errno(), "cannot give huge pages back");
		h->frames[i] = 0;
		h->held--;
	}
	r = pool_set(h->pool + h->held);
	return r < 0 ? log_err(r, "cannot change the number of huge pages") : 0;
}

struct place {
	uint64_t frame;
	size_t index;
};

static int place_compare(const void *a, const void *b)
{
	const struct place *x = a, *y = b;

	return x->frame != y->frame ? (x->frame < y->frame ? -1 : 1) : 0;
}

/* All pages held, by address. */
static int sort_places(const struct hugepages *h, struct place **ret)
{
	struct place *v = reallocarray(NULL, h->held + 1, sizeof(*v));
	size_t n = 0;

	if (!v)
		return -ENOMEM;
	for (size_t i = 0; i < h->n && n < h->held; i++)
		if (h->frames[i])
			v[n++] = (struct place){ h->frames[i], i };
	qsort(v, n, sizeof(*v), place_compare);
	*ret = v;
	return 0;
}

/* n pages that follow one another in the file. */
static int map_pages(const struct hugepages *h, uint8_t *at, size_t index, size_t n)
{
	if (mmap(at, n * HUGEPAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, h->fd,
		 (off_t)(index * HUGEPAGE_BYTES)) != MAP_FAILED)
		return 0;
	if (errno == ENOMEM)
		return log_fail(-ENOMEM, "cannot map the store: its pages lie too scattered; raise "
				"vm.max_map_count");
	return log_err(neg_errno(), "cannot map the store");
}

static int map_places(const struct hugepages *h, const struct manifest_range *ranges, size_t n,
		      const struct place *v, uint8_t *at)
{
	size_t next = 0;

	for (size_t i = 0; i < n; i++) {
		uint64_t addr = ranges[i].addr, end = addr + ranges[i].bytes;

		while (next < h->held && v[next].frame < addr)
			next++;
		while (addr < end) {
			size_t same = 0;
			int r;

			while (addr + same * HUGEPAGE_BYTES < end && next + same < h->held &&
			       v[next + same].frame == addr + same * HUGEPAGE_BYTES &&
			       v[next + same].index == v[next].index + same)
				same++;
			if (!same)
				return log_fail(-EFAULT, "page %#" PRIx64 " is not held", addr);
			r = map_pages(h, at, v[next].index, same);
			if (r < 0)
				return r;
			at += same * HUGEPAGE_BYTES;
			addr += same * HUGEPAGE_BYTES;
			next += same;
		}
	}
	return 0;
}

/* A piece of address space that begins at a huge page's border. */
static int reserve(size_t bytes, uint8_t **ret)
{
	uint8_t *p = mmap(NULL, bytes + HUGEPAGE_BYTES, PROT_NONE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	size_t skip;

	if (p == MAP_FAILED)
		return log_err(neg_errno(), "no address space for the store");
	skip = (HUGEPAGE_BYTES - (uintptr_t)p % HUGEPAGE_BYTES) % HUGEPAGE_BYTES;
	if (skip)
		munmap(p, skip);
	if (HUGEPAGE_BYTES - skip)
		munmap(p + skip + bytes, HUGEPAGE_BYTES - skip);
	*ret = p + skip;
	return 0;
}

int hugepages_map(const struct hugepages *h, const struct manifest_range *ranges, size_t n,
		  void **ret)
{
	_cleanup_free_ struct place *v = NULL;
	size_t bytes = 0;
	uint8_t *p;
	int r;

	for (size_t i = 0; i < n; i++)
		bytes += ranges[i].bytes;
	r = sort_places(h, &v);
	if (r == 0)
		r = reserve(bytes, &p);
	if (r < 0)
		return r;
	r = map_places(h, ranges, n, v, p);
	if (r == 0 && madvise(p, bytes, MADV_POPULATE_WRITE) < 0)
		r = log_err(neg_errno(), "cannot bring in the store's pages");
	if (r < 0) {
		munmap(p, bytes);
		return r;
	}
	*ret = p;
	return 0;
}

int hugepages_check(const void *map, const struct manifest_range *ranges, size_t n)
{
	_cleanup_close_ int pagemap = open_pagemap();
	const uint8_t *p = map;

	if (pagemap < 0)
		return pagemap;
	for (size_t i = 0; i < n; i++) {
		if (madvise((void *)(uintptr_t)p, ranges[i].bytes, MADV_POPULATE_READ) < 0)
			return log_err(neg_errno(), "cannot bring in the store's pages");
		for (uint64_t off = 0; off < ranges[i].bytes; off += HUGEPAGE_BYTES) {
			uint64_t at = 0;
			int r = frame_of(pagemap, p + off, &at);

			if (r < 0)
				return log_err(r, "cannot see where the store's pages are");
			if (at != ranges[i].addr + off)
				return log_fail(-ESTALE, "a page of the store was moved from %#" PRIx64
						" to %#" PRIx64, ranges[i].addr + off, at);
		}
		p += ranges[i].bytes;
	}
	return 0;
}
