/* Which pages of a process are its own: PAGEMAP_SCAN and /proc/PID/pagemap. */
#ifndef CR_TASK_MEM_SCAN_H
#define CR_TASK_MEM_SCAN_H

#include "task/vma.h"

/* An entry of /proc/PID/pagemap (Documentation/admin-guide/mm/pagemap.rst). */
#define PM_PRESENT	(1ull << 63)
#define PM_SWAPPED	(1ull << 62)
#define PM_FILE		(1ull << 61)	/* or shared memory */
#define PM_GUARD	(1ull << 58)	/* MADV_GUARD_INSTALL: task/guard.c */
#define PM_EXCLUSIVE	(1ull << 56)	/* in this process only */
#define PM_SOFT_DIRTY	(1ull << 55)
#define PM_FRAME	((1ull << 55) - 1)	/* frame, or place in swap; 0: not told */

/* Some of its pages may have to be saved. */
bool mem_has_pages(const struct vma *v);
/* How the kernel tells which pages were written since mem_track_begin(). */
enum mem_tracking {
	TRACK_NOT,		/* not: all count as written */
	TRACK_SOFT_DIRTY,	/* a bit in pagemap (CONFIG_MEM_SOFT_DIRTY) */
	TRACK_WRITE_PROTECT,	/* userfaultfd(2), UFFD_FEATURE_WP_ASYNC (Linux >= 6.7) */
};
/*
 * Pages [start, end) of the area, written since the tracking began, or perhaps so. A negative
 * result ends the scan and is returned.
 */
typedef int (*mem_scan_fn)(void *arg, uint64_t start, uint64_t end, bool written);
/* Ascending: pages that the area has to itself, present or swapped. Logged. */
int mem_scan(int pagemap_fd, const struct vma *v, enum mem_tracking how, mem_scan_fn fn, void *arg)
	_must_check_;
/* TRACK_WRITE_PROTECT: from now on all its pages are unwritten. -EPERM: it is not registered. */
int mem_scan_protect(int pagemap_fd, const struct vma *v) _must_check_;
int mem_pagemap_open(const struct dump_process *p) _must_check_;
int mem_pagemap_read(int fd, uint64_t t_addr, uint64_t *bits, size_t n) _must_check_;

#endif
