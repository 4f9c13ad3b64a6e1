/* Inner interface of the restoring side: mem_restore.c, mem_areas.c, mem_contents.c. */
#ifndef CR_TASK_MEM_RESTORE_H
#define CR_TASK_MEM_RESTORE_H

#include "core/restore.h"
#include "task/vma.h"

static inline bool area_is_kernels(const VmaEntry *e)
{
	return e->status & (VMA_VVAR | VMA_VSYSCALL);
}

static inline bool area_is_vdso(const VmaEntry *e)
{
	return e->status & VMA_VDSO;
}

/* mem_areas.c. The area of p->mem_from equal to e that the clone has brought along, or NULL. */
const VmaEntry *area_inherited(const struct restore_process *p, const VmaEntry *e);
/* What the clone brought and the child does not have; what it has. A kept vDSO is left alone. */
int areas_unmap_foreign(struct restore_process *p, struct batch *b, bool keep_vdso) _must_check_;
int areas_map(struct restore_ctx *ctx, struct restore_process *p, struct batch *b, bool keep_vdso)
	_must_check_;

/* mem_contents.c. Calls that drop the pages which the parent has and the child has not. */
int contents_drop(struct restore_process *p, struct batch *b) _must_check_;
/* The saved pages, but for those that the clone has from its parent. */
int contents_fill(struct restore_ctx *ctx, struct restore_process *p) _must_check_;

#endif
