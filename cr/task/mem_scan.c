/*
 * Which pages of a process are to be saved: those a private area has to itself, present or
 * swapped, not the zero page, not the file's own. PAGEMAP_SCAN (Linux >= 6.7) tells, else
 * /proc/PID/pagemap.
 */
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "task/mem_scan.h"
#include "task/pagemap.h"

bool mem_has_pages(const struct vma *v)
{
	if (!vma_status_has_pages(v->status) || v->status & (VMA_VVAR | VMA_VSYSCALL))
		return false;
	/* Droppable memory may vanish at any time: to its owner an empty page is normal. */
	return !(v->flags & 0x08) || v->flags & MAP_PRIVATE;
}

int mem_pagemap_open(const struct dump_process *p)
{
	int fd = openat(p->proc_fd, "pagemap", O_RDONLY | O_CLOEXEC);

	return fd < 0 ? log_err(neg_errno(), "cannot open /proc/%d/pagemap", p->pid) : fd;
}

int mem_pagemap_read(int fd, uint64_t t_addr, uint64_t *bits, size_t n)
{
	int r = pread_full(fd, bits, n * 8, (off_t)(t_addr / PAGE_BYTES * 8));

	return r < 0 ? log_err(r, "cannot read pagemap at 0x%lx", t_addr) : 0;
}

/* Guard pages look like pages in swap, but cannot be read. */
static const struct scan_arg saved_pages = {
	.size = sizeof(struct scan_arg),
	.category_inverted = CR_PAGE_FILE | CR_PAGE_PFNZERO | CR_PAGE_GUARD,
	.category_mask = CR_PAGE_FILE | CR_PAGE_PFNZERO | CR_PAGE_GUARD,
	.category_anyof_mask = CR_PAGE_PRESENT | CR_PAGE_SWAPPED,
	.return_mask = CR_PAGE_PRESENT | CR_PAGE_SWAPPED,
};

struct scan {
	int fd;
	const struct vma *v;
	enum mem_tracking how;
	mem_scan_fn fn;
	void *arg;
};

/*
 * A protected page of a private file that was discarded (MADV_DONTNEED) leaves a mark that looks
 * like an unwritten page in swap, but its contents are the file's again.
 */
static bool was_written(const struct scan *s, uint64_t categories)
{
	return categories & CR_PAGE_WRITTEN ||
	       (s->v->status & VMA_FILE_PRIVATE && categories & CR_PAGE_SWAPPED);
}

/* Before Linux 6.15 the kernel does not tell guard pages, and refuses to be asked. */
static int scan_call(int fd, struct scan_arg *arg)
{
	int n = ioctl(fd, CR_PAGEMAP_SCAN, arg);

	if (n >= 0 || errno != EINVAL || !(arg->category_mask & CR_PAGE_GUARD))
		return n;
	arg->category_inverted &= ~(uint64_t)CR_PAGE_GUARD;
	arg->category_mask &= ~(uint64_t)CR_PAGE_GUARD;
	return ioctl(fd, CR_PAGEMAP_SCAN, arg);
}

/* 0: the kernel has no PAGEMAP_SCAN; 1: done. */
static int scan_by_ioctl(const struct scan *s)
{
	struct scan_region regions[512];
	struct scan_arg arg = saved_pages;

	arg.start = s->v->start;
	arg.end = s->v->end;
	arg.vec = (uint64_t)regions;
	arg.vec_len = ARRAY_SIZE(regions);
	if (s->how == TRACK_WRITE_PROTECT) {
		arg.flags = CR_SCAN_CHECK_WPASYNC;
		arg.return_mask |= CR_PAGE_WRITTEN;
	}
	while (arg.start < arg.end) {
		int n = scan_call(s->fd, &arg);
		int r;

		/* Not registered: mapped since, or moved. */
		if (n < 0 && errno == EPERM && arg.flags) {
			arg.flags = 0;
			arg.return_mask &= ~(uint64_t)CR_PAGE_WRITTEN;
			continue;
		}
		if (n < 0)
			return errno == ENOTTY || errno == EINVAL ? 0 : neg_errno();
		for (int i = 0; i < n; i++) {
			r = s->fn(s->arg, regions[i].start, regions[i].end,
				  !arg.flags || was_written(s, regions[i].categories));
			if (r < 0)
				return r;
		}
		if (arg.walk_end <= arg.start)
			break;
		arg.start = arg.walk_end;
	}
	return 1;
}

/* Bits of a page that make one run of it with its neighbour; 0: not to be saved. */
static uint64_t kind_of(const struct scan *s, uint64_t bits)
{
	if (!(bits & (PM_PRESENT | PM_SWAPPED)) || bits & (PM_FILE | PM_GUARD))
		return 0;
	return s->how == TRACK_SOFT_DIRTY ? PM_PRESENT | (bits & PM_SOFT_DIRTY) :
					    PM_PRESENT | PM_SOFT_DIRTY;
}

static int scan_by_pagemap(const struct scan *s)
{
	uint64_t bits[1024], run = 0, kind = 0;
	int r = 0;

	for (uint64_t at = s->v->start; at < s->v->end;) {
		size_t n = MIN((s->v->end - at) / PAGE_BYTES, ARRAY_SIZE(bits));

		r = mem_pagemap_read(s->fd, at, bits, n);
		for (size_t i = 0; i < n && r >= 0; i++, at += PAGE_BYTES) {
			uint64_t now = kind_of(s, bits[i]);

			if (now == kind)
				continue;
			if (kind)
				r = s->fn(s->arg, run, at, kind & PM_SOFT_DIRTY);
			run = at;
			kind = now;
		}
		if (r < 0)
			return r;
	}
	return kind ? s->fn(s->arg, run, s->v->end, kind & PM_SOFT_DIRTY) : 0;
}

int mem_scan(int fd, const struct vma *v, enum mem_tracking how, mem_scan_fn fn, void *arg)
{
	const struct scan s = { fd, v, how, fn, arg };
	int r = 0;

	/* Their pages are the kernel's: neither present nor swapped to all of the above. */
	if (v->status & (VMA_VDSO | VMA_AIORING))
		return fn(arg, v->start, v->end, true);
	if (how != TRACK_SOFT_DIRTY)
		r = scan_by_ioctl(&s);
	if (!r)
		r = scan_by_pagemap(&s);
	return r < 0 ? log_err(r, "cannot scan memory at 0x%lx-0x%lx", v->start, v->end) : 0;
}

int mem_scan_protect(int fd, const struct vma *v)
{
	struct scan_region regions[512];
	struct scan_arg arg = saved_pages;

	arg.flags = CR_SCAN_WP_MATCHING | CR_SCAN_CHECK_WPASYNC;
	arg.start = v->start;
	arg.end = v->end;
	arg.category_mask |= CR_PAGE_WRITTEN;
	/* Without a place for results the kernel takes all pages, absent ones too. */
	arg.vec = (uint64_t)regions;
	arg.vec_len = ARRAY_SIZE(regions);
	while (arg.start < arg.end) {
		if (scan_call(fd, &arg) < 0)
			return neg_errno();
		if (arg.walk_end <= arg.start)
			break;
		arg.start = arg.walk_end;
	}
	return 0;
}
