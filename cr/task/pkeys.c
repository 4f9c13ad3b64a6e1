/*
 * Protection keys (pkey_alloc(2)): which of the fifteen are allocated. What an area's key is stands
 * in smaps; a thread's rights are registers (regs_x86.c).
 *
 *   dump     pkey_mprotect() of a page of the call zone takes an allocated key and no other
 *   restore  before anything is mapped: all are allocated, then those the image has not are freed.
 *            The kernel takes one for execute-only memory by itself, which must be none of them.
 */
#include <sys/mman.h>
#include <sys/syscall.h>

#include "task/parts.h"
#include "task/regs.h"
#include "task/vma.h"

#define PKEYS 16

struct pkeys_cookie {
	int call[PKEYS];
};

static int pkeys_dump_calls(struct dump_ctx *ctx, struct dump_process *p,
			    struct dump_thread *th _unused_, struct batch *b, void **cookie)
{
	struct pkeys_cookie *c = ARENA_NEW(&ctx->arena, struct pkeys_cookie);
	uint64_t t_page = p->remote.zone + ZONE_BYTES - PAGE_BYTES;

	if (!c)
		return -ENOMEM;
	for (unsigned int key = 1; key < PKEYS; key++)
		c->call[key] = batch_try(b, SYS_pkey_mprotect, t_page, PAGE_BYTES,
					 PROT_READ | PROT_WRITE, key);
	batch_try(b, SYS_pkey_mprotect, t_page, PAGE_BYTES, PROT_READ | PROT_WRITE, 0);
	*cookie = c;
	return 0;
}

static int pkeys_dump_results(struct dump_ctx *ctx, struct dump_process *p,
			      struct dump_thread *th _unused_, struct batch *b, void *cookie)
{
	const struct pkeys_cookie *c = cookie;
	MmEntry *mm = part_mm(ctx, p);

	if (!mm)
		return -ENOMEM;
	for (unsigned int key = 1; key < PKEYS; key++)
		if (!batch_ret(b, c->call[key]))
			mm->pkeys |= 1u << key;
	mm->has_pkeys = mm->pkeys != 0;
	return 0;
}

const struct task_part part_pkeys = {
	.name		= "protection keys",
	.leader_only	= true,
	.stage		= STAGE_STATE,
	.dump_calls	= pkeys_dump_calls,
	.dump_results	= pkeys_dump_results,
};

int pkeys_check(const struct restore_process *p, uint64_t xstate)
{
	uint32_t want = p->mm->pkeys;

	if (want & ~(uint32_t)0xfffe)
		return part_bad("mm-%u.img: protection keys 0x%x", p->pst->pid, want);
	if (want && !(xstate & XSTATE_PKRU))
		return log_fail(-EOPNOTSUPP, "it uses protection keys, which this processor has not, or this "
				"kernel does not use (nopku)");
	return 0;
}

int pkeys_restore(struct restore_process *p, struct batch *b)
{
	uint32_t want = p->mm->pkeys, cloned = p->mem_from ? p->mem_from->mm->pkeys : 0;
	int r;

	if (want == cloned)
		return 0;
	r = batch_make_room(b, 2 * PKEYS, 0);
	if (r < 0)
		return r;
	for (unsigned int key = 1; key < PKEYS; key++)
		batch_try(b, SYS_pkey_alloc, 0, 0);
	for (unsigned int key = 1; key < PKEYS; key++)
		if (!(want >> key & 1))
			batch_try(b, SYS_pkey_free, key);
	return 0;
}

bool pkeys_area_has_own(const MmEntry *mm, const VmaEntry *e)
{
	return e->pkey && e->pkey < PKEYS && mm->pkeys >> e->pkey & 1;
}
