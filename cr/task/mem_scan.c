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

/* 0: the kernel has no PAGEMAP_SCAN; 1: done. */
static int scan_by_ioctl(int fd, const struct vma *v, mem_scan_fn fn, void *fn_arg)
{
	struct scan_region regions[512];
	struct scan_arg arg = {
		.size = sizeof(arg),
		.start = v->start,
		.end = v->end,
		.vec = (uint64_t)regions,
		.vec_len = ARRAY_SIZE(regions),
		.category_inverted = CR_PAGE_FILE | CR_PAGE_PFNZERO,
		.category_mask = CR_PAGE_FILE | CR_PAGE_PFNZERO,
		.category_anyof_mask = CR_PAGE_PRESENT | CR_PAGE_SWAPPED,
		.return_mask = CR_PAGE_PRESENT | CR_PAGE_SWAPPED,
	};

	/* They look like pages in swap, but cannot be read. */
	arg.category_inverted |= pagemap_guard_category(fd);
	arg.category_mask |= arg.category_inverted;
	while (arg.start < v->end) {
		int n = ioctl(fd, CR_PAGEMAP_SCAN, &arg);
		int r;

		if (n < 0)
			return errno == ENOTTY || errno == EINVAL ? 0 : neg_errno();
		for (int i = 0; i < n; i++) {
			r = fn(fn_arg, regions[i].start, regions[i].end);
			if (r < 0)
				return r;
		}
		if (arg.walk_end <= arg.start)
			break;
		arg.start = arg.walk_end;
	}
	return 1;
}

static int scan_by_pagemap(int fd, const struct vma *v, mem_scan_fn fn, void *fn_arg)
{
	uint64_t bits[1024], run = 0;
	int r;

	for (uint64_t at = v->start; at < v->end;) {
		size_t n = MIN((v->end - at) / PAGE_BYTES, ARRAY_SIZE(bits));

		r = mem_pagemap_read(fd, at, bits, n);
		if (r < 0)
			return r;
		for (size_t i = 0; i < n; i++, at += PAGE_BYTES) {
			bool want = bits[i] & (PM_PRESENT | PM_SWAPPED) &&
				    !(bits[i] & (PM_FILE | PM_GUARD));

			if (want && !run)
				run = at;
			if (want || !run)
				continue;
			r = fn(fn_arg, run, at);
			if (r < 0)
				return r;
			run = 0;
		}
	}
	return run ? fn(fn_arg, run, v->end) : 0;
}

int mem_scan(int fd, const struct vma *v, mem_scan_fn fn, void *arg)
{
	int r;

	/* Their pages are the kernel's: neither present nor swapped to all of the above. */
	if (v->status & (VMA_VDSO | VMA_AIORING))
		return fn(arg, v->start, v->end);
	r = scan_by_ioctl(fd, v, fn, arg);
	if (!r)
		r = scan_by_pagemap(fd, v, fn, arg);
	return r < 0 ? log_err(r, "cannot scan memory at 0x%lx-0x%lx", v->start, v->end) : 0;
}
