/*
 * What the processor does for a process only because that has asked for it (arch_prctl(2)): matrix registers (AMX,
 * ARCH_REQ_XCOMP_PERM), tags in addresses (LAM, ARCH_ENABLE_TAGGED_ADDR). Nothing is saved: who has asked is refused by
 * name, used at the moment or not, for without the permission its next use would end it.
 */
#include <sys/syscall.h>

#include "task/parts.h"

#define ARCH_GET_XCOMP_PERM	0x1022	/* Linux 5.16 */
#define ARCH_GET_UNTAG_MASK	0x4001	/* Linux 6.4 */
#define XFEATURE_XTILE_DATA	18

struct xfeatures_cookie {
	uint64_t t_permitted, t_untag;
	int permitted, untag;
};

int xfeatures_check(pid_t pid, uint64_t permitted, uint64_t untag_mask)
{
	if (permitted >> XFEATURE_XTILE_DATA & 1)
		return log_obstacle("do not choose the service, or have it run without AMX",
				    "process %d has asked for AMX (ARCH_REQ_XCOMP_PERM)", pid);
	if (untag_mask != ~0ull)
		return log_obstacle("do not choose the service, or have it run without tags",
				    "process %d has tags in addresses (ARCH_ENABLE_TAGGED_ADDR, LAM)", pid);
	return 0;
}

static int xfeatures_dump_calls(struct dump_ctx *ctx, struct dump_process *p _unused_,
				struct dump_thread *th _unused_, struct batch *b, void **cookie)
{
	struct xfeatures_cookie *c = ARENA_NEW(&ctx->arena, struct xfeatures_cookie);

	if (!c)
		return -ENOMEM;
	c->t_permitted = batch_put(b, NULL, 8);
	c->t_untag = batch_put(b, NULL, 8);
	c->permitted = batch_try(b, SYS_arch_prctl, ARCH_GET_XCOMP_PERM, c->t_permitted);
	c->untag = batch_try(b, SYS_arch_prctl, ARCH_GET_UNTAG_MASK, c->t_untag);
	*cookie = c;
	return 0;
}

static int xfeatures_dump_results(struct dump_ctx *ctx _unused_, struct dump_process *p,
				  struct dump_thread *th _unused_, struct batch *b, void *cookie)
{
	const struct xfeatures_cookie *c = cookie;
	const uint64_t *permitted = batch_data(b, c->t_permitted), *untag = batch_data(b, c->t_untag);

	return xfeatures_check(p->pid, batch_ret(b, c->permitted) ? 0 : *permitted,
			       batch_ret(b, c->untag) ? ~0ull : *untag);
}

const struct task_part part_xfeatures = {
	.name		= "processor features on request",
	.leader_only	= true,
	.stage		= STAGE_STATE,
	.dump_calls	= xfeatures_dump_calls,
	.dump_results	= xfeatures_dump_results,
};
