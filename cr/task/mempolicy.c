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
#include "task/posix_timers.h"
#include "task/vma.h"

#ifndef MPOL_F_NUMA_BALANCING
#define MPOL_F_NUMA_BALANCING	(1 << 13)
#endif
#define MODE_FLAGS	(MPOL_F_STATIC_NODES | MPOL_F_RELATIVE_NODES | MPOL_F_NUMA_BALANCING)
#define MODE_LAST	15u	/* more than there are (6: weighted interleave) */
#define NODE_WORDS	16u
#define NODE_BITS	(NODE_WORDS * 64)
#define AREAS_A_BATCH	2000u
#define AREAS_AT_FIRST	700u	/* with what else the first thread is asked */
#define OTHER_CALLS	256u	/* half of them would do */

_Static_assert(AREAS_AT_FIRST + POSIX_TIMERS_DUMP_MAX * POSIX_TIMER_CALLS + OTHER_CALLS <= BATCH_CALLS_MAX,
	       "one batch asks for all of it");

/* What get_mempolicy() fills in the task. */
struct answer {
	int32_t mode, pad;
	uint64_t nodes[NODE_WORDS];
};

struct question {
	uint64_t t_answer;
	int call;
};

static struct question ask(struct batch *b, uint64_t t_addr, unsigned long flags)
{
	uint64_t t_answer = batch_put(b, NULL, sizeof(struct answer));

	return (struct question){
		t_answer, batch_try(b, SYS_get_mempolicy, t_answer,
				    t_answer + offsetof(struct answer, nodes), NODE_BITS, t_addr, flags),
	};
}

/* NULL: the default, or the kernel knows no nodes. */
static int answered(struct dump_ctx *ctx, struct batch *b, struct question q, MempolicyEntry **ret)
{
	const struct answer *a = batch_data(b, q.t_answer);
	MempolicyEntry *e;

	*ret = NULL;
	if (batch_ret(b, q.call) < 0 || a->mode == MPOL_DEFAULT)
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

static void ask_areas(struct batch *b, const struct vma *v, size_t n, struct question *ret)
{
	for (size_t i = 0; i < n; i++)
		ret[i] = ask(b, v[i].start, MPOL_F_ADDR);
}

static int areas_answered(struct dump_ctx *ctx, struct batch *b, const struct question *q,
			  struct vma *v, size_t n)
{
	int r = 0;

	for (size_t i = 0; i < n && r >= 0; i++)
		r = answered(ctx, b, q[i], &v[i].policy);
	return r;
}

int mempolicy_dump_areas(struct dump_ctx *ctx, struct dump_process *p)
{
	static struct batch b;
	struct question q[AREAS_A_BATCH];
	int r;

	for (size_t i = AREAS_AT_FIRST; i < p->n_vmas; i += AREAS_A_BATCH) {
		size_t n = MIN(p->n_vmas - i, (size_t)AREAS_A_BATCH);

		batch_begin(&b, &p->threads[0].task);
		ask_areas(&b, &p->vmas[i], n, q);
		r = batch_run(&b);
		if (r >= 0)
			r = areas_answered(ctx, &b, q, &p->vmas[i], n);
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
	struct question own;
	size_t n_areas;
	struct question areas[];
};

/* A batch is a stop of the task: a program's usual number of areas needs none of its own. */
static int mempolicy_dump_calls(struct dump_ctx *ctx, struct dump_process *p,
				struct dump_thread *th, struct batch *b, void **cookie)
{
	size_t n = th == &p->threads[0] ? MIN(p->n_vmas, (size_t)AREAS_AT_FIRST) : 0;
	struct mempolicy_cookie *c = arena_alloc(&ctx->arena, sizeof(*c) + n * sizeof(*c->areas));

	if (!c)
		return -ENOMEM;
	c->own = ask(b, 0, 0);
	c->n_areas = n;
	ask_areas(b, p->vmas, n, c->areas);
	*cookie = c;
	return 0;
}

static int mempolicy_dump_results(struct dump_ctx *ctx, struct dump_process *p,
				  struct dump_thread *th, struct batch *b, void *cookie)
{
	const struct mempolicy_cookie *c = cookie;
	ThreadCoreEntry *tc = part_thread_core(ctx, th);
	int r = tc ? answered(ctx, b, c->own, &tc->policy) : -ENOMEM;

	return r < 0 ? r : areas_answered(ctx, b, c->areas, p->vmas, c->n_areas);
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
