/*
 * The areas of a restored process: mapped at their final addresses with their final protection,
 * or kept from the parent when it has them too.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "core/files.h"
#include "ns/ipc.h"
#include "task/mem_restore.h"
#include "task/parts.h"

static bool area_has_file(const VmaEntry *e)
{
	return e->shmid && (e->status & (VMA_FILE_PRIVATE | VMA_FILE_SHARED | VMA_MEMFD));
}

static uint64_t map_flags(const VmaEntry *e)
{
	uint64_t keep = MAP_SHARED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_NORESERVE | 0x08;

	/* Places are kept: an AIO ring's, with what it held, for aio.c, an io_uring's for place.c. */
	if (area_is_vdso(e) || e->status & (VMA_AIORING | VMA_EXT))
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
	uint32_t prot = e->prot | (vma_entry_waits_for_prot(e) ? PROT_WRITE : 0);
	uint64_t fd = (uint64_t)-1;
	int r;

	r = batch_make_room(m->b, 80, 0);
	if (r < 0)
		return r;
	if (area_has_file(e)) {
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
		batch_call(m->b, SYS_mmap, e->start, e->end - e->start, prot, map_flags(e), fd,
			   area_has_file(e) ? e->pgoff : 0);
	}
	if (pkeys_area_has_own(m->p->mm, e))
		batch_call(m->b, SYS_pkey_mprotect, e->start, e->end - e->start, prot, e->pkey);
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

const VmaEntry *area_inherited(const struct restore_process *p, const VmaEntry *e)
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

int areas_unmap_foreign(struct restore_process *p, struct batch *b, bool keep_vdso)
{
	for (size_t i = 0; i < p->mem_from->mm->n_vmas; i++) {
		const VmaEntry *e = p->mem_from->mm->vmas[i];
		bool found = false;
		int r;

		if (area_is_kernels(e) || (area_is_vdso(e) && keep_vdso))
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

int areas_map(struct restore_ctx *ctx, struct restore_process *p, struct batch *b, bool keep_vdso)
{
	struct mapper m = { .ctx = ctx, .p = p, .b = b };
	int r;

	for (size_t i = 0; i < p->mm->n_vmas; i++) {
		const VmaEntry *e = p->mm->vmas[i];

		if (area_is_kernels(e) || (area_is_vdso(e) && keep_vdso) || area_inherited(p, e))
			continue;
		r = map_area(&m, e);
		if (r < 0)
			return r;
	}
	r = batch_make_room(b, 1, 0);
	return r < 0 ? r : mapper_file(&m, 0, 0);
}
