/*
 * PAGEMAP_SCAN (Linux >= 6.7): linux/fs.h of the build machine may be older.
 * Kernel: Documentation/admin-guide/mm/pagemap.rst.
 */
#ifndef CR_TASK_PAGEMAP_H
#define CR_TASK_PAGEMAP_H

#include <linux/ioctl.h>
#include <stdint.h>

struct scan_region {
	uint64_t start, end, categories;
};

struct scan_arg {
	uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
	uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};

#define CR_PAGEMAP_SCAN	_IOWR('f', 16, struct scan_arg)
#define CR_SCAN_WP_MATCHING	(1u << 0)
#define CR_SCAN_CHECK_WPASYNC	(1u << 1)
#define CR_PAGE_WRITTEN	(1u << 1)
#define CR_PAGE_FILE	(1u << 2)
#define CR_PAGE_PRESENT	(1u << 3)
#define CR_PAGE_SWAPPED	(1u << 4)
#define CR_PAGE_PFNZERO	(1u << 5)
#define CR_PAGE_GUARD	(1u << 8)	/* Linux >= 6.15; before: EINVAL */

#endif
