/* Contents and layout of a process's memory. */
#ifndef CR_TASK_MEM_H
#define CR_TASK_MEM_H

#include "core/dump.h"
#include "core/restore.h"

/* Private pages of p → pagemap-P.img, pages-N.img. The zone is not among p->vmas. */
int mem_dump(struct dump_ctx *ctx, struct dump_process *p) _must_check_;
/* mm-P.img's fields beside the areas: brk, argument and environment ranges, auxv, exe. */
int mm_dump(struct dump_ctx *ctx, struct dump_process *p) _must_check_;

/* Checks areas and addresses of the image against each other, before anything is made. */
int mem_check(const struct restore_process *p) _must_check_;
/*
 * An address where ZONE_BYTES (and behind them spare_bytes) are free in every process of the
 * images and in the engine.
 */
int mem_find_free(struct restore_ctx *ctx, size_t spare_bytes, uint64_t *ret) _must_check_;
/*
 * The areas of p into its task: a seed (only the zone matters, the rest is unmapped) or a fresh
 * clone of p->mem_from, whose equal areas and pages stay shared. Ends with PR_SET_MM_MAP. Sets
 * p->vdso_at and p->remote->syscall_insn.
 */
int mem_restore(struct restore_ctx *ctx, struct restore_process *p) _must_check_;
/*
 * When those who began with p's memory have theirs too: punches what was used out of the page
 * images, if opts->auto_dedup, and closes them. mem_restore_done() only closes.
 */
void mem_restore_used(struct restore_ctx *ctx, struct restore_process *p);
void mem_restore_done(struct restore_process *p);

/*
 * place.c. Mappings whose address only the kernel may choose, at the saved address: it is left no
 * choice. Their places are taken by something else so far.
 */
int place_areas(struct restore_ctx *ctx, struct restore_process *p, const VmaEntry **areas,
		size_t n) _must_check_;

#endif
