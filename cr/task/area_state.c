/*
 * What goes onto an area only when its contents are in place and all children are cloned: guard
 * pages, the protection of read-only huge pages, mlock(2), PR_SET_VMA_ANON_NAME, mergeability,
 * mseal(2), in this order. Guard pages cannot be put into locked memory, and nothing can be done to
 * sealed memory.
 *
 * And mlockall(MCL_FUTURE), which no file of /proc shows: the call zone of the dump itself is
 * locked where it is in force, and its pages are there at once but for MCL_ONFAULT.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "task/parts.h"
#include "task/vma.h"

#ifndef PR_SET_MEMORY_MERGE
#define PR_SET_MEMORY_MERGE 67
#endif
#ifndef MCL_ONFAULT
#define MCL_ONFAULT 4
#endif
#define MLOCK_ON_FAULT	1	/* mlock2(2) */
#define NR_MSEAL	462
#define NAME_MAX_BYTES	80u	/* the kernel's ANON_VMA_NAME_MAX_LEN, with the end */

static bool is_the_kernels(const VmaEntry *e)
{
	return e->status & (VMA_VVAR | VMA_VSYSCALL | VMA_VDSO | VMA_AIORING);
}

/* mlock() brings all pages in, fails at a guard page, and has locked the area nevertheless. */
static void lock_call(const struct restore_process *p, const VmaEntry *e, struct batch *b)
{
	uint64_t bytes = e->end - e->start, how = e->lock_on_fault ? MLOCK_ON_FAULT : 0;

	if (guards_are_in(p, e->start, e->end))
		batch_try(b, SYS_mlock2, e->start, bytes, how);
	else
		batch_call(b, SYS_mlock2, e->start, bytes, how);
}

static int area_calls(const struct restore_process *p, const VmaEntry *e, struct batch *b)
{
	bool mergeable = e->has_madv && e->madv >> MADV_MERGEABLE & 1;
	int r = batch_make_room(b, 5, NAME_MAX_BYTES);

	if (r < 0)
		return r;
	if (vma_entry_waits_for_prot(e))
		batch_call(b, SYS_mprotect, e->start, e->end - e->start, e->prot);
	if (e->flags & MAP_LOCKED)
		lock_call(p, e, b);
	if (e->name && strlen(e->name) >= NAME_MAX_BYTES)
		return part_bad("mm-%u.img: name of the area at 0x%lx is too long", p->pst->pid, e->start);
	/* For the reader of /proc only, and not every kernel has it. */
	if (e->name)
		batch_try(b, SYS_prctl, PR_SET_VMA, PR_SET_VMA_ANON_NAME, e->start, e->end - e->start,
			  batch_str(b, e->name));
	if (p->mm->memory_merge && !mergeable && e->flags & MAP_PRIVATE)
		batch_try(b, SYS_madvise, e->start, e->end - e->start, MADV_UNMERGEABLE);
	if (e->sealed)
		batch_call(b, NR_MSEAL, e->start, e->end - e->start, 0);
	return 0;
}

static int area_state_restore_calls(struct restore_ctx *ctx _unused_, struct restore_process *p,
				    struct restore_thread *th _unused_, struct batch *b)
{
	int r;

	if (!p->mm)
		return 0;
	r = guards_restore(p, b);
	if (p->mm->memory_merge)
		batch_call(b, SYS_prctl, PR_SET_MEMORY_MERGE, 1, 0, 0, 0);
	for (size_t i = 0; i < p->mm->n_vmas && r >= 0; i++)
		if (!is_the_kernels(p->mm->vmas[i]))
			r = area_calls(p, p->mm->vmas[i], b);
	return r;
}

const struct task_part part_area_state = {
	.name		= "state of memory areas",
	.leader_only	= true,
	.stage		= STAGE_STATE,
	.restore_calls	= area_state_restore_calls,
};

static int locked_kib(struct dump_process *p, uint64_t *ret)
{
	_cleanup_free_ char *text = NULL;
	const char *line;
	int r = read_file_at(p->proc_fd, "status", READ_FILE_MAX, &text, NULL);

	if (r < 0)
		return log_err(r, "cannot read /proc/%d/status", p->pid);
	line = strstr(text, "\nVmLck:");
	*ret = line ? strtoull(line + 7, NULL, 10) : 0;
	return 0;
}

/* Nothing has touched the last page but one of the call zone. */
static int zone_is_populated(struct dump_process *p, bool *ret)
{
	_cleanup_close_ int fd = openat(p->proc_fd, "pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t bits, page = (p->remote.zone + ZONE_BYTES) / PAGE_BYTES - 2;
	int r = fd < 0 ? neg_errno() : pread_full(fd, &bits, sizeof(bits), (off_t)(page * 8));

	if (r < 0)
		return log_err(r, "cannot read /proc/%d/pagemap", p->pid);
	*ret = bits >> 63;
	return 0;
}

/* No calls of its own: the zone is there. */
static int lock_future_dump_calls(struct dump_ctx *ctx _unused_, struct dump_process *p _unused_,
				  struct dump_thread *th _unused_, struct batch *b _unused_,
				  void **cookie _unused_)
{
	return 0;
}

static int lock_future_dump_results(struct dump_ctx *ctx, struct dump_process *p,
				    struct dump_thread *th, struct batch *b _unused_,
				    void *cookie _unused_)
{
	MmEntry *mm = part_mm(ctx, p);
	uint64_t now;
	bool populated;
	int r = locked_kib(p, &now);

	/* Its status is from before the zone was mapped. */
	if (r < 0 || !mm || now < th->status->locked_kib + ZONE_BYTES / 1024)
		return mm ? r : -ENOMEM;
	r = zone_is_populated(p, &populated);
	mm->has_lock_future = true;
	mm->lock_future = MCL_FUTURE | (populated ? 0 : MCL_ONFAULT);
	return r;
}

static int lock_future_restore_calls(struct restore_ctx *ctx _unused_, struct restore_process *p,
				     struct restore_thread *th _unused_, struct batch *b)
{
	if (!p->mm || !p->mm->lock_future)
		return 0;
	if (p->mm->lock_future & ~(uint32_t)(MCL_FUTURE | MCL_ONFAULT))
		return part_bad("mm-%u.img: mlockall(0x%x)", p->pst->pid, p->mm->lock_future);
	batch_call(b, SYS_mlockall, p->mm->lock_future);
	return 0;
}

/* Late: nothing that the engine maps shall be locked. */
const struct task_part part_lock_future = {
	.name		= "mlockall",
	.leader_only	= true,
	.stage		= STAGE_LATE,
	.dump_calls	= lock_future_dump_calls,
	.dump_results	= lock_future_dump_results,
	.restore_calls	= lock_future_restore_calls,
};
