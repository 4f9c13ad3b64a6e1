/*
 * Memory, restoring side.
 *
 * A seed's memory is unmapped but for the zone, then the areas are mapped at their final
 * addresses with their final protection, and the pages written through /proc/PID/mem, which
 * may write to private memory whatever its protection.
 *
 * A child is cloned from its parent (seldom another: core/lineage.h) after the parent's memory is
 * in place. Areas both have stay as they are; see mem_contents.c for their pages.
 */
#include <fcntl.h>
#include <linux/prctl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "core/files.h"
#include "kernel/features.h"
#include "task/mem.h"
#include "task/mem_restore.h"
#include "task/parts.h"
#include "task/regs.h"
#include "task/vma.h"

#define MMAP_MIN		0x10000ull
#define ARCH_MAP_VDSO_64	0x2003
#define SEARCH_STEP		(16ull << 20)

int mem_check(const struct restore_process *p)
{
	const uint32_t unsupported = VMA_SOCKET | VMA_SHSTK | VMA_GUARD;
	uint64_t end = 0;
	int r;

	for (size_t i = 0; i < p->mm->n_vmas; i++) {
		const VmaEntry *e = p->mm->vmas[i];
		bool vsyscall = e->status & VMA_VSYSCALL;

		/* That page is the kernel's own, behind all others. */
		if (e->start < (vsyscall ? TASK_END_MAX : MMAP_MIN) || e->start >= e->end ||
		    (!vsyscall && e->end > TASK_END_MAX) ||
		    e->start < end || (e->start | e->end | e->pgoff) & (PAGE_BYTES - 1) ||
		    (e->start | e->end) & (vma_entry_page_bytes(e) - 1))
			return log_fail(-EBADMSG, "mm-%u.img: malformed area 0x%lx-0x%lx",
					p->pst->pid, e->start, e->end);
		end = e->end;
		if (vsyscall)
			continue;
		if (e->end > TASK_END && !kernel_has_high_memory())
			return log_fail(-EOPNOTSUPP, "area 0x%lx-0x%lx lies above 47 bits: that takes a "
					"processor with 57-bit addresses (la57), and a kernel that uses "
					"them (CONFIG_X86_5LEVEL, not no5lvl on its command line)",
					e->start, e->end);
		if (e->status & unsupported ||
		    !(e->status & VMA_ANON_SHARED) != !(e->status & VMA_SYSVIPC))
			return log_fail(-EOPNOTSUPP, "area 0x%lx-0x%lx of status 0x%x cannot be restored",
					e->start, e->end, e->status);
		if (e->status & VMA_EXT && (!e->shmid || e->shmid > UINT32_MAX ||
					    e->status != (VMA_REGULAR | VMA_EXT)))
			return log_fail(-EBADMSG, "mm-%u.img: ring 0x%lx-0x%lx without a file",
					p->pst->pid, e->start, e->end);
		if (e->policy && mempolicy_check(e->policy) < 0)
			return -EBADMSG;
	}
	if (p->mm->n_mm_saved_auxv > 512)
		return log_fail(-EBADMSG, "mm-%u.img: auxv of %zu words", p->pst->pid,
				p->mm->n_mm_saved_auxv);
	r = auxv_check(p->mm);
	if (r >= 0)
		r = pkeys_check(p, xstate_here());
	return r < 0 ? r : aio_check(p);
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
			if (area_is_vdso(ctx->procs[k].mm->vmas[i]))
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
	uint8_t *copy;
	size_t bytes;
	int r;

	*v = (struct vdso_plan){ 0 };
	for (size_t i = 0; i < p->mm->n_vmas; i++) {
		const VmaEntry *e = p->mm->vmas[i];

		if (area_is_vdso(e))
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
	for (size_t at = 0; at < bytes;) {
		struct page_run run;

		r = pages_at(p->pages, v->vdso->start + at, (bytes - at) / PAGE_BYTES, &run);
		if (r < 0)
			return r;
		if (r && run.data)
			memcpy(copy + at, run.data, run.n_pages * PAGE_BYTES);
		at += run.n_pages * PAGE_BYTES;
	}
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

/* Rings that the clone has not brought along. */
static int place_rings(struct restore_ctx *ctx, struct restore_process *p)
{
	const VmaEntry **rings = NULL;
	size_t n = 0;

	for (size_t i = 0; i < p->mm->n_vmas; i++) {
		const VmaEntry *e = p->mm->vmas[i], **at;

		if (!(e->status & VMA_EXT) || area_inherited(p, e))
			continue;
		at = ARENA_PUSH(&ctx->arena, rings, n);
		if (!at)
			return -ENOMEM;
		*at = e;
	}
	return n ? place_areas(ctx, p, rings, n) : 0;
}

int mem_restore(struct restore_ctx *ctx, struct restore_process *p)
{
	struct batch *b = &ctx->batch;
	struct vdso_plan v;
	int r;

	r = pages_open(ctx->store, &image_pagemap, p->pst->pid, &p->pages);
	if (r < 0)
		return log_err(r, "process %u: no saved memory", p->pst->pid);
	r = vdso_plan(ctx, p, &v);
	if (r < 0)
		return r;
	batch_begin(b, &p->threads[0].task);
	r = p->mem_from ? areas_unmap_foreign(p, b, v.equal) : seed_clear(p, b);
	if (r >= 0)
		r = place_vdso(p, b, &v);
	if (r >= 0)
		r = pkeys_restore(p, b);
	if (r >= 0)
		r = areas_map(ctx, p, b, v.equal);
	if (r >= 0 && p->mem_from)
		r = contents_drop(p, b);
	if (r >= 0)
		r = batch_run(b);
	if (r >= 0)
		r = place_rings(ctx, p);
	if (r >= 0)
		r = contents_fill(ctx, p);
	if (r >= 0)
		r = patch_vdso(ctx, p, &v);
	if (r < 0)
		return r;
	batch_begin(b, &p->threads[0].task);
	r = set_mm_map(ctx, p, b);
	return r < 0 ? r : batch_run(b);
}

/* All that was read: the images are used up. */
static void punch_used(struct pages_reader *pages)
{
	struct page_run run;
	uint64_t n = 0;
	int r;

	pages_rewind(pages);
	while ((r = pages_next(pages, &run)) > 0) {
		r = pages_punch(&run, &n);
		if (r < 0)
			break;
	}
	if (r < 0)
		log_warn("not all room of the page images could be given back");
}

void mem_restore_used(struct restore_ctx *ctx, struct restore_process *p)
{
	if (p->pages && ctx->opts->auto_dedup)
		punch_used(p->pages);
	mem_restore_done(p);
}

void mem_restore_done(struct restore_process *p)
{
	pages_closep(&p->pages);
	p->pages = NULL;
}
