/*
 * NUMA memory policy, of areas (mbind(2)) and of threads (set_mempolicy(2)).
 *
 *   dump     get_mempolicy() in the task, for each area with MPOL_F_ADDR: "default" where the area
 *            has none of its own
 *   restore  mbind() before the contents come, so that they land where they belong;
 *            set_mempolicy() in each thread
 *
 * A machine without these nodes runs the program as well, only slower: then there is a warning.
 * The home node (set_mempolicy_home_node(2)) cannot be read.
 */
#include <linux/mempolicy.h>
#include <string.h>
#include <sys/syscall.h>

#include "task/parts.h"
#include "task/vma.h"

#ifndef MPOL_F_NUMA_BALANCING
#define MPOL_F_NUMA_BALANCING	(1 << 13)
#endif
#define MODE_FLAGS	(MPOL_F_STATIC_NODES | MPOL_F_RELATIVE_NODES | MPOL_F_NUMA_BALANCING)
#define MODE_LAST	15u	/* more than there are (6: weighted interleave) */
#define NODE_WORDS	16u
#define NODE_BITS	(NODE_WORDS * 64)
#define AREAS_A_BATCH	2000u

/* What get_mempolicy() fills in the task. */
struct answer {
	int32_t mode, pad;
	uint64_t nodes[NODE_WORDS];
};

static int ask(struct batch *b, uint64_t *t_answer, uint64_t t_addr, unsigned long flags)
{
	*t_answer = batch_put(b, NULL, sizeof(struct answer));
	return batch_try(b, SYS_get_mempolicy, *t_answer, *t_answer + offsetof(struct answer, nodes),
			 NODE_BITS, t_addr, flags);
}

/* NULL: the default, or the kernel knows no nodes. */
static int answered(struct dump_ctx *ctx, struct batch *b, int call, uint64_t t_answer,
		    MempolicyEntry **ret)
{
	const struct answer *a = batch_data(b, t_answer);
	MempolicyEntry *e;

	*ret = NULL;
	if (batch_ret(b, call) < 0 || a->mode == MPOL_DEFAULT)
		return 0;
	e = ARENA_MSG(&ctx->arena, MempolicyEntry, mempolicy_entry);
	if (!e)
		return -ENOMEM;
	e->mode = (uint32_t)a->mode;
	e->n_nodes = NODE_WORDS;
	while (e->n_nodes && !a->nodes[e->n_nodes - 1])
		e->n_nodes--;
	e->nodes = arena_memdup(&ctx->arena, a->nodes, MAX(e->n_nodes, (size_t)1) * sizeof(uint64_t));
	*ret = e;
	return e->nodes ? 0 : -ENOMEM;
}

int mempolicy_dump_areas(struct dump_ctx *ctx, struct dump_process *p)
{
	static struct batch b;
	uint64_t t_answers[AREAS_A_BATCH];
	int calls[AREAS_A_BATCH], r;

	for (size_t i = 0; i < p->n_vmas; i += AREAS_A_BATCH) {
		size_t n = MIN(p->n_vmas - i, (size_t)AREAS_A_BATCH);

		batch_begin(&b, &p->threads[0].task);
		for (size_t k = 0; k < n; k++)
			calls[k] = ask(&b, &t_answers[k], p->vmas[i + k].start, MPOL_F_ADDR);
		r = batch_run(&b);
		for (size_t k = 0; k < n && r >= 0; k++)
			r = answered(ctx, &b, calls[k], t_answers[k], &p->vmas[i + k].policy);
		if (r < 0)
			return log_err(r, "cannot read the memory policies");
	}
	return 0;
}

int mempolicy_check(const MempolicyEntry *e)
{
	if ((e->mode & ~(uint32_t)MODE_FLAGS) > MODE_LAST || e->n_nodes > NODE_WORDS)
		return part_bad("memory policy 0x%x of %zu words of nodes", e->mode, e->n_nodes);
	return 0;
}

bool mempolicy_equal(const MempolicyEntry *a, const MempolicyEntry *b)
{
	if (!a || !b)
		return a == b;
	return a->mode == b->mode && a->n_nodes == b->n_nodes &&
	       !memcmp(a->nodes, b->nodes, a->n_nodes * sizeof(uint64_t));
}

/* The kernel takes one bit less than it is told. */
static uint64_t put_nodes(struct batch *b, const MempolicyEntry *e, uint64_t *ret_bits)
{
	*ret_bits = e->n_nodes ? e->n_nodes * 64 + 1 : 0;
	return e->n_nodes ? batch_put(b, e->nodes, e->n_nodes * sizeof(uint64_t)) : 0;
}

int mempolicy_bind_call(struct batch *b, const VmaEntry *v)
{
	uint64_t bits, t_nodes = put_nodes(b, v->policy, &bits);

	return batch_try(b, SYS_mbind, v->start, v->end - v->start, v->policy->mode, t_nodes, bits, 0);
}

struct mempolicy_cookie {
	uint64_t t_answer;
	int call;
};

static int mempolicy_dump_calls(struct dump_ctx *ctx, struct dump_process *p _unused_,
				struct dump_thread *th _unused_, struct batch *b, void **cookie)
{
	struct mempolicy_cookie *c = ARENA_NEW(&ctx->arena, struct mempolicy_cookie);

	if (!c)
		return -ENOMEM;
	c->call = ask(b, &c->t_answer, 0, 0);
	*cookie = c;
	return 0;
}

static int mempolicy_dump_results(struct dump_ctx *ctx, struct dump_process *p _unused_,
				  struct dump_thread *th, struct batch *b, void *cookie)
{
	struct mempolicy_cookie *c = cookie;
	ThreadCoreEntry *tc = part_thread_core(ctx, th);

	return tc ? answered(ctx, b, c->call, c->t_answer, &tc->policy) : -ENOMEM;
}

static int mempolicy_restore_calls(struct restore_ctx *ctx _unused_,
				   struct restore_process *p _unused_, struct restore_thread *th,
				   struct batch *b)
{
	const ThreadCoreEntry *tc = th->core->thread_core;
	uint64_t bits, t_nodes;
	int call, r;

	if (!tc || !tc->policy)
		return 0;
	r = mempolicy_check(tc->policy);
	if (r < 0)
		return r;
	t_nodes = put_nodes(b, tc->policy, &bits);
	call = batch_try(b, SYS_set_mempolicy, tc->policy->mode, t_nodes, bits);
	r = batch_run(b);
	if (r >= 0 && batch_ret(b, call) < 0)
		log_warn("memory policy 0x%x cannot be had here: %s", tc->policy->mode,
			 strerror((int)-batch_ret(b, call)));
	batch_begin(b, &th->task);
	return r;
}

const struct task_part part_mempolicy = {
	.name		= "memory policy",
	.stage		= STAGE_STATE,
	.dump_calls	= mempolicy_dump_calls,
	.dump_results	= mempolicy_dump_results,
	.restore_calls	= mempolicy_restore_calls,
};
