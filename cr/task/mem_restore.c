/*
 * Memory, restoring side.
 *
 * A seed's memory is unmapped but for the zone, then the areas are mapped at their final
 * addresses with their final protection, and the pages written through /proc/PID/mem, which
 * may write to private memory whatever its protection.
 *
 * A child is cloned from its parent (seldom another: core/lineage.h) after the parent's memory is
 * in place. Areas both have stay as they are; only pages that differ are written, so
 * copy-on-write sharing between parent and workers comes back by itself.
 */
#include <fcntl.h>
#include <linux/prctl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "core/files.h"
#include "ns/ipc.h"
#include "task/mem.h"
#include "task/parts.h"
#include "task/regs.h"
#include "task/vma.h"

#define MMAP_MIN		0x10000ull
#define ARCH_MAP_VDSO_64	0x2003
#define SEARCH_STEP		(16ull << 20)

static bool entry_is_kernels(const VmaEntry *e)
{
	return e->status & (VMA_VVAR | VMA_VSYSCALL);
}

static bool entry_is_vdso(const VmaEntry *e)
{
	return e->status & VMA_VDSO;
}

static bool entry_has_file(const VmaEntry *e)
{
	return e->shmid && (e->status & (VMA_FILE_PRIVATE | VMA_FILE_SHARED | VMA_MEMFD));
}

int mem_check(const struct restore_process *p)
{
	const uint32_t unsupported = VMA_SOCKET | VMA_SHSTK | VMA_GUARD;
	uint64_t end = 0;

	for (size_t i = 0; i < p->mm->n_vmas; i++) {
		const VmaEntry *e = p->mm->vmas[i];

		if (e->status & VMA_VSYSCALL)
			continue;
		if (e->start < e->end && e->end > TASK_END && e->end < 1ull << 56)
			return log_fail(-EOPNOTSUPP, "area 0x%lx-0x%lx lies above 47 bits (5-level page tables)",
					e->start, e->end);
		if (e->start < MMAP_MIN || e->start >= e->end || e->end > TASK_END ||
		    e->start < end || (e->start | e->end | e->pgoff) & (PAGE_BYTES - 1) ||
		    (e->start | e->end) & (vma_entry_page_bytes(e) - 1))
			return log_fail(-EBADMSG, "mm-%u.img: malformed area 0x%lx-0x%lx",
					p->pst->pid, e->start, e->end);
		if (e->status & unsupported ||
		    !(e->status & VMA_ANON_SHARED) != !(e->status & VMA_SYSVIPC))
			return log_fail(-EOPNOTSUPP, "area 0x%lx-0x%lx of status 0x%x cannot be restored",
					e->start, e->end, e->status);
		if (e->policy && mempolicy_check(e->policy) < 0)
			return -EBADMSG;
		end = e->end;
	}
	if (p->mm->n_mm_saved_auxv > 512)
		return log_fail(-EBADMSG, "mm-%u.img: auxv of %zu words", p->pst->pid,
				p->mm->n_mm_saved_auxv);
	return aio_check(p);
}

/* The end of whatever lies in [start, end), 0 if nothing does. */
static uint64_t taken_until(const struct restore_ctx *ctx, const struct vma *own, size_t n_own,
			    uint64_t start, uint64_t end)
{
	for (size_t i = 0; i < n_own; i++)
		if (own[i].start < end && start < own[i].end)
			return own[i].end;
	for (size_t k = 0; k < ctx->n_procs; k++) {
		const MmEntry *mm = ctx->procs[k].mm;

		for (size_t i = 0; mm && i < mm->n_vmas; i++)
			if (mm->vmas[i]->start < end && start < mm->vmas[i]->end)
				return mm->vmas[i]->end;
	}
	return 0;
}

/*
 * Below the vDSO of the first process if possible: jumps from its old code to the new one
 * then fit in five bytes.
 */
int mem_find_free(struct restore_ctx *ctx, size_t spare_bytes, uint64_t *ret)
{
	_cleanup_free_ char *text = NULL;
	uint64_t need = ZONE_BYTES + ROUND_UP(spare_bytes, PAGE_BYTES), at = MMAP_MIN, near = 0;
	struct vma *own;
	size_t n_own;
	int r;

	r = read_file_at(-1, "/proc/self/maps", READ_FILE_MAX, &text, NULL);
	if (r >= 0)
		r = vma_parse_smaps(&ctx->arena, text, &own, &n_own);
	if (r < 0)
		return log_err(r, "cannot read the engine's own memory map");
	for (size_t k = 0; k < ctx->n_procs && !near; k++)
		for (size_t i = 0; ctx->procs[k].mm && i < ctx->procs[k].mm->n_vmas; i++)
			if (entry_is_vdso(ctx->procs[k].mm->vmas[i]))
				near = ctx->procs[k].mm->vmas[i]->start;
	if (near > (1ull << 30))
		at = near - (1ull << 30);
	at = ROUND_UP(at, SEARCH_STEP);
	for (unsigned int pass = 0; pass < 2; pass++, at = SEARCH_STEP) {
		while (at + need < TASK_END) {
			uint64_t until = taken_until(ctx, own, n_own, at, at + need);

			if (!until) {
				*ret = at;
				return 0;
			}
			at = ROUND_UP(until, SEARCH_STEP);
		}
	}
	return log_fail(-ENOMEM, "no address range is free in all processes");
}

/*
 * The vDSO. Equal code: the kernel's own mapping goes where the image had it. Else the saved
 * code stays (as plain memory) with its entry points patched, and the kernel's own goes behind
 * the zone for good.
 */
struct vdso_plan {
	const VmaEntry *vdso, *vvar;
	struct vdso_image *own, *saved;
	bool equal;
	uint64_t own_at;	/* where the kernel's vDSO code is mapped */
	uint64_t map_at;	/* what ARCH_MAP_VDSO_64 is asked for */
};

static int vdso_plan(struct restore_ctx *ctx, struct restore_process *p, struct vdso_plan *v)
{
	_cleanup_pages_ struct pages_reader *pages = NULL;
	struct page_run run;
	uint8_t *copy;
	size_t bytes;
	int r;

	*v = (struct vdso_plan){ 0 };
	for (size_t i = 0; i < p->mm->n_vmas; i++) {
		const VmaEntry *e = p->mm->vmas[i];

		if (entry_is_vdso(e))
			v->vdso = e;
		else if (e->status & VMA_VVAR)
			v->vvar = e;
	}
	v->own = ctx->own_vdso;
	v->map_at = p->remote->zone + ZONE_BYTES;
	v->own_at = v->map_at + vdso_own_vvar_bytes(v->own);
	if (!v->vdso)
		return 0;
	bytes = v->vdso->end - v->vdso->start;
	copy = arena_alloc(&ctx->arena, bytes);
	if (!copy)
		return -ENOMEM;
	r = pages_open(ctx->store, &image_pagemap, p->pst->pid, &pages);
	if (r < 0)
		return r;
	while ((r = pages_next(pages, &run)) > 0) {
		uint64_t start = MAX(run.vaddr, v->vdso->start);
		uint64_t end = MIN(run.vaddr + run.n_pages * PAGE_BYTES, v->vdso->end);

		if (start < end && run.data)
			memcpy(copy + (start - v->vdso->start), run.data + (start - run.vaddr),
			       end - start);
	}
	if (r < 0)
		return r;
	r = vdso_parse(&ctx->arena, copy, bytes, &v->saved);
	if (r < 0)
		return log_err(r, "process %u: the saved vDSO is malformed", p->pst->pid);
	v->equal = vdso_equal(v->own, v->saved) && v->vvar && v->vvar->end == v->vdso->start &&
		   v->vvar->end - v->vvar->start == vdso_own_vvar_bytes(v->own);
	if (v->equal) {
		v->map_at = v->vvar->start;
		v->own_at = v->vdso->start;
	}
	return 0;
}

/* The clone's vDSO is the parent's; one that executed another program has it elsewhere. */
static int place_vdso(struct restore_process *p, struct batch *b, const struct vdso_plan *v)
{
	const struct restore_process *parent = p->mem_from;
	int64_t off = vdso_syscall_offset(v->own);

	if (off < 0)
		return log_fail((int)off, "the kernel's vDSO has no syscall instruction");
	p->vvar_at = v->map_at;
	p->vdso_at = v->own_at;
	p->vdso_end = v->own_at + vdso_bytes(v->own);
	p->remote->syscall_insn = v->own_at + (uint64_t)off;
	if (parent && parent->vvar_at == p->vvar_at)
		return 0;
	if (parent)
		batch_call(b, SYS_munmap, parent->vvar_at, parent->vdso_end - parent->vvar_at);
	batch_call(b, SYS_arch_prctl, ARCH_MAP_VDSO_64, v->map_at);
	return 0;
}

static int seed_clear(struct restore_process *p, struct batch *b)
{
	uint64_t zone = p->remote->zone;

	batch_call(b, SYS_munmap, 0, zone);
	batch_call(b, SYS_munmap, zone + ZONE_BYTES, TASK_END - (zone + ZONE_BYTES));
	return 0;
}

static uint64_t map_flags(const VmaEntry *e)
{
	uint64_t keep = MAP_SHARED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_NORESERVE | 0x08;

	/* An AIO ring's place is kept, with what it held, until task/aio.c puts the ring there. */
	if (entry_is_vdso(e) || e->status & VMA_AIORING)
		return MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
	if (e->flags & MAP_ANONYMOUS)
		keep |= MAP_HUGETLB | (uint64_t)MAP_HUGE_MASK << MAP_HUGE_SHIFT;
	return (e->flags & keep) | MAP_FIXED_NOREPLACE;
}

static void advise(struct batch *b, const VmaEntry *e)
{
	if (!e->has_madv)
		return;
	for (unsigned int n = 0; n < 64; n++)
		if (e->madv >> n & 1)
			batch_try(b, SYS_madvise, e->start, e->end - e->start, n);
}

/* What the areas of one process hold open while they are mapped: the last file fetched. */
struct mapper {
	struct restore_ctx *ctx;
	struct restore_process *p;
	struct batch *b;
	uint64_t open_id;	/* of the file now at descriptor 0, 0: none */
	uint32_t open_flags;
};

static int mapper_file(struct mapper *m, uint64_t id, uint32_t fdflags)
{
	int fd, r;

	if (id == m->open_id && fdflags == m->open_flags)
		return 0;
	if (m->open_id)
		batch_call(m->b, SYS_close, 0);
	m->open_id = 0;
	if (!id)
		return 0;
	r = id > UINT32_MAX ? -EBADMSG :
			      restore_file_get_mapped(m->ctx, (uint32_t)id, fdflags, &fd);
	if (r < 0)
		return log_err(r, "process %u: cannot open mapped file %lu", m->p->pst->pid, id);
	/* The task's table is empty but for the engine's pidfd: the result is descriptor 0. */
	batch_call(m->b, SYS_pidfd_getfd, m->ctx->pidfd_t_fd, fd, 0);
	m->open_id = id;
	m->open_flags = fdflags;
	return 0;
}

/* Old images do not say how the file was opened: as much as the mapping may need. */
static uint32_t area_open_flags(const VmaEntry *e)
{
	if (e->has_fdflags)
		return e->fdflags & O_ACCMODE;
	return e->flags & MAP_SHARED && e->prot & PROT_WRITE ? O_RDWR : O_RDONLY;
}

static int bind_area(struct mapper *m, const VmaEntry *e)
{
	int call = mempolicy_bind_call(m->b, e);
	int r = batch_run(m->b);

	if (r >= 0 && batch_ret(m->b, call) < 0)
		log_warn("memory policy 0x%x of 0x%lx-0x%lx cannot be had here: %s", e->policy->mode,
			 e->start, e->end, strerror((int)-batch_ret(m->b, call)));
	batch_begin(m->b, m->b->task);
	return r;
}

static int map_area(struct mapper *m, const VmaEntry *e)
{
	uint64_t fd = (uint64_t)-1;
	int r;

	r = batch_make_room(m->b, 80, 0);
	if (r < 0)
		return r;
	if (entry_has_file(e)) {
		r = mapper_file(m, e->shmid, area_open_flags(e));
		if (r < 0)
			return r;
		fd = 0;
	}
	if (e->status & VMA_SYSVIPC) {
		r = ipc_check_area(m->ctx, e);
		if (r < 0)
			return r;
		batch_call(m->b, SYS_shmat, e->shmid, e->start, ipc_attach_flags(e));
		batch_call(m->b, SYS_mprotect, e->start, e->end - e->start, e->prot);
	} else {
		batch_call(m->b, SYS_mmap, e->start, e->end - e->start, e->prot, map_flags(e), fd,
			   entry_has_file(e) ? e->pgoff : 0);
	}
	if (pkeys_area_has_own(m->p->mm, e))
		batch_call(m->b, SYS_pkey_mprotect, e->start, e->end - e->start, e->prot, e->pkey);
	advise(m->b, e);
	return e->policy ? bind_area(m, e) : 0;
}

static bool areas_equal(const VmaEntry *a, const VmaEntry *b)
{
	return a->start == b->start && a->end == b->end && a->pgoff == b->pgoff &&
	       a->shmid == b->shmid && a->prot == b->prot && a->flags == b->flags &&
	       a->status == b->status && a->has_madv == b->has_madv && a->madv == b->madv &&
	       a->pkey == b->pkey && mempolicy_equal(a->policy, b->policy);
}

/* The parent's area equal to e that the clone has brought along. */
static const VmaEntry *area_inherited(const struct restore_process *p, const VmaEntry *e)
{
	const uint64_t not_cloned = 1ull << MADV_DONTFORK | 1ull << MADV_WIPEONFORK;
	const MmEntry *mm = p->mem_from ? p->mem_from->mm : NULL;
	size_t lo = 0, hi = mm ? mm->n_vmas : 0;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (mm->vmas[mid]->start < e->start)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (!mm || lo == mm->n_vmas || !areas_equal(mm->vmas[lo], e) ||
	    (e->has_madv && e->madv & not_cloned))
		return NULL;
	return mm->vmas[lo];
}

/* What the clone brought and the child does not have. */
static int unmap_foreign(struct restore_process *p, struct batch *b, const struct vdso_plan *v)
{
	for (size_t i = 0; i < p->mem_from->mm->n_vmas; i++) {
		const VmaEntry *e = p->mem_from->mm->vmas[i];
		bool found = false;
		int r;

		if (entry_is_kernels(e) || (entry_is_vdso(e) && v->equal))
			continue;
		for (size_t k = 0; k < p->mm->n_vmas && !found; k++)
			found = p->mm->vmas[k]->start == e->start &&
				area_inherited(p, p->mm->vmas[k]) == e;
		if (found)
			continue;
		r = batch_make_room(b, 1, 0);
		if (r < 0)
			return r;
		batch_call(b, SYS_munmap, e->start, e->end - e->start);
	}
	return 0;
}

static int map_all(struct restore_ctx *ctx, struct restore_process *p, struct batch *b,
		   const struct vdso_plan *v)
{
	struct mapper m = { .ctx = ctx, .p = p, .b = b };
	int r;

	for (size_t i = 0; i < p->mm->n_vmas; i++) {
		const VmaEntry *e = p->mm->vmas[i];

		if (entry_is_kernels(e) || (entry_is_vdso(e) && v->equal) || area_inherited(p, e))
			continue;
		r = map_area(&m, e);
		if (r < 0)
			return r;
	}
	r = batch_make_room(b, 1, 0);
	return r < 0 ? r : mapper_file(&m, 0, 0);
}

static const VmaEntry *entry_at(const MmEntry *mm, uint64_t addr)
{
	size_t lo = 0, hi = mm->n_vmas;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (mm->vmas[mid]->end <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < mm->n_vmas && mm->vmas[lo]->start <= addr ? mm->vmas[lo] : NULL;
}

/* A cursor over the parent's saved pages, walked in step with the child's. */
struct page_cursor {
	struct pages_reader *reader;
	struct page_run run;
	int state;	/* 1: run is valid */
};

static int cursor_at(struct page_cursor *c, uint64_t addr, const uint8_t **ret)
{
	*ret = NULL;
	while (c->state > 0 && c->run.vaddr + c->run.n_pages * PAGE_BYTES <= addr)
		c->state = pages_next(c->reader, &c->run);
	if (c->state > 0 && c->run.vaddr <= addr && c->run.data)
		*ret = c->run.data + (addr - c->run.vaddr);
	return c->state < 0 ? c->state : 0;
}

static int fill_span(struct restore_ctx *ctx, struct restore_process *p, uint64_t addr,
		     const uint8_t *data, uint64_t n_pages)
{
	int r;

	if (!n_pages)
		return 0;
	r = pwrite_full(p->remote->mem_fd, data, n_pages * PAGE_BYTES, (off_t)addr);
	if (r < 0)
		return log_err(r, "process %u: cannot write memory at 0x%lx", p->pst->pid, addr);
	ctx->stats.pages_restored += n_pages;
	return 0;
}

/* One run; pages of inherited areas only where they differ from the parent's. */
static int fill_run(struct restore_ctx *ctx, struct restore_process *p, const struct page_run *run,
		    struct page_cursor *parent)
{
	uint64_t first = 0;
	int r;

	for (uint64_t i = 0; i < run->n_pages; i++) {
		uint64_t addr = run->vaddr + i * PAGE_BYTES;
		const VmaEntry *e = entry_at(p->mm, addr);
		const uint8_t *theirs = NULL;

		if (!e || !vma_status_has_pages(e->status) || entry_is_kernels(e))
			return log_fail(-EBADMSG, "pagemap-%u.img: page at 0x%lx lies in no private area",
					p->pst->pid, addr);
		if (!p->mem_from) {
			/* Nothing to compare: on to the end of this area at once. */
			i = MIN(run->n_pages, (e->end - run->vaddr) / PAGE_BYTES) - 1;
			continue;
		}
		if (area_inherited(p, e)) {
			r = cursor_at(parent, addr, &theirs);
			if (r < 0)
				return r;
		}
		if (!theirs || memcmp(theirs, run->data + i * PAGE_BYTES, PAGE_BYTES))
			continue;
		r = fill_span(ctx, p, run->vaddr + first * PAGE_BYTES, run->data + first * PAGE_BYTES,
			      i - first);
		if (r < 0)
			return r;
		first = i + 1;
	}
	return fill_span(ctx, p, run->vaddr + first * PAGE_BYTES, run->data + first * PAGE_BYTES,
			 run->n_pages - first);
}

static int fill_all(struct restore_ctx *ctx, struct restore_process *p)
{
	_cleanup_pages_ struct pages_reader *own = NULL, *theirs = NULL;
	struct page_cursor cursor = { 0 };
	struct page_run run;
	int r;

	r = pages_open(ctx->store, &image_pagemap, p->pst->pid, &own);
	if (r < 0)
		return log_err(r, "process %u: no saved memory", p->pst->pid);
	if (p->mem_from) {
		r = pages_open(ctx->store, &image_pagemap, p->mem_from->pst->pid, &theirs);
		if (r < 0)
			return r;
		cursor.reader = theirs;
		cursor.state = pages_next(theirs, &cursor.run);
		if (cursor.state < 0)
			return cursor.state;
	}
	while ((r = pages_next(own, &run)) > 0) {
		if (!run.data)
			return log_fail(-EOPNOTSUPP, "pagemap-%u.img: page at 0x%lx has no contents (lazy dump)",
					p->pst->pid, run.vaddr);
		r = fill_run(ctx, p, &run, &cursor);
		if (r < 0)
			return r;
	}
	return r;
}

/* Pages the parent has and the child has not: the child discarded them after the fork. */
static int drop_parents_pages(struct restore_ctx *ctx, struct restore_process *p, struct batch *b)
{
	_cleanup_pages_ struct pages_reader *own = NULL, *theirs = NULL;
	struct page_cursor mine = { 0 };
	struct page_run run;
	int r;

	r = pages_open(ctx->store, &image_pagemap, p->pst->pid, &own);
	if (r >= 0)
		r = pages_open(ctx->store, &image_pagemap, p->mem_from->pst->pid, &theirs);
	if (r < 0)
		return r;
	mine.reader = own;
	mine.state = pages_next(own, &mine.run);
	while ((r = pages_next(theirs, &run)) > 0) {
		for (uint64_t i = 0; i < run.n_pages; i++) {
			uint64_t addr = run.vaddr + i * PAGE_BYTES;
			const VmaEntry *e = entry_at(p->mm, addr);
			const uint8_t *have;

			r = cursor_at(&mine, addr, &have);
			if (r < 0)
				return r;
			/* A huge page is there, or not, as a whole. */
			if (have || !e || !area_inherited(p, e) || addr % vma_entry_page_bytes(e))
				continue;
			r = batch_make_room(b, 1, 0);
			if (r < 0)
				return r;
			batch_call(b, SYS_madvise, addr, vma_entry_page_bytes(e), MADV_DONTNEED);
		}
	}
	return r;
}

/* The saved vDSO's entry points, patched in the task's plain-memory copy. */
static int patch_vdso(struct restore_ctx *ctx, struct restore_process *p, const struct vdso_plan *v)
{
	size_t bytes;
	uint8_t *copy;
	int r;

	if (!v->vdso || v->equal)
		return 0;
	bytes = vdso_bytes(v->saved);
	copy = arena_alloc(&ctx->arena, bytes);
	if (!copy)
		return -ENOMEM;
	r = pread_full(p->remote->mem_fd, copy, bytes, (off_t)v->vdso->start);
	if (r >= 0)
		r = vdso_patch(copy, v->saved, v->vdso->start, v->own, v->own_at);
	if (r >= 0)
		r = pwrite_full(p->remote->mem_fd, copy, bytes, (off_t)v->vdso->start);
	log_info("process %u: the saved vDSO at 0x%lx leads to the kernel's at 0x%lx", p->pst->pid,
		 v->vdso->start, v->own_at);
	return r < 0 ? log_err(r, "process %u: cannot patch its vDSO", p->pst->pid) : 0;
}

static int set_mm_map(struct restore_ctx *ctx, struct restore_process *p, struct batch *b)
{
	const MmEntry *mm = p->mm;
	struct prctl_mm_map map = {
		.start_code = mm->mm_start_code,	.end_code = mm->mm_end_code,
		.start_data = mm->mm_start_data,	.end_data = mm->mm_end_data,
		.start_brk = mm->mm_start_brk,		.brk = mm->mm_brk,
		.start_stack = mm->mm_start_stack,	.arg_start = mm->mm_arg_start,
		.arg_end = mm->mm_arg_end,		.env_start = mm->mm_env_start,
		.env_end = mm->mm_env_end,		.exe_fd = (uint32_t)-1,
	};
	/* A child that still maps its parent's executable may not set it again (EBUSY). */
	bool set_exe = !p->mem_from || p->mem_from->mm->exe_file_id != mm->exe_file_id;
	int fd, r;

	r = batch_make_room(b, 4, 8192);
	if (r < 0)
		return r;
	map.auxv = (void *)batch_put(b, mm->mm_saved_auxv, mm->n_mm_saved_auxv * 8);
	map.auxv_size = (uint32_t)(mm->n_mm_saved_auxv * 8);
	if (set_exe) {
		r = restore_file_get(ctx, mm->exe_file_id, &fd);
		if (r < 0)
			return r;
		batch_call(b, SYS_pidfd_getfd, ctx->pidfd_t_fd, fd, 0);
		map.exe_fd = 0;
	}
	batch_call(b, SYS_prctl, PR_SET_MM, PR_SET_MM_MAP, batch_put(b, &map, sizeof(map)),
		   sizeof(map), 0);
	if (set_exe)
		batch_call(b, SYS_close, 0);
	return 0;
}

int mem_restore(struct restore_ctx *ctx, struct restore_process *p)
{
	struct batch *b = &ctx->batch;
	struct vdso_plan v;
	int r;

	r = vdso_plan(ctx, p, &v);
	if (r < 0)
		return r;
	batch_begin(b, &p->threads[0].task);
	r = p->mem_from ? unmap_foreign(p, b, &v) : seed_clear(p, b);
	if (r >= 0)
		r = place_vdso(p, b, &v);
	if (r >= 0)
		r = pkeys_restore(p, b);
	if (r >= 0)
		r = map_all(ctx, p, b, &v);
	if (r >= 0 && p->mem_from)
		r = drop_parents_pages(ctx, p, b);
	if (r >= 0)
		r = batch_run(b);
	if (r >= 0)
		r = fill_all(ctx, p);
	if (r >= 0)
		r = patch_vdso(ctx, p, &v);
	if (r < 0)
		return r;
	batch_begin(b, &p->threads[0].task);
	r = set_mm_map(ctx, p, b);
	return r < 0 ? r : batch_run(b);
}
