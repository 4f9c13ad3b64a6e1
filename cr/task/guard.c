/*
 * Guard pages (MADV_GUARD_INSTALL, Linux >= 6.13): page table entries that make an access fail.
 *
 *   dump     PAGEMAP_SCAN's PAGE_IS_GUARD (>= 6.15): each run is one more "area" of the image, of
 *            status VMA_GUARD, behind all real ones
 *   restore  MADV_GUARD_INSTALL, when the contents are in place and all children are cloned
 *
 * To a scan for contents they look like swapped pages; reading them fails.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include "task/pagemap.h"
#include "task/parts.h"
#include "task/vma.h"

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif

static bool kernel_tells(int pagemap_fd)
{
	struct scan_arg arg = { .size = sizeof(arg), .category_mask = CR_PAGE_GUARD,
				.return_mask = CR_PAGE_GUARD };

	return ioctl(pagemap_fd, CR_PAGEMAP_SCAN, &arg) >= 0;
}

static int guard_add(struct dump_ctx *ctx, VmaEntry ***list, size_t *n, uint64_t start,
		     uint64_t end)
{
	VmaEntry *e = ARENA_MSG(&ctx->arena, VmaEntry, vma_entry);
	VmaEntry **at = e ? ARENA_PUSH(&ctx->arena, *list, *n) : NULL;

	if (!at)
		return -ENOMEM;
	e->start = start;
	e->end = end;
	e->status = VMA_GUARD;
	e->fd = -1;
	*at = e;
	return 0;
}

/* Within [start, end), whatever areas lie in it: only areas that can have guards do. */
static int guard_scan(struct dump_ctx *ctx, int pagemap_fd, uint64_t start, uint64_t end,
		      VmaEntry ***list, size_t *n)
{
	struct scan_region regions[64];
	struct scan_arg arg = {
		.size = sizeof(arg),
		.start = start,
		.end = end,
		.vec = (uint64_t)regions,
		.vec_len = ARRAY_SIZE(regions),
		.category_mask = CR_PAGE_GUARD,
		.return_mask = CR_PAGE_GUARD,
	};

	while (arg.start < end) {
		int found = ioctl(pagemap_fd, CR_PAGEMAP_SCAN, &arg), r;

		if (found < 0)
			return neg_errno();
		for (int i = 0; i < found; i++) {
			r = guard_add(ctx, list, n, regions[i].start, regions[i].end);
			if (r < 0)
				return r;
		}
		if (arg.walk_end <= arg.start)
			break;
		arg.start = arg.walk_end;
	}
	return 0;
}

int guards_dump(struct dump_ctx *ctx, struct dump_process *p)
{
	_cleanup_close_ int fd = openat(p->proc_fd, "pagemap", O_RDONLY | O_CLOEXEC);
	VmaEntry **list = NULL, **all;
	uint64_t start = UINT64_MAX, end = 0;
	MmEntry *mm = p->mm;
	size_t n = 0;
	int r;

	if (fd < 0)
		return log_err(neg_errno(), "cannot open /proc/%d/pagemap", p->pid);
	if (!kernel_tells(fd))
		return 0;
	for (size_t i = 0; i < p->n_vmas; i++) {
		const struct vma *v = &p->vmas[i];

		if (!(v->status & VMA_REGULAR))
			continue;
		start = MIN(start, v->start);
		end = v->end;
	}
	r = guard_scan(ctx, fd, start, end, &list, &n);
	if (r < 0)
		return log_err(r, "cannot look for guard pages");
	if (!n)
		return 0;
	all = arena_alloc(&ctx->arena, (mm->n_vmas + n) * sizeof(*all));
	if (!all)
		return -ENOMEM;
	memcpy(all, mm->vmas, mm->n_vmas * sizeof(*all));
	memcpy(all + mm->n_vmas, list, n * sizeof(*all));
	mm->vmas = all;
	mm->n_vmas += n;
	return 0;
}

static int by_start(const void *a, const void *b)
{
	const VmaEntry *x = *(VmaEntry *const *)a, *y = *(VmaEntry *const *)b;

	return (x->start > y->start) - (x->start < y->start);
}

int guards_load(struct restore_process *p)
{
	MmEntry *mm = p->mm;
	size_t real = mm->n_vmas;

	while (real && mm->vmas[real - 1]->status & VMA_GUARD)
		real--;
	p->guards = mm->vmas + real;
	p->n_guards = mm->n_vmas - real;
	mm->n_vmas = real;
	for (size_t i = 0; i < p->n_guards; i++) {
		const VmaEntry *g = p->guards[i];

		if (g->start >= g->end || g->end > TASK_END_MAX || (g->start | g->end) & (PAGE_BYTES - 1))
			return part_bad("mm-%u.img: malformed guard pages 0x%lx-0x%lx", p->pst->pid,
					g->start, g->end);
	}
	if (p->n_guards)
		qsort(p->guards, p->n_guards, sizeof(*p->guards), by_start);
	for (size_t i = 1; i < p->n_guards; i++)
		if (p->guards[i]->start < p->guards[i - 1]->end)
			return part_bad("mm-%u.img: guard pages at 0x%lx twice", p->pst->pid, p->guards[i]->start);
	return 0;
}

bool guards_are_in(const struct restore_process *p, uint64_t start, uint64_t end)
{
	size_t low = 0, high = p->n_guards;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (p->guards[mid]->end <= start)
			low = mid + 1;
		else
			high = mid;
	}
	return low < p->n_guards && p->guards[low]->start < end;
}

int guards_restore(const struct restore_process *p, struct batch *b)
{
	for (size_t i = 0; i < p->n_guards; i++) {
		int r = batch_make_room(b, 1, 0);

		if (r < 0)
			return r;
		batch_call(b, SYS_madvise, p->guards[i]->start, p->guards[i]->end - p->guards[i]->start,
			   MADV_GUARD_INSTALL);
	}
	return 0;
}
